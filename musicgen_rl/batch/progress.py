"""How far a run is, in one line."""

import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Status:
    """How far a run is."""

    total: int
    """Clips of the plan."""
    done: int
    """Clips finished, those of earlier runs among them."""
    failed: int
    """Clips that could not be made in this run."""
    audio_s: float
    """Seconds of audio finished."""
    made_audio_s: float
    """Of these, made by this run."""
    left_audio_s: float
    """Seconds of audio to make."""
    seconds: float
    """Time since this run began to work."""

    @property
    def rate(self) -> float:
        """Seconds of audio a second of this run."""
        return self.made_audio_s / self.seconds if self.seconds > 0 else 0.0

    @property
    def left_s(self) -> float | None:
        """Seconds until the end at this rate; None while nothing is made yet."""
        return self.left_audio_s / self.rate if self.rate > 0 else None

    def line(self) -> str:
        """Say it."""
        left = "" if self.left_s is None else f", {spell_seconds(self.left_s)} left"
        failed = f", {self.failed} failed" if self.failed else ""
        return (
            f"{self.done} of {self.total} clips, {spell_seconds(self.audio_s)} of audio{failed}, "
            f"{self.rate:.1f} x real time{left}"
        )


Report = Callable[[Status], None]


class EveryMinute:
    """Passes a status on when enough time has passed, and always the last one.

    Args:
        report: what to call.
        seconds: at least between two calls.
        clock: for tests.
    """

    def __init__(
        self, report: Report, seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._report, self._seconds, self._clock = report, seconds, clock
        self._last = clock()

    def __call__(self, status: Status) -> None:
        """Take a status."""
        now = self._clock()
        if status.left_audio_s <= 0 or now - self._last >= self._seconds:
            self._last = now
            self._report(status)


def spell_seconds(seconds: float) -> str:
    """Write a duration for people: 45 s, 12 min, 3.4 h."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 100 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
