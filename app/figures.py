"""Pictures the page draws as SVG: clips as points, and how loud a clip is."""

import html
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

_QUALITY, _DIVERSITY = (47, 111, 183), (217, 98, 43)  # blue and ember, told apart by everyone


def dial_colour(share: float) -> str:
    """Mix the colour of a position of the dial."""
    mixed = (round(a + (b - a) * share) for a, b in zip(_QUALITY, _DIVERSITY, strict=True))
    return "rgb({},{},{})".format(*mixed)


def plane(embeddings: NDArray[np.floating[Any]]) -> tuple[NDArray[np.float64], float]:
    """Lay embeddings into the plane in which they differ most (principal components).

    Args:
        embeddings: [N, d].

    Returns:
        Points [N, 2], each axis's sign chosen so that its largest value is positive, and the share
        of the variance that the plane shows, 0 to 1.
    """
    centred = embeddings.astype(np.float64) - embeddings.mean(axis=0)
    u, s, _ = np.linalg.svd(centred, full_matrices=False)
    points = np.zeros((len(centred), 2))
    count = min(2, len(s))
    points[:, :count] = u[:, :count] * s[:count]
    for axis in range(2):
        if points[np.abs(points[:, axis]).argmax(), axis] < 0:
            points[:, axis] *= -1
    total = float((s**2).sum())
    return points, float((s[:2] ** 2).sum() / total) if total > 0 else 1.0


def apart(spots: NDArray[np.float64], least: float) -> NDArray[np.float64]:
    """Move points that cover each other apart, so that each can be clicked.

    Args:
        spots: [N, 2].
        least: distance that any two shall have, or nearly so in a crowd.

    Returns:
        The points, [N, 2]; those with room around them as they were.
    """
    moved = spots.astype(np.float64).copy()
    for _ in range(100):
        still = True
        for i in range(len(moved)):
            for j in range(i):
                way = moved[i] - moved[j]
                far = float(np.hypot(*way))
                if far < least - 0.1:
                    way = way / far if far > 1e-6 else np.array([1.0, 0.0])
                    moved[i] += way * (least - far) / 2
                    moved[j] -= way * (least - far) / 2
                    still = False
        if still:
            break
    return moved


def spread_svg(
    points: NDArray[np.floating[Any]], lams: Sequence[float], urls: Sequence[str]
) -> str:
    """Draw clips as points that can be played.

    Args:
        points: [N, 2].
        lams: position of the dial of each.
        urls: where each clip is heard.
    """
    width, height, edge = 640, 420, 34
    low, high = points.min(axis=0), points.max(axis=0)
    span = float(max((high - low).max(), 1e-9))  # one scale for both axes: distance means distance
    middle = (low + high) / 2
    scale = min(width - 2 * edge, height - 2 * edge) / span
    dots, counts = [], dict.fromkeys(sorted(set(lams)), 0)
    spots = apart(np.array([width / 2, height / 2]) + (points - middle) * [scale, -scale], 16.0)
    for (x, y), lam, url in zip(spots, lams, urls, strict=True):
        counts[lam] += 1
        said = f"Clip {counts[lam]} at diversity {lam:g}"
        dots.append(
            f'<circle class="dot" cx="{x:.1f}" cy="{y:.1f}" r="11" tabindex="0" '
            f'role="button" aria-label="{said}" data-play="{html.escape(url, quote=True)}" '
            f'style="fill:{dial_colour(lam)}"><title>{said}: click to hear it</title></circle>'
        )
    keys = "".join(
        f'<span><i style="background:{dial_colour(lam)}"></i>diversity {lam:g}</span>'
        for lam in counts
    )
    return (
        f'<svg class="spread" viewBox="0 0 {width} {height}" role="group" '
        f'aria-label="Clips as points; near ones sound alike">{"".join(dots)}</svg>'
        f'<p class="keys">{keys}</p>'
    )


def wave_svg(samples: NDArray[np.floating[Any]], colour: str, label: str) -> str:
    """Draw how loud a clip is over time.

    Args:
        samples: [C, M].
        colour: of the wave.
        label: for those who do not see it.
    """
    columns = 300
    mono = np.abs(samples).max(axis=0)
    edges = np.linspace(0, len(mono), columns + 1).astype(int)[:-1]
    peaks = np.maximum.reduceat(mono, edges) if len(mono) >= columns else np.zeros(columns)
    top = " ".join(f"{i},{30 - 28 * p:.1f}" for i, p in enumerate(peaks))
    bottom = " ".join(f"{i},{30 + 28 * p:.1f}" for i, p in reversed(list(enumerate(peaks))))
    return (
        f'<svg class="wave" viewBox="0 0 {columns} 60" preserveAspectRatio="none" role="img" '
        f'aria-label="{html.escape(label, quote=True)}">'
        f'<polygon points="{top} {bottom}" style="fill:{colour}"/></svg>'
    )
