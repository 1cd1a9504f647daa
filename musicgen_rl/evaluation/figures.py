"""The front as a picture: diversity across, quality up, each arm with its intervals.

Colours are Okabe and Ito's, which colour-blind readers tell apart; each family has its own mark and
line as well, so that it also reads in grey and in print.
"""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from musicgen_rl.evaluation.arms import FAMILIES

STYLES = {
    "base": ("#000000", "*", "none"),
    "guidance": ("#D55E00", "s", "--"),
    "temperature": ("#E69F00", "^", "-."),
    "top-p": ("#999999", "v", ":"),
    "merge": ("#0072B2", "o", "-"),
    "slerp": ("#56B4E9", "D", "none"),
    "liti": ("#56B4E9", "d", "none"),
    "guided merge": ("#CC79A7", "P", "none"),
    "control": ("#009E73", "X", ":"),
    "other": ("#555555", "h", "none"),
}
"""Family -> colour, mark, line."""

_LINES = {"real": ("real clips", "-"), "codec floor": ("real clips through the codec", "--"),
          "wrong caption": ("wrong captions", ":")}  # fmt: skip
_PLACES = [(side * (5 + abs(lift) / 4), lift + 5) for lift in (0, -15, 9, -24, 18, -33, 27, -42)
           for side in (1, -1)]  # fmt: skip
"""Where an arm's name may stand, in points from its mark: the nearest first."""
_BEYOND = 0.6  # of the arms' range: lines farther away are named in words, or they squeeze the arms


def draw_front(summary: Mapping[str, Any], paths: Sequence[Path], title: str = "") -> None:
    """Draw the front and write it to files.

    Args:
        summary: as `build_summary` makes it.
        paths: .svg or .png.
        title: above all panels.
    """
    figure = _figure(summary, title)
    for path in paths:
        figure.savefig(path, dpi=150, metadata={"Date": None} if path.suffix == ".svg" else None)
    _close(figure)


def front_svg(summary: Mapping[str, Any]) -> str:
    """Return the front as an SVG element; each arm's mark has the id `arm-PANEL-NUMBER`."""
    figure = _figure(summary, "")
    out = io.StringIO()
    figure.savefig(out, format="svg", metadata={"Date": None})
    _close(figure)
    text = out.getvalue()
    return text[text.index("<svg") :]


def _figure(summary: Mapping[str, Any], title: str) -> Any:
    pyplot = _pyplot()
    fronts = summary["fronts"]
    count = max(1, len(fronts))
    columns = min(count, 2)
    rows = -(-count // columns)
    figure, axes = pyplot.subplots(
        rows, columns, figsize=(6.8 * columns, 5.2 * rows), layout="constrained", squeeze=False
    )
    flat = list(axes.flat)
    for panel, (axis, front) in enumerate(zip(flat, fronts, strict=False)):
        _panel(axis, panel, summary, front)
    for axis in flat[len(fronts) :]:
        axis.axis("off")
    handles: dict[str, Any] = {}
    for axis in flat:
        handles |= dict(zip(*reversed(axis.get_legend_handles_labels()), strict=True))
    if handles:
        figure.legend(
            handles.values(), handles.keys(), loc="outside lower center", ncols=3, fontsize=8,
            frameon=False,
        )  # fmt: skip
    if title:
        figure.suptitle(title, fontsize=10)
    figure.draw_without_rendering()  # the layout stands: now names can be measured
    for axis in flat[: len(fronts)]:
        _part_names(axis)
    return figure


def _part_names(axis: Any) -> None:
    """Move names of arms off each other and off the marks, each to the nearest free place."""
    marks = [axis.transData.transform(name.xy) for name in axis.texts]
    taken: list[Any] = []
    for own, name in enumerate(axis.texts):
        best: tuple[float, Any, Any] | None = None
        for place in _PLACES:
            name.set_position(place)
            name.set_horizontalalignment("left" if place[0] > 0 else "right")
            box = name.get_window_extent()
            hit = sum(box.overlaps(other) for other in taken) * 10.0
            hit += sum(box.contains(*m) for i, m in enumerate(marks) if i != own)
            if best is None or hit < best[0]:
                best = (hit, place, box)
            if hit == 0:
                break
        assert best is not None
        name.set_position(best[1])
        name.set_horizontalalignment("left" if best[1][0] > 0 else "right")
        taken.append(best[2])


def _panel(axis: Any, panel: int, summary: Mapping[str, Any], front: Mapping[str, Any]) -> None:
    x, y = front["x"], front["y"]
    about = summary["measures"]
    numbered = [a | {"number": i} for i, a in enumerate(summary["arms"])]
    arms = [a for a in numbered if x in a["estimates"] and y in a["estimates"]]
    for family in FAMILIES:
        own = [a for a in arms if a["family"] == family]
        if own:
            _family(axis, panel, family, own, arms, x, y)
    axis.set_xlabel(f"{about[x]['label']} (1 - cosine within prompts; more to the right)")
    axis.set_ylabel(about[y]["label"] + ("" if about[y]["better"] > 0 else " (less is better: up)"))
    heights = [a["estimates"][y][k] for a in arms for k in ("low", "high")]
    low, high = min(heights), max(heights)
    far = _reference_lines(axis, summary["lines"], y, low, high)
    if about[y]["better"] < 0:
        axis.invert_yaxis()
    if far:
        axis.set_title("outside the figure: " + ", ".join(far), fontsize=7, color="#555555")
    axis.grid(alpha=0.25)
    axis.spines[["top", "right"]].set_visible(False)


def _family(
    axis: Any,
    panel: int,
    family: str,
    own: Sequence[Mapping[str, Any]],
    arms: Sequence[Mapping[str, Any]],
    x: str,
    y: str,
) -> None:
    """Draw one family: its line, its marks with intervals, its names."""
    colour, mark, line = STYLES[family]
    path = [(a["estimates"][x]["value"], a["estimates"][y]["value"]) for a in own]
    if family in ("guidance", "temperature", "top-p"):  # a sweep starts at the base
        base = [a for a in arms if a["family"] == "base"]
        path = [(a["estimates"][x]["value"], a["estimates"][y]["value"]) for a in base] + path
    if line != "none" and len(path) > 1 and family != "control":
        axis.plot(*zip(*path, strict=True), color=colour, linestyle=line, linewidth=1.3, zorder=2)
    for place, arm in enumerate(own):
        ex, ey = arm["estimates"][x], arm["estimates"][y]
        axis.errorbar(
            ex["value"], ey["value"],
            xerr=[[max(0.0, ex["value"] - ex["low"])], [max(0.0, ex["high"] - ex["value"])]],
            yerr=[[max(0.0, ey["value"] - ey["low"])], [max(0.0, ey["high"] - ey["value"])]],
            fmt="none", ecolor=colour, elinewidth=0.7, alpha=0.45, zorder=1,
        )  # fmt: skip
        axis.plot(
            ex["value"], ey["value"], linestyle="none", marker=mark, color=colour,
            markersize=11 if family == "base" else 7, markeredgecolor="white",
            markeredgewidth=0.6, zorder=3, gid=f"arm-{panel}-{arm['number']}",
            label=FAMILIES[family] if place == 0 else None,
        )  # fmt: skip
        axis.annotate(
            _short(arm["name"]), (ex["value"], ey["value"]), xytext=(5, 5),
            textcoords="offset points", fontsize=7, color=colour, zorder=4,
        )  # fmt: skip


def _reference_lines(
    axis: Any, lines: Mapping[str, Mapping[str, float]], y: str, low: float, high: float
) -> list[str]:
    """Draw the lines that are near the arms; name the others with their values."""
    far = []
    room = _BEYOND * (high - low)
    for name, values in lines.items():
        if y not in values or name not in _LINES:
            continue
        label, style = _LINES[name]
        if low - room <= values[y] <= high + room:
            axis.axhline(
                values[y], color="#555555", linestyle=style, linewidth=0.9, label=label, zorder=0
            )
        else:
            far.append(f"{label} {values[y]:.3g}")
    return far


def _short(name: str) -> str:
    for long, short in (("guidance ", "g "), ("temperature ", "T "), ("merge ", "λ ")):
        name = name.replace(long, short)
    return name


def _pyplot() -> Any:
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "musicgen-rl"  # the same picture, the same bytes
    matplotlib.rcParams["svg.fonttype"] = "none"
    from matplotlib import pyplot

    return pyplot


def _close(figure: Any) -> None:
    from matplotlib import pyplot

    pyplot.close(figure)
