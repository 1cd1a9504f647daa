"""How many requests one address may send: a bucket that fills slowly."""

import threading
import time
from collections.abc import Callable

_MOST_ADDRESSES = 10_000


class RateLimit:
    """Counts requests of each address; a minute's worth may come at once.

    Args:
        per_minute: requests; 0 does not count.
        clock: seconds, monotonic.
    """

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_minute, self._clock = per_minute, clock
        self._buckets: dict[str, tuple[float, float]] = {}  # what is left, and when that was so
        self._lock = threading.Lock()

    def wait_s(self, address: str) -> float:
        """Take one request of an address.

        Returns:
            0 where it may go on, else seconds until the next may; then it does not count.
        """
        if not self._per_minute:
            return 0.0
        pace = self._per_minute / 60
        with self._lock:
            now = self._clock()
            left, since = self._buckets.pop(address, (float(self._per_minute), now))
            left = min(self._per_minute, left + (now - since) * pace)
            allowed = left >= 1
            self._buckets[address] = (left - 1 if allowed else left, now)
            while len(self._buckets) > _MOST_ADDRESSES:
                del self._buckets[next(iter(self._buckets))]  # the one that was quiet longest
            return 0.0 if allowed else (1 - left) / pace
