"""The results as a picture, in colours that colour-blind readers tell apart (Okabe and Ito)."""

from pathlib import Path
from typing import Any

# Each series has its own mark or hatch as well, so that it also reads in grey.
_COLOURS = {"ours": "#0072B2", "transformers": "#E69F00", "openvino": "#009E73"}
_HATCHES = {"ours": "", "transformers": "//", "openvino": ".."}
_MARKS = {"ours": "o", "transformers": "s", "openvino": "^"}
_NAMES = {"ours": "ours", "transformers": "transformers", "openvino": "OpenVINO"}


def draw(result: dict[str, Any], path: Path) -> None:
    """Draw steps as bars with their floors, and clips as curves.

    Args:
        result: as `decode.py` writes it.
        path: .svg or .png.
    """
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "musicgen-rl"
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(
        1, 3, figsize=(17, 5.4), width_ratios=(1, 1, 0.9), layout="constrained"
    )
    sections = result["sections"]
    _bars(axes[0], sections.get("step_30m", {}).get("rows", []), "30 M, one clip, one core")
    _bars(axes[1], sections.get("step_small", {}).get("rows", []),
          "MusicGen-small's shape, one clip, two cores")  # fmt: skip
    _curves(axes[2], sections.get("clips_30m", {}).get("rows", []))
    figure.suptitle(
        f"{result['machine']['cpu']}, {result['date']}, {result['command']}", fontsize=9
    )
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
    plt.close(figure)


def _bars(axis: Any, rows: list[dict[str, Any]], title: str) -> None:
    axis.set_title(title)
    axis.set_xlabel("ms a step (minimum); line: floor")
    for place, row in enumerate(rows):
        by = row["by"]
        axis.barh(place, row["min_ms"], color=_COLOURS[by], hatch=_HATCHES[by], edgecolor="white")
        axis.plot([row["floor_ms"]] * 2, [place - 0.4, place + 0.4], color="black", linewidth=2)
        axis.annotate(f" {row['min_ms']:.2g}", (row["min_ms"], place), va="center", fontsize=8)
    axis.set_yticks(range(len(rows)), [row["name"] for row in rows], fontsize=7)
    axis.invert_yaxis()
    if rows:
        axis.set_xscale("log")
        axis.axvline(20, color="#CC79A7", linestyle=":")
        axis.annotate("real time", (20, len(rows) - 0.4), color="#CC79A7", fontsize=8)
        longest = 2 * max(20, *(row["min_ms"] for row in rows))
        shortest = 0.7 * min(row["floor_ms"] for row in rows)
        ticks = [t for t in (0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500) if shortest < t < longest]
        axis.set_xlim(shortest, longest)
        axis.set_xticks(ticks, [f"{t:g}" for t in ticks])
        axis.set_xticks([], minor=True)


def _curves(axis: Any, rows: list[dict[str, Any]]) -> None:
    axis.set_title("30 M, clips side by side, one core")
    fastest: dict[tuple[str, bool], dict[str, Any]] = {}
    for row in rows:  # of each, only the dtype that is fastest for the most clips of all
        key = row["by"], row["guidance"]
        held = fastest.setdefault(key, row)
        if (row["clips"], row["frames_per_s"]) > (held["clips"], held["frames_per_s"]):
            fastest[key] = row
    for (by, guidance), best in sorted(fastest.items()):
        dtype = best["dtype"]
        points = sorted(
            (row["clips"], row["frames_per_s"]) for row in rows
            if (row["by"], row["guidance"], row["dtype"]) == (by, guidance, dtype)
        )  # fmt: skip
        rows_a_clip = "two rows a clip (guidance)" if guidance else "one row a clip"
        axis.plot(
            *zip(*points, strict=True), color=_COLOURS[by], marker=_MARKS[by],
            linestyle="--" if guidance else "-", label=f"{_NAMES[by]}, {dtype}, {rows_a_clip}",
        )  # fmt: skip
    axis.set_xlabel("clips")
    axis.set_ylabel("frames/s (minimum time); 50 are real time of one clip")
    if rows:
        ticks = sorted({row["clips"] for row in rows})
        axis.set_xscale("log", base=2)
        axis.set_yscale("log")
        axis.set_xticks(ticks, [str(n) for n in ticks])
        axis.legend(fontsize=7, loc="upper left")
        axis.set_ylim(top=6 * max(row["frames_per_s"] for row in rows))
    axis.grid(alpha=0.3)
