"""Estimates with their uncertainty: a bootstrap that draws whole prompts.

Clips of one prompt resemble each other, so the prompt is what is drawn again. All arms use the same
draws: a difference of two arms is then paired by prompt, draw by draw, and any function of several
estimates (a ratio, an area under a front) gets its interval for nothing.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from musicgen_rl.config import require_number
from musicgen_rl.errors import ConfigError, InputError

Array = NDArray[np.float64]

MIN_PROMPTS = 6
"""Fewer prompts have too few different draws for an interval to mean anything."""

FEW_DRAWS = 1000
"""Below this many draws a p-value is not counted from them: the smallest they can show, about one
over their number, is no longer small after Holm's correction over twenty arms."""


@dataclass(frozen=True, eq=False)
class Estimate:
    """A number and the values it took when prompts were drawn again."""

    value: float
    """From the prompts as they are."""
    draws: Array
    """[R], draw by draw in the order of `draw_prompts`."""
    prompts: int
    """P: how many were drawn from."""

    def __sub__(self, other: "Estimate | float") -> "Estimate":
        """Take the difference, paired draw by draw."""
        return combine(lambda a, b: a - b, self, other)

    def __add__(self, other: "Estimate | float") -> "Estimate":
        """Take the sum, draw by draw."""
        return combine(lambda a, b: a + b, self, other)

    def __mul__(self, other: "Estimate | float") -> "Estimate":
        """Take the product, draw by draw."""
        return combine(lambda a, b: a * b, self, other)

    def __truediv__(self, other: "Estimate | float") -> "Estimate":
        """Take the ratio, draw by draw."""
        return combine(lambda a, b: a / b, self, other)

    def recentred(self, value: float | None = None) -> "Estimate":
        """Move the draws so that their mean is `value`.

        Statistics that grow with repeated clips (distances of distributions, areas of fronts) come
        out too high in every draw. Their spread is right, their centre is not. Without a value, the
        same bias is taken off the estimate itself.
        """
        mean = float(np.mean(self.draws))
        centre = 2 * self.value - mean if value is None else value
        return Estimate(centre, self.draws - mean + centre, self.prompts)

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Return the expanded percentile interval.

        The percentile interval is too narrow for few prompts; its levels are moved outwards as a
        t-interval would be.

        Source: arXiv:1411.5279 (Hesterberg), where it is called expanded percentile interval.
        """
        require_number("level", level, 0.5, 0.999)
        n = self.prompts
        z = float(stats.t.ppf((1 + level) / 2, n - 1)) * np.sqrt(n / (n - 1))
        tail = float(stats.norm.cdf(-z))
        # An actual draw, not a mixture of two: draws may be infinite.
        low, high = np.quantile(self.draws, [tail, 1 - tail], method="nearest")
        return float(low), float(high)

    def p_not_above(self, threshold: float = 0.0) -> float:
        """Return the one-sided p-value of "it is not above the threshold".

        Counted from the draws; where they are fewer than FEW_DRAWS, Student's of the value over
        their spread, if they have one.
        """
        R = len(self.draws)
        few = 1 < R < FEW_DRAWS and bool(np.isfinite(self.draws).all())
        spread = float(np.std(self.draws, ddof=1)) if few else 0.0
        if spread > 0.0:
            n = self.prompts
            error = spread * np.sqrt(n / (n - 1))  # draws of n prompts spread less than samples do
            return float(stats.t.sf((self.value - threshold) / error, n - 1))
        below = np.sum(self.draws < threshold) + 0.5 * np.sum(self.draws == threshold)
        share = (below + 0.5) / (R + 1.0)
        n = self.prompts
        quantile = float(stats.norm.ppf(share)) * np.sqrt((n - 1) / n)
        return float(stats.t.cdf(quantile, n - 1))

    def p_two_sided(self, threshold: float = 0.0) -> float:
        """Return the p-value of "it equals the threshold"."""
        above = self.p_not_above(threshold)
        return float(min(1.0, 2 * min(above, 1 - above)))

    def to_json(self, level: float = 0.95) -> dict[str, float]:
        """Return value, low and high."""
        low, high = self.interval(level)
        return {"value": self.value, "low": low, "high": high}


def combine(function: Callable[..., Any], *parts: Estimate | float) -> Estimate:
    """Apply a function of numbers to estimates, to the values and draw by draw.

    Args:
        function: takes as many numbers, or arrays [R], as there are parts.
        parts: estimates from the same draws; plain numbers are constants.

    Raises:
        ConfigError: estimates of different draws, or none at all.
    """
    estimates = [p for p in parts if isinstance(p, Estimate)]
    if not estimates:
        raise ConfigError("at least one part must be an estimate")
    lengths = {len(e.draws) for e in estimates}
    if len(lengths) > 1:
        raise ConfigError(f"estimates of {sorted(lengths)} draws cannot be put together")
    value = function(*(p.value if isinstance(p, Estimate) else p for p in parts))
    draws = function(*(p.draws if isinstance(p, Estimate) else p for p in parts))
    whole = np.broadcast_to(np.asarray(draws, dtype=np.float64), lengths.pop())
    return Estimate(float(value), np.array(whole), min(e.prompts for e in estimates))


def draw_prompts(num_prompts: int, num_draws: int, seed: int = 0) -> Array:
    """Draw prompts with replacement, again and again.

    Args:
        num_prompts: P.
        num_draws: R.
        seed: of the draws.

    Returns:
        How often each prompt was drawn, [R, P]; every row sums to P.

    Raises:
        InputError: too few prompts for a bootstrap.
    """
    if num_prompts < MIN_PROMPTS:
        raise InputError(
            f"{num_prompts} prompts are too few to tell chance from difference: give at least "
            f"{MIN_PROMPTS}, better 30"
        )
    generator = np.random.default_rng(seed)
    return generator.multinomial(
        num_prompts, np.full(num_prompts, 1.0 / num_prompts), size=num_draws
    ).astype(np.float64)


def mean_estimate(values: Array, draws: Array) -> Estimate | None:
    """Estimate the mean over prompts of one value a prompt.

    Args:
        values: [P]; nan where a prompt has none.
        draws: [R, P] from `draw_prompts`.

    Returns:
        The estimate, or None where fewer than MIN_PROMPTS prompts have a value.
    """
    known = np.isfinite(values)
    if int(known.sum()) < MIN_PROMPTS:
        return None
    filled = np.where(known, values, 0.0)
    weights = draws * known  # [R, P]
    drawn = (weights @ filled) / np.maximum(weights.sum(axis=1), 1.0)
    return Estimate(float(values[known].mean()), drawn, int(known.sum()))


def clip_estimate(sums: Array, clips: Array, draws: Array) -> Estimate:
    """Estimate the mean over clips, from sums by prompt: a prompt counts as often as it has clips.

    Args:
        sums: [P], the sum over the clips of each prompt.
        clips: [P], how many clips each sum holds.
        draws: [R, P] from `draw_prompts`.
    """
    value = float(sums.sum() / clips.sum())
    count = draws @ clips
    drawn = np.where(count > 0, draws @ sums / np.maximum(count, 1.0), value)
    return Estimate(value, drawn, len(sums))


def pair_estimate(sums: Array, pairs: Array, draws: Array) -> Estimate:
    """Estimate the mean over pairs of clips, from sums by pairs of prompts.

    A prompt that was drawn twice counts twice, but its copies are not paired with each other: a
    clip is no neighbour of itself, and such pairs would pull every draw one way.

    Args:
        sums: [P, P], the sum over pairs of clips of prompts p and q; on the diagonal over pairs
            within p, a clip with itself left out.
        pairs: [P, P], how many pairs each sum holds.
        draws: [R, P] from `draw_prompts`.
    """

    def mean(weights: Array, table: Array) -> Array:
        apart = table - np.diag(np.diag(table))
        between = np.einsum("rp,pq,rq->r", weights, apart, weights, optimize=True)
        return np.asarray(between + weights @ np.diag(table), dtype=np.float64)

    P = len(sums)
    one = np.ones((1, P))
    value = float(mean(one, sums)[0] / mean(one, pairs)[0])
    count = mean(draws, pairs)  # 0 in the rare draw of one prompt only, where pairs are across
    drawn = np.where(count > 0, mean(draws, sums) / np.maximum(count, 1.0), value)
    return Estimate(value, drawn, P)
