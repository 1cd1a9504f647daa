"""How far a set of clips lies from a set of real ones, in the features of one encoder.

Both distances are meaningless across encoders; `instruments.py` keeps hashes with every number.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from musicgen_rl.errors import InputError
from musicgen_rl.evaluation.bootstrap import Estimate, clip_estimate, combine, pair_estimate
from musicgen_rl.evaluation.diversity import pair_tables

Array = NDArray[np.float64]
Integers = NDArray[np.int64]

MIN_CLIPS = 32
"""Fewer clips give no covariance worth the name."""
_SIZES, _SUBSETS = 8, 4


@dataclass(frozen=True, eq=False)
class Gaussian:
    """Mean and covariance of features."""

    mean: Array
    """[d]."""
    covariance: Array
    """[d, d]."""

    @classmethod
    def fit(cls, features: Array, weights: Array | None = None) -> "Gaussian":
        """Fit to features [n, d], each row counted `weights` [n] times (once if None)."""
        w = np.ones(len(features)) if weights is None else weights
        total = w.sum()
        mean = w @ features / total
        moved = features - mean
        return cls(mean, (moved * w[:, None]).T @ moved / (total - 1.0))


def frechet(a: Gaussian, b: Gaussian, root_b: Array | None = None) -> float:
    """Measure the squared Fréchet distance of two Gaussians.

    Args:
        a: one.
        b: the other.
        root_b: `square_root(b.covariance)`, where it is known already.

    Source: arXiv:1706.08500; on audio arXiv:1812.08466.
    """
    root = square_root(b.covariance) if root_b is None else root_b
    eigenvalues = np.linalg.eigvalsh(root @ a.covariance @ root)
    cross = np.sqrt(np.maximum(eigenvalues, 0.0)).sum()
    apart = float(np.sum((a.mean - b.mean) ** 2))
    return apart + float(np.trace(a.covariance) + np.trace(b.covariance) - 2.0 * cross)


def square_root(covariance: Array) -> Array:
    """Return the symmetric square root of a covariance."""
    values, vectors = np.linalg.eigh(covariance)
    return np.asarray((vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T, dtype=np.float64)


def frechet_extrapolated(features: Array, real: Array, seed: int = 0) -> float:
    """Measure the Fréchet distance that infinitely many clips would have.

    A sample's distance is too large by about c / n; measured at several n and drawn as a line over
    1 / n, it meets the axis at the answer. Only the clips are extrapolated, the real set is taken
    as it is, the same for all arms.

    Args:
        features: [n, d], n >= MIN_CLIPS.
        real: [m, d].
        seed: of the subsets.

    Raises:
        InputError: too few clips.

    Source: arXiv:1911.07023 (images), arXiv:2311.01616 (music).
    """
    require_enough(len(features), "the arm")
    require_enough(len(real), "the real set")
    target = Gaussian.fit(real)
    root = square_root(target.covariance)
    generator = np.random.default_rng(seed)
    inverse, distance = [], []
    for size in np.linspace(len(features) / 3, len(features), _SIZES).astype(int):
        for _ in range(_SUBSETS if size < len(features) else 1):
            chosen = generator.permutation(len(features))[:size]
            inverse.append(1.0 / size)
            distance.append(frechet(Gaussian.fit(features[chosen]), target, root))
    return float(np.polyfit(inverse, distance, 1)[1])


def frechet_estimate(features: Array, prompt_of: Integers, real: Array, draws: Array) -> Estimate:
    """Estimate the extrapolated Fréchet distance; spread from prompts drawn again.

    Args:
        features: [n, d].
        prompt_of: [n].
        real: [m, d].
        draws: [R, P]; a hundred are enough for a spread.
    """
    value = frechet_extrapolated(features, real)
    target = Gaussian.fit(real)
    root = square_root(target.covariance)
    drawn = np.array([frechet(Gaussian.fit(features, w[prompt_of]), target, root) for w in draws])
    return Estimate(value, drawn, draws.shape[1]).recentred(value)


def polynomial_kernel(a: Array, b: Array, scale: float) -> Array:
    """Return ((a . b) / scale + 1)^3 for all pairs, [n, m]."""
    return np.asarray((a @ b.T / scale + 1.0) ** 3, dtype=np.float64)


def kid_estimate(features: Array, prompt_of: Integers, real: Array, draws: Array) -> Estimate:
    """Estimate the kernel distance to real clips, unbiased at every number of clips.

    Every clip counts once, as in the Fréchet distance, so prompts may have unequal numbers of them.

    Args:
        features: [n, d].
        prompt_of: [n].
        real: [m, d], taken as it is: the interval is for these real clips.
        draws: [R, P].

    Returns:
        The squared maximum mean discrepancy; may come out below 0 where there is no difference.

    Source: arXiv:1801.01401; its kernel divides by d, ours by the real clips' mean squared length,
        so that features of unit length are not squeezed into a straight line.
    """
    scale = float(np.mean(np.sum(real**2, axis=1)))
    P = draws.shape[1]
    own = pair_estimate(
        *pair_tables(polynomial_kernel(features, features, scale), prompt_of, P), draws
    )
    among_real = polynomial_kernel(real, real, scale)
    m = len(real)
    fixed = float((among_real.sum() - np.trace(among_real)) / (m * (m - 1)))
    rows = polynomial_kernel(features, real, scale).mean(axis=1)  # [n]
    sums = np.bincount(prompt_of, weights=rows, minlength=P).astype(np.float64)
    clips = np.bincount(prompt_of, minlength=P).astype(np.float64)
    between = clip_estimate(sums, clips, draws)
    return combine(lambda x, y: x + fixed - 2.0 * y, own, between)


def require_enough(count: int, what: str) -> None:
    """Refuse a distance between sets too small for one.

    Raises:
        InputError: fewer than MIN_CLIPS.
    """
    if count < MIN_CLIPS:
        raise InputError(
            f"{what} has {count} clips, a distance to real clips needs at least {MIN_CLIPS}: make "
            "more, or leave --real out"
        )
