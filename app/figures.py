"""Pictures the page draws as SVG: clips as points, the front of quality and diversity, waves."""

import html
import json
from collections.abc import Mapping, Sequence
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
    for (x, y), lam, url in zip(points, lams, urls, strict=True):
        counts[lam] += 1
        said = f"Clip {counts[lam]} at diversity {lam:g}"
        at = (
            width / 2 + (x - middle[0]) * scale,
            height / 2 - (y - middle[1]) * scale,
        )
        dots.append(
            f'<circle class="dot" cx="{at[0]:.1f}" cy="{at[1]:.1f}" r="11" tabindex="0" '
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


def front_html(summary: Mapping[str, Any]) -> str:
    """Draw the front of an evaluation, with a mark that follows the dial.

    Args:
        summary: as `musicgen_rl.evaluation` writes it.

    Returns:
        A figure; empty where the evaluation has no dial on its front.
    """
    if not summary.get("fronts"):
        return ""
    front = summary["fronts"][0]
    x, y = front["x"], front["y"]
    arms = [a for a in summary["arms"] if x in a["estimates"] and y in a["estimates"]]
    dial = sorted(
        (a for a in arms if a["family"] == "merge" and "diversity" in a["weights"]),
        key=lambda a: float(a["weights"]["diversity"]),
    )
    if len(dial) < 2:
        return ""
    less = float(summary["measures"][y].get("better", 1)) < 0
    width, height, edge = 640, 400, 58
    place = _places(arms, x, y, width, height, edge, upside_down=less)
    names = {k: html.escape(str(summary["measures"][k]["label"])) for k in (x, y)}
    parts = [
        f'<text x="{width / 2}" y="{height - 10}" text-anchor="middle">{names[x]}: more varied '
        "to the right</text>",
        f'<text transform="translate(16 {height / 2}) rotate(-90)" text-anchor="middle">{names[y]}'
        ": better upwards</text>",
    ]
    path = " ".join(f"{a:.1f},{b:.1f}" for a, b in map(place, dial))
    parts.append(f'<polyline class="dial-line" points="{path}"/>')
    for arm in arms:
        at = place(arm)
        said = html.escape(str(arm["name"]))
        if arm in dial:
            lam = float(arm["weights"]["diversity"])
            parts.append(
                f'<circle cx="{at[0]:.1f}" cy="{at[1]:.1f}" r="6" style="fill:{dial_colour(lam)}">'
                f"<title>{said}</title></circle>"
            )
        elif arm["family"] in ("base", "guidance", "temperature", "top-p"):
            parts.append(
                f'<rect class="rival" x="{at[0] - 4:.1f}" y="{at[1] - 4:.1f}" width="8" height="8">'
                f'<title>{said}</title></rect><text class="small" x="{at[0] + 8:.1f}" '
                f'y="{at[1] - 5:.1f}">{said}</text>'
            )
    places = [[float(a["weights"]["diversity"]), *map(float, place(a))] for a in dial]
    parts.append(
        '<g data-studio="front-mark" class="front-mark" transform="translate'
        f'({places[0][1]:.1f} {places[0][2]:.1f})"><circle r="12"/></g>'
    )
    return (
        '<figure class="front"><svg data-studio="front" '
        f'data-places=\'{json.dumps(places)}\' viewBox="0 0 {width} {height}" role="img" '
        'aria-label="Measured quality and diversity of each position of the dial; the ring is '
        f'where the dial stands">{"".join(parts)}</svg><figcaption>Measured on prompts it never '
        "learned from: the line is the dial, squares are guidance and other ways to trade one for "
        "the other. The ring is where your dial stands.</figcaption></figure>"
    )


def _places(
    arms: Sequence[Mapping[str, Any]], x: str, y: str, width: int, height: int, edge: int,
    *, upside_down: bool,
) -> Any:  # fmt: skip
    xs = [float(a["estimates"][x]["value"]) for a in arms]
    ys = [float(a["estimates"][y]["value"]) for a in arms]
    wide, tall = max(max(xs) - min(xs), 1e-9), max(max(ys) - min(ys), 1e-9)

    def place(arm: Mapping[str, Any]) -> tuple[float, float]:
        across = (float(arm["estimates"][x]["value"]) - min(xs)) / wide
        up = (float(arm["estimates"][y]["value"]) - min(ys)) / tall
        up = 1 - up if upside_down else up
        return edge + across * (width - 2 * edge), height - edge - up * (height - 2 * edge)

    return place
