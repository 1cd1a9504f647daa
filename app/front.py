"""The measured front of quality and diversity, with a mark that follows the dial."""

import html
import json
import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from app.figures import dial_colour
from musicgen_rl.checkpoint import ModelInfo, model_hash, read_info
from musicgen_rl.errors import MusicgenRLError
from musicgen_rl.evaluation.summary import read_summary

RESULTS = Path(__file__).resolve().parent.parent / "docs" / "results"
WIDTH, HEIGHT = 430, 320
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 26, 34, 52
_RIVALS = ("base", "guidance", "temperature", "top-p")
_LETTER, _LINE = 5.7, 12.0  # of a label, in units of the figure
_BESIDE = 16.0  # a label that is farther from its point gets a line to it
_AWAY, _DOWN = range(-160, 161, 8), range(-110, 111, 5)  # where room is looked for

Box = tuple[float, float, float, float]
Place = tuple[float, float]


def find_front(info: ModelInfo, results: Path = RESULTS) -> str:
    """Draw the front that was measured for a model, or say that none was.

    Args:
        info: the model.
        results: holds a folder for each model that was evaluated.
    """
    name = html.escape(Path(info.name).name)
    try:
        summary = read_summary(results / Path(info.name).name)
        drawn = front_html(summary, name, same_weights=_measured(summary, info))
    except (MusicgenRLError, KeyError, TypeError, ValueError):
        drawn = ""  # none was measured, or by a version that says it otherwise
    return drawn or (
        f'<p class="hint" data-studio="no-front">Quality against diversity has not been measured '
        f"for {name} yet; <code>musicgen-rl evaluate --model {name}</code> does it.</p>"
    )


def front_html(summary: Mapping[str, Any], name: str, *, same_weights: bool) -> str:
    """Draw the front of an evaluation.

    Args:
        summary: as `musicgen_rl.evaluation` writes it.
        name: of the model, as HTML.
        same_weights: whether these very weights were measured.

    Returns:
        A figure; empty where the evaluation has no dial on its front.
    """
    if not summary.get("fronts"):
        return ""
    front = summary["fronts"][0]
    x, y = front["x"], front["y"]
    arms = [
        arm for arm in summary["arms"]
        if x in arm["estimates"] and y in arm["estimates"]
        and (arm["family"] in _RIVALS or _position(arm) is not None)
    ]  # fmt: skip
    dial = sorted((arm for arm in arms if _position(arm) is not None), key=_by_position)
    if len(dial) < 2:
        return ""
    less = float(summary["measures"][y].get("better", 1)) < 0
    places = dict(zip((arm["name"] for arm in arms), _places(arms, x, y, less), strict=True))
    parts = [_axes(*(str(summary["measures"][key]["label"]) for key in (x, y)))]
    line = " ".join("{:.1f},{:.1f}".format(*places[arm["name"]]) for arm in dial)
    parts.append(f'<polyline class="dial-line" points="{line}"/>')
    named = [dial[0], dial[-1], *(arm for arm in arms if arm not in dial)]
    texts = [_called(arm, dial) for arm in named]
    steps = [share / 12 for share in range(13)]
    along = [
        (a[0] + (b[0] - a[0]) * share, a[1] + (b[1] - a[1]) * share)
        for a, b in pairwise(places[arm["name"]] for arm in dial)
        for share in steps
    ]
    at = [places[arm["name"]] for arm in named]
    spots = label_spots(at, texts, [*places.values(), *along])
    parts += [_leader(*each) for each in zip(at, spots, texts, strict=True)]
    parts += [_point(arm, places[arm["name"]], x, y) for arm in arms]
    parts += [
        f'<text class="small" x="{left:.1f}" y="{base:.1f}">{html.escape(text)}</text>'
        for text, (left, base) in zip(texts, spots, strict=True)
    ]
    stops = [[_by_position(arm), *(round(v, 1) for v in places[arm["name"]])] for arm in dial]
    parts.append(
        '<g data-studio="front-mark" class="front-mark" '
        f'transform="translate({stops[0][1]} {stops[0][2]})"><circle r="12"/></g>'
    )
    return (
        f'<figure class="front"><svg data-studio="front" data-places="{json.dumps(stops)}" '
        f'viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="Measured quality and diversity of '
        f'each position of the dial of {name}; the ring is where the dial stands">'
        f"{''.join(parts)}</svg><figcaption>{_caption(summary, name, same_weights)}</figcaption>"
        "</figure>"
    )


def label_spots(
    points: Sequence[Place], texts: Sequence[str], obstacles: Sequence[Place]
) -> list[Place]:
    """Find where labels of points go, so that they cover neither points nor each other.

    Args:
        points: what is labelled.
        texts: the labels.
        obstacles: all points of the figure, and of lines in it.

    Returns:
        For each label where its text begins, left end and base line: beside its point where there
        is room, else at the nearest free place; inside the figure in any case.
    """
    taken: list[Box] = [(x - 7, y - 7, x + 7, y + 7) for x, y in obstacles]
    spots = []
    for (x, y), text in zip(points, texts, strict=True):
        long = _LETTER * len(text)
        beside = [
            (x + away, y + down)
            for down in (4.0, -17.0, 25.0)
            for away in ((15.0, -15.0 - long) if down == 4.0 else (-long / 2, 8.0, -8.0 - long))
        ]
        farther = sorted(
            ((x + away - long / 2, y + down + 4) for away in _AWAY for down in _DOWN),
            key=lambda spot: _gap((x, y), _box(spot, long)),
        )
        inside = [spot for spot in (*beside, *farther) if _inside(_box(spot, long))]
        free = (s for s in inside if not any(_overlap(_box(s, long), box) for box in taken))
        spot = next(free, inside[0])
        taken.append(_box(spot, long))
        spots.append(spot)
    return spots


def _box(spot: Place, long: float) -> Box:
    left, base = spot
    return left, base - _LINE + 2, left + long, base + 3


def _gap(point: Place, box: Box) -> float:
    """Measure from a point to a box, 0 inside."""
    across = max(box[0] - point[0], 0.0, point[0] - box[2])
    down = max(box[1] - point[1], 0.0, point[1] - box[3])
    return math.hypot(across, down)


def _leader(point: Place, spot: Place, text: str) -> str:
    """Draw a line to a label that does not stand beside its point."""
    left, top, right, bottom = _box(spot, _LETTER * len(text))
    if _gap(point, (left, top, right, bottom)) <= _BESIDE:
        return ""
    x, y = (min(max(p, low), high) for p, low, high in zip(point, (left, top), (right, bottom),
                                                           strict=True))  # fmt: skip
    return f'<path class="leader" d="M{point[0]:.1f} {point[1]:.1f}L{x:.1f} {y:.1f}"/>'


def _measured(summary: Mapping[str, Any], info: ModelInfo) -> bool:
    """Tell whether an evaluation measured these very weights, both ends included."""
    told = summary["made"]["weights"]
    ends = [(end, model_hash(read_info(info.folder / end))) for end in ("quality", "diversity")]
    known = {k: v for arm in told.values() for k, v in arm.items()}
    return summary["made"]["model"]["sha256"] == model_hash(info) and all(
        known.get(end) == found for end, found in ends
    )


def _position(arm: Mapping[str, Any]) -> float | None:
    """Where an arm lies on the dial's own line; None if it does not."""
    weights = arm["weights"]
    on_it = arm["family"] == "merge" and weights.get("method", "lerp") == "lerp"
    return float(weights["diversity"]) if on_it and "diversity" in weights else None


def _by_position(arm: Mapping[str, Any]) -> float:
    return _position(arm) or 0.0


def _places(arms: Sequence[Mapping[str, Any]], x: str, y: str, less: bool) -> list[Place]:
    xs = [float(arm["estimates"][x]["value"]) for arm in arms]
    ys = [float(arm["estimates"][y]["value"]) * (-1 if less else 1) for arm in arms]
    wide, tall = max(max(xs) - min(xs), 1e-9), max(max(ys) - min(ys), 1e-9)
    inner = WIDTH - _LEFT - _RIGHT - 40, HEIGHT - _TOP - _BOTTOM - 20
    return [
        (
            _LEFT + 20 + (a - min(xs)) / wide * inner[0],
            HEIGHT - _BOTTOM - 10 - (b - min(ys)) / tall * inner[1],
        )
        for a, b in zip(xs, ys, strict=True)
    ]


def _axes(x: str, y: str) -> str:
    """Draw two axes; they are named without the part of a label that says who measured."""
    right, bottom = WIDTH - _RIGHT, HEIGHT - _BOTTOM + 8
    across, up = (html.escape(text.partition(",")[0]) for text in (x, y))
    return (
        f'<path class="axis" d="M{_LEFT - 8} {_TOP - 8}V{bottom}H{right + 8}"/>'
        f'<text x="{(_LEFT + right) / 2}" y="{HEIGHT - 14}" text-anchor="middle">{across}: more '
        f'varied to the right</text><text transform="translate(24 {HEIGHT / 2 - 12}) rotate(-90)" '
        f'text-anchor="middle">{up}: better upwards</text>'
    )


def _called(arm: Mapping[str, Any], dial: Sequence[Mapping[str, Any]]) -> str:
    if arm is dial[0]:
        return "dial at quality"
    if arm is dial[-1]:
        return "dial at diversity"
    return "base, no guidance" if arm["family"] == "base" else str(arm["name"])


def _point(arm: Mapping[str, Any], place: Place, x: str, y: str) -> str:
    lam = _position(arm)
    told = ", ".join(
        "{} {value:.2f} ({low:.2f} to {high:.2f})".format(word, **arm["estimates"][key])
        for word, key in (("diversity", x), ("quality", y))
    )
    name = arm["name"] if lam is None else f"dial at {lam:g}"
    title = f"<title>{html.escape(f'{name}: {told}')}</title>"
    across, down = place
    if lam is None:
        return (
            f'<rect class="rival" x="{across - 4.5:.1f}" y="{down - 4.5:.1f}" width="9" '
            f'height="9">{title}</rect>'
        )
    return (
        f'<circle cx="{across:.1f}" cy="{down:.1f}" r="6.5" style="fill:{dial_colour(lam)}">'
        f"{title}</circle>"
    )


def _caption(summary: Mapping[str, Any], name: str, same_weights: bool) -> str:
    prompts = summary["bootstrap"]["prompts"]
    clips = max(int(arm["clips"]) for arm in summary["arms"])
    return (
        f"Measured for {name} on {prompts} prompts it never learned from, {clips} clips a point"
        + ("" if same_weights else ", <b>with earlier weights than those that play here</b>")
        + ". The line is the dial; squares are other ways to trade one for the other. The ring is "
        "where your dial stands. Points this close may change places: pointing at one shows its "
        "95 % interval."
    )


def _inside(box: Box) -> bool:
    return (
        box[0] >= _LEFT - 4
        and box[1] >= 2
        and box[2] <= WIDTH - 2
        and box[3] <= HEIGHT - _BOTTOM + 6
    )


def _overlap(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
