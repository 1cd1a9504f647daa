"""How far raters agree: Krippendorff's alpha."""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from musicgen_rl.config import require

METRICS = ("nominal", "ordinal", "interval")


def krippendorff(units: Iterable[Sequence[float]], metric: str) -> float | None:
    """Compute the agreement of raters beyond chance.

    Args:
        units: the values each thing was given, by however many raters; single values say nothing
            and are left out.
        metric: nominal (equal or not), ordinal (ranks) or interval (distances).

    Returns:
        1 for perfect agreement, 0 for chance, below for worse; None if nothing can be said, as
        where fewer than two values differ.

    Raises:
        ConfigError: unknown metric.

    Source: Krippendorff (2011), Computing Krippendorff's alpha-reliability.
    """
    require(metric in METRICS, f"unknown metric {metric!r}: there are {', '.join(METRICS)}")
    paired = [list(values) for values in units if len(values) >= 2]
    levels = sorted({value for values in paired for value in values})
    if len(levels) < 2:
        return None
    place = {value: index for index, value in enumerate(levels)}
    coincidence = np.zeros((len(levels), len(levels)))
    for values in paired:
        counts = np.bincount([place[value] for value in values], minlength=len(levels))
        coincidence += (np.outer(counts, counts) - np.diag(counts)) / (len(values) - 1)
    totals = coincidence.sum(0)
    n = totals.sum()
    distance = _distances(np.array(levels, dtype=np.float64), totals, metric)
    observed = (coincidence * distance).sum()
    expected = (np.outer(totals, totals) * distance).sum() / (n - 1)
    return float(1 - observed / expected)


def _distances(
    levels: NDArray[np.float64], totals: NDArray[np.float64], metric: str
) -> NDArray[np.float64]:
    """Square the distances between levels, [L, L]."""
    if metric == "nominal":
        return 1.0 - np.eye(len(levels))
    if metric == "interval":
        return (levels[:, None] - levels[None]) ** 2
    # Ordinal: values between two levels, half of the two themselves.
    middle = np.cumsum(totals) - totals / 2
    return (middle[:, None] - middle[None]) ** 2
