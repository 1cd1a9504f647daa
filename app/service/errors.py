"""What the service refuses with."""

from musicgen_rl.errors import ResourceError


class QueueFullError(ResourceError):
    """No place is free in the queue; the message says when to come back."""

    def __init__(self, message: str, retry_s: float) -> None:
        super().__init__(message)
        self.retry_s = retry_s
        """Seconds after which a place should be free."""


class ServiceClosedError(ResourceError):
    """The service is shutting down."""
