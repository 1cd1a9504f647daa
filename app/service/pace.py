"""How long things take here: measured, and carried over to what comes next."""

import math


class Pace:
    """Seconds one decoding step takes, by rows side by side.

    A new measurement counts half: a machine that becomes busy is noticed after two or three jobs.
    """

    def __init__(self) -> None:
        self._measured: dict[int, float] = {}

    def note(self, rows: int, steps: int, seconds: float) -> None:
        """Take in a measurement.

        Args:
            rows: sequences decoded side by side.
            steps: decoding steps.
            seconds: all of them took.
        """
        if steps < 1 or seconds <= 0:
            return
        latest = seconds / steps
        before = self._measured.get(rows, latest)
        self._measured[rows] = (before + latest) / 2

    def seconds(self, rows: int, steps: int) -> float:
        """Estimate seconds for `steps` steps of `rows` rows; 0 while nothing is measured.

        Between measured row counts the time of a step is taken to grow linearly, beyond them in
        proportion, which is what it does at worst.
        """
        if not self._measured:
            return 0.0
        known = sorted(self._measured)
        low = max((n for n in known if n <= rows), default=None)
        high = min((n for n in known if n >= rows), default=None)
        if low is None:
            assert high is not None
            return self._measured[high] * steps
        if high is None:
            return self._measured[low] * rows / low * steps
        share = (rows - low) / (high - low) if high > low else 0.0
        return (self._measured[low] * (1 - share) + self._measured[high] * share) * steps


def in_words(seconds: float) -> str:
    """Say a time the way one person tells another: '8 s', '2 min'."""
    if seconds < 90:
        whole = max(1, math.ceil(seconds))
        return f"{whole if whole < 20 else 5 * math.ceil(whole / 5)} s"
    return f"{math.ceil(seconds / 60)} min"
