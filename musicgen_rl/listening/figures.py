"""The report's figures, as SVG that stands in the page."""

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

_WIDTH, _LEFT, _RIGHT = 760, 300, 700
"""Of the drawing, and where its scale begins and ends."""
_ROW, _AXIS = 30, 40
_INK, _SOFT, _LINE, _FOUND = "#1d2129", "#5a6272", "#9aa3b2", "#1f5f8b"
_ARMS = ("#1f5f8b", "#b2531c", "#4f7a28", "#7b4a91", "#8a6d00", "#a8324a")

Entry = Mapping[str, Any]


def differences(entries: Sequence[Entry], level: float) -> str:
    """Draw comparisons as points with intervals, those of one unit on one scale around zero.

    Args:
        entries: as `analysis.analyse` makes them; those without numbers are left out.
        level: 1 - level is the intervals' coverage.

    Returns:
        SVG, or nothing where there is nothing to draw.
    """
    drawn = [entry for entry in entries if "reason" not in entry]
    units = list(dict.fromkeys(entry["unit"] for entry in drawn))
    if not drawn:
        return ""
    abx = " (abx: heard apart)" if any(entry["kind"] == "abx" for entry in drawn) else ""
    out: list[str] = []
    y = 10.0
    for unit in units:
        mine = [entry for entry in drawn if entry["unit"] == unit]
        most = max(max(abs(e["low"]), abs(e["high"]), abs(e["mean"])) for e in mine)
        ticks = _around_zero(most)
        scale = _Scale(ticks[0], ticks[-1])
        bottom = y + _ROW * len(mine)
        title = unit if mine[0]["kind"] == "abx" else f"difference, {unit}"
        out += _axis(scale, ticks, y, bottom, title, signed=True)
        zero = scale.x(0.0)
        out.append(
            f'<line class="zero" x1="{zero:.1f}" y1="{y:.0f}" x2="{zero:.1f}" y2="{bottom:.0f}" '
            f'stroke="{_INK}"/>'
        )
        for row, e in enumerate(mine):
            colour = _FOUND if e.get("found") else _SOFT
            name = f"{e['question']}, {e['item']}: {compared(e)}"
            out += _mark(scale, y + _ROW * (row + 0.5), e, name, colour, f"{e['mean']:+.2f}")
        y = bottom + _AXIS + 8
    out.append(
        f'<text x="4" y="{y + 8:.0f}" fill="{_SOFT}">{100 * (1 - level):g} % intervals; right of '
        f"the line favours the first arm{abx}; blue: found after Holm</text>"
    )
    return _svg(out, y + 16, "Differences with intervals")


def compared(entry: Entry) -> str:
    """Name what a comparison is between: a difference of arms, or of abx the two told apart."""
    return (" / " if entry["kind"] == "abx" else " - ").join(entry["arms"])


def means(entries: Sequence[Entry]) -> str:
    """Draw each arm's mean grade with its interval, the items of one question on one scale.

    Args:
        entries: question, item, arm, mean, low, high, and the least and the most that can be
            answered: an interval that goes beyond is drawn as far as there.

    Returns:
        SVG, or nothing where there are no grades.
    """
    if not entries:
        return ""
    arms = list(dict.fromkeys(entry["arm"] for entry in entries))
    out: list[str] = []
    y = 10.0
    for question in dict.fromkeys(entry["question"] for entry in entries):
        mine = [entry for entry in entries if entry["question"] == question]
        mine = [
            {**e, "low": max(e["low"], e["least"]), "high": min(e["high"], e["most"])} for e in mine
        ]
        ticks = _between(min(e["low"] for e in mine), max(e["high"] for e in mine))
        scale = _Scale(ticks[0], ticks[-1])
        bottom = y + _ROW * len(mine)
        out += _axis(scale, ticks, y, bottom, f"mean grade, {question}", signed=False)
        items = list(dict.fromkeys(entry["item"] for entry in mine))
        mine.sort(key=lambda e: (items.index(e["item"]), arms.index(e["arm"])))
        for row, e in enumerate(mine):
            colour = _ARMS[arms.index(e["arm"]) % len(_ARMS)]
            name = f"{e['item']}: {e['arm']}"
            out += _mark(scale, y + _ROW * (row + 0.5), e, name, colour, f"{e['mean']:.2f}")
        y = bottom + _AXIS + 8
    return _svg(out, y, "Mean grades with intervals")


class _Scale:
    """Where a number stands, from left to right."""

    def __init__(self, low: float, high: float) -> None:
        self.low, self.high = low, high

    def x(self, value: float) -> float:
        return _LEFT + (value - self.low) / (self.high - self.low) * (_RIGHT - _LEFT)


def _axis(
    scale: _Scale, ticks: Sequence[float], top: float, bottom: float, title: str, *, signed: bool
) -> list[str]:
    out = []
    for tick in ticks:
        x = scale.x(tick)
        text = f"{tick:+g}" if signed and tick else f"{tick:g}"
        out.append(
            f'<line x1="{x:.1f}" y1="{top:.0f}" x2="{x:.1f}" y2="{bottom + 4:.0f}" '
            f'stroke="{_LINE}" stroke-width="0.5"/><text x="{x:.1f}" y="{bottom + 17:.0f}" '
            f'text-anchor="middle" fill="{_SOFT}">{text}</text>'
        )
    middle = (_LEFT + _RIGHT) / 2
    out.append(
        f'<text x="{middle:.0f}" y="{bottom + 34:.0f}" text-anchor="middle" fill="{_SOFT}">'
        f"{escape(title)}</text>"
    )
    return out


def _mark(
    scale: _Scale, y: float, entry: Entry, name: str, colour: str, value: str
) -> list[str]:  # fmt: skip
    low, mean, high = (scale.x(entry[key]) for key in ("low", "mean", "high"))
    return [
        f'<text x="4" y="{y + 4:.0f}" fill="{_INK}">{escape(name)}</text>',
        f'<line class="interval" x1="{low:.1f}" y1="{y:.0f}" x2="{high:.1f}" y2="{y:.0f}" '
        f'stroke="{colour}" stroke-width="3"/>',
        f'<circle cx="{mean:.1f}" cy="{y:.0f}" r="5" fill="{colour}"/>',
        f'<text x="{_WIDTH - 4}" y="{y + 4:.0f}" text-anchor="end" fill="{colour}">{value}</text>',
    ]


def _svg(parts: Sequence[str], height: float, label: str) -> str:
    return (
        f'<svg viewBox="0 0 {_WIDTH} {height:.0f}" role="img" aria-label="{escape(label)}" '
        'font-family="system-ui,sans-serif" font-size="13">' + "".join(parts) + "</svg>"
    )


def _step(span: float) -> float:
    """Choose a round distance between ticks: four to eight of them."""
    rough = span / 5
    power: float = 10.0 ** math.floor(math.log10(rough))
    return next(m * power for m in (1, 2, 5, 10) if m * power >= rough)


def _around_zero(most: float) -> list[float]:
    step = _step(2 * max(most, 0.01))
    count = math.ceil(max(most, 0.01) / step - 1e-9)
    return [round(step * n, 10) for n in range(-count, count + 1)]


def _between(low: float, high: float) -> list[float]:
    step = _step(max(high - low, 0.01))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(step * n, 10) for n in range(first, max(last, first + 1) + 1)]
