"""The quality-diversity plane: areas under fronts, and tests of who lies above whom.

Points are pairs of estimates from the same draws of prompts, both axes turned so that more is
better. Every statement is a test over the draws, never a look at the figure.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from musicgen_rl.errors import ConfigError
from musicgen_rl.evaluation.bootstrap import Estimate, combine

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Point:
    """One arm in the plane."""

    name: str
    x: Estimate
    """Diversity, more is better."""
    y: Estimate
    """Quality, more is better."""


def hypervolume(x: Array, y: Array, reference: tuple[float, float]) -> Array:
    """Measure the area that points dominate above a reference.

    Args:
        x: [..., n], more is better.
        y: [..., n].
        reference: the corner that the area is measured from; points not above it add nothing.

    Returns:
        [...], at least 0.
    """
    width = np.maximum(x - reference[0], 0.0)
    height = np.maximum(y - reference[1], 0.0)
    order = np.argsort(-width, axis=-1)  # from the right
    width, height = (np.take_along_axis(a, order, axis=-1) for a in (width, height))
    highest = np.maximum.accumulate(height, axis=-1)
    nothing = np.zeros_like(width[..., :1])
    steps = width - np.concatenate([width[..., 1:], nothing], axis=-1)
    return np.asarray((steps * highest).sum(axis=-1), dtype=np.float64)


def hypervolume_estimate(points: Sequence[Point], reference: tuple[float, float]) -> Estimate:
    """Estimate the area that a family of arms dominates, its bias by noise taken off.

    The best of several noisy points looks better than it is, the more so the more points there are;
    the bootstrap shows by how much, and that is subtracted.
    """
    if not points:
        raise ConfigError("a front needs at least one point")
    n = len(points)
    raw = combine(
        lambda *v: hypervolume(
            np.stack([np.asarray(a, dtype=np.float64) for a in v[:n]], axis=-1),
            np.stack([np.asarray(a, dtype=np.float64) for a in v[n:]], axis=-1),
            reference,
        ),
        *(p.x for p in points),
        *(p.y for p in points),
    )
    return raw.recentred()


def undominated(points: Sequence[Point]) -> list[str]:
    """Name the points that no other equals or betters on both axes; for drawing, not a test."""
    kept = []
    for p in points:
        beaten = any(
            q.x.value >= p.x.value
            and q.y.value >= p.y.value
            and (q.x.value > p.x.value or q.y.value > p.y.value)
            for q in points
        )
        if not beaten:
            kept.append(p.name)
    return kept


def p_dominates(a: Point, b: Point) -> float:
    """Return the p-value against "a is better than b on both axes".

    Both differences must be above 0, so the worse of the two p-values counts.
    """
    return max((a.x - b.x).p_not_above(), (a.y - b.y).p_not_above())


def p_undominated(point: Point, rivals: Sequence[Point]) -> float:
    """Return the p-value against "no rival is at least as good on both axes".

    Against one rival it is enough to be better on one axis: the smaller p-value, doubled for the
    choice. It must hold against every rival, so the largest of those counts.
    """
    against = [
        min(1.0, 2 * min((point.x - r.x).p_not_above(), (point.y - r.y).p_not_above()))
        for r in rivals
    ]
    return max(against, default=0.0)


def above_chord(point: Point, first: Point, last: Point) -> Estimate:
    """Estimate how far a point lies above the straight line through two others, along y.

    Where both have one x there is no line, and the higher of them takes its place.
    """

    def height(x: Array, y: Array, x0: Array, y0: Array, x1: Array, y1: Array) -> Array:
        width = np.asarray(x1 - x0, dtype=np.float64)
        line = y0 + (y1 - y0) * (x - x0) / np.where(width == 0, 1.0, width)
        return np.asarray(y - np.where(width == 0, np.maximum(y0, y1), line), dtype=np.float64)

    return combine(
        height,
        point.x, point.y, first.x, first.y, last.x, last.y,
    )  # fmt: skip


def line_height(x: Array, line_x: Array, line_y: Array) -> Array:
    """Find how high the best a line of points offers is at diversity x or more.

    Between two neighbouring points of the line their straight connection counts (a merge can stand
    anywhere on it); any point with more diversity than x counts at its own height.

    Args:
        x: [...].
        line_x: [..., n], in the order of the line.
        line_y: [..., n].

    Returns:
        [...]; minus infinity where the line offers nothing as diverse.
    """
    wanted = x[..., None]
    at_points = np.where(line_x >= wanted, line_y, -np.inf).max(axis=-1)
    x0, x1, y0, y1 = line_x[..., :-1], line_x[..., 1:], line_y[..., :-1], line_y[..., 1:]
    if x0.shape[-1] == 0:
        return np.asarray(at_points, dtype=np.float64)
    crossed = (np.minimum(x0, x1) <= wanted) & (wanted <= np.maximum(x0, x1)) & (x0 != x1)
    share = np.where(crossed, (wanted - x0) / np.where(x0 == x1, 1.0, x1 - x0), 0.0)
    between = np.where(crossed, y0 + (y1 - y0) * share, -np.inf).max(axis=-1)
    return np.asarray(np.maximum(at_points, between), dtype=np.float64)


def below_line(rival: Point, line: Sequence[Point]) -> Estimate:
    """Estimate how far the line lies above a rival, at the rival's diversity or more.

    Returns:
        Above 0 where the line offers more quality at no less diversity. Draws in which the line
        reaches nowhere as far as the rival count as minus infinity: it does not beat it there.
    """
    n = len(line)
    return combine(
        lambda x, y, *rest: (
            line_height(
                np.asarray(x, dtype=np.float64),
                np.stack([np.asarray(a, dtype=np.float64) for a in rest[:n]], axis=-1),
                np.stack([np.asarray(a, dtype=np.float64) for a in rest[n:]], axis=-1),
            )
            - y
        ),
        rival.x, rival.y, *(p.x for p in line), *(p.y for p in line),
    )  # fmt: skip
