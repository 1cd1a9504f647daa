"""Intervals for answers that share raters and prompts: neither is a sample of its own.

Every answer belongs to one rater and one prompt, so answers are not independent. The standard
error is the two-way cluster-robust one; the interval's shape comes from resampling raters and
prompts, both with replacement, crossed. Plain resampling of both ways counts the noise of single
answers three times (it is right only where there is none), so its spread is brought to the robust
standard error.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from musicgen_rl.config import require

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]


@dataclass(frozen=True)
class Estimate:
    """A mean with what is known about it."""

    mean: float
    low: float
    high: float
    se: float
    """Two-way cluster-robust standard error."""
    p: float
    """Two-sided, of no difference."""
    df: int
    """min(raters, prompts) - 1."""
    n: int
    raters: int
    prompts: int
    naive_low: float
    """The interval if all answers were independent: shown to tell how wrong it would be."""
    naive_high: float
    naive_p: float

    def to_dict(self) -> Mapping[str, float | int]:
        """Bring it to JSON-able values."""
        return dict(vars(self))


def two_way_se(influence: ArrayLike, raters: ArrayLike, prompts: ArrayLike) -> float:
    """Compute the standard error of a mean under two crossed kinds of clusters.

    V = V_raters + V_prompts - V_cells, each sum of squared cluster sums times G / (G - 1). Where
    the difference falls below the larger of the two, as it does by chance in small studies, that
    one is taken.

    Args:
        influence: what each answer adds to the mean: its value minus the mean, [n].
        raters: of each answer, [n].
        prompts: of each answer, [n].

    Returns:
        At least 0.

    Source: Cameron, Gelbach and Miller (2011), Robust inference with multiway clustering; the
    floor: MacKinnon, Nielsen and Webb (2021), Wild bootstrap and asymptotic inference with
    multiway clustering.
    """
    z = np.asarray(influence, dtype=np.float64)
    r = np.unique(np.asarray(raters), return_inverse=True)[1]
    p = np.unique(np.asarray(prompts), return_inverse=True)[1]
    cells = np.unique(r * (p.max() + 1) + p, return_inverse=True)[1]
    by_rater, by_prompt, by_cell = (_cluster_variance(z, g) for g in (r, p, cells))
    return float(np.sqrt(max(by_rater + by_prompt - by_cell, by_rater, by_prompt)))


def _cluster_variance(z: Floats, groups: Ints) -> float:
    count = int(groups.max()) + 1
    if count < 2:
        return 0.0
    sums = np.bincount(groups, z)
    return float(count / (count - 1) * (sums**2).sum() / len(z) ** 2)


def resample(
    values: ArrayLike, raters: ArrayLike, prompts: ArrayLike, draws: int, rng: np.random.Generator
) -> Floats:
    """Draw the mean again and again with raters and prompts resampled, crossed.

    Args:
        values: [n].
        raters: of each value, [n].
        prompts: of each value, [n].
        draws: how many.
        rng: draws.

    Returns:
        [draws]; a draw without any answer is the mean itself.

    Source: Owen (2007), The pigeonhole bootstrap.
    """
    x = np.asarray(values, dtype=np.float64)
    r = np.unique(np.asarray(raters), return_inverse=True)[1]
    p = np.unique(np.asarray(prompts), return_inverse=True)[1]
    R, P = int(r.max()) + 1, int(p.max()) + 1
    out = np.empty(draws)
    step = max(1, 2_000_000 // len(x))
    for start in range(0, draws, step):
        count = min(step, draws - start)
        of_raters = rng.multinomial(R, np.full(R, 1 / R), count)  # [B, R]
        of_prompts = rng.multinomial(P, np.full(P, 1 / P), count)  # [B, P]
        weight = of_raters[:, r] * of_prompts[:, p]  # [B, n]
        total = weight.sum(1)
        sums = weight @ x
        out[start : start + count] = np.where(total > 0, sums / np.maximum(total, 1), x.mean())
    return out


def estimate(
    values: ArrayLike,
    raters: ArrayLike,
    prompts: ArrayLike,
    *,
    level: float = 0.05,
    draws: int = 2000,
    rng: np.random.Generator | None = None,
) -> Estimate:
    """Estimate a mean over answers that share raters and prompts.

    Args:
        values: one number for each answer, or a point estimate plus influences, [n].
        raters: who gave it, [n].
        prompts: what it is about, [n].
        level: 1 - level is the interval's coverage.
        draws: of the bootstrap.
        rng: draws; one from seed 0 if None.

    Returns:
        Mean, interval, test, and what treating answers as independent would have given.

    Raises:
        ConfigError: there are no answers, or fewer than two raters or prompts.
    """
    x = np.asarray(values, dtype=np.float64)
    R, P = len(np.unique(np.asarray(raters))), len(np.unique(np.asarray(prompts)))
    require(len(x) > 0, "there are no answers to estimate from")
    require(
        R >= 2 and P >= 2,
        f"an interval needs at least two raters and two prompts, got {R} and {P}",
    )
    mean = float(x.mean())
    se = two_way_se(x - mean, raters, prompts)
    df = min(R, P) - 1
    drawn = resample(x, raters, prompts, draws, rng or np.random.default_rng(0)) - mean
    spread = float(drawn.std())
    wide = float(stats.t.ppf(1 - level / 2, df) / stats.norm.ppf(1 - level / 2))
    scale = se * wide / spread if spread > 0 else 0.0
    low, high = mean + scale * np.quantile(drawn, [level / 2, 1 - level / 2])
    naive = float(x.std(ddof=1) / np.sqrt(len(x)))
    z = float(stats.norm.ppf(1 - level / 2))
    return Estimate(
        mean=mean,
        low=float(low),
        high=float(high),
        se=se,
        p=p_value(mean, se, df),
        df=df,
        n=len(x),
        raters=R,
        prompts=P,
        naive_low=mean - z * naive,
        naive_high=mean + z * naive,
        naive_p=float(2 * stats.norm.sf(abs(mean) / naive)) if naive > 0 else float(mean == 0),
    )


def p_value(mean: float, se: float, df: int) -> float:
    """Test a mean against 0, two-sided.

    Where all answers are equal there is no spread to test by; then df + 1 who agree are worth no
    more than a sign test.
    """
    if se == 0:
        return 1.0 if mean == 0 else 2.0 * 0.5 ** (df + 1)
    return float(2 * stats.t.sf(abs(mean) / se, df))


def holm(p_values: list[float]) -> list[float]:
    """Adjust p-values so that the chance of any false finding among them stays at the level.

    Args:
        p_values: each in [0, 1].

    Returns:
        Adjusted, in the same order.

    Source: Holm (1979), A simple sequentially rejective multiple test procedure.
    """
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted = [0.0] * len(p_values)
    highest = 0.0
    for rank, index in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = highest
    return adjusted
