"""What was to be reached, and what was."""

from collections.abc import Callable
from typing import Any

Sections = dict[str, dict[str, Any]]


def judge(sections: Sections) -> list[dict[str, Any]]:
    """Hold the results against the targets.

    Args:
        sections: results by name, some perhaps missing or without rows.

    Returns:
        One entry a target: `work`, `target`, `measured` (text) and `met` (None where there is
        nothing to judge by).
    """
    entries = []
    for work, target, section, ask in _TARGETS:
        try:
            measured, met = ask(sections[section])
        except (KeyError, ValueError, StopIteration):
            measured, met = "not measured", None
        entries.append({"work": work, "target": target, "measured": measured, "met": met})
    return entries


def best(rows: list[dict[str, Any]], **wanted: Any) -> dict[str, Any]:
    """Find the fastest row with the given fields; ValueError where there is none."""
    fitting = [r for r in rows if all(r.get(k) == v for k, v in wanted.items())]
    return min(fitting, key=lambda row: row["min_ms"])


def _step_under(limit_ms: float) -> Callable[[dict[str, Any]], tuple[str, bool]]:
    def ask(section: dict[str, Any]) -> tuple[str, bool]:
        row = best(section["rows"], by="ours", kind="as used", guidance=False)
        told = f"{row['min_ms']:.2f} ms (median {row['median_ms']:.2f}), {row['dtype']}"
        return told, row["min_ms"] <= limit_ms

    return ask


def _against_transformers(section: dict[str, Any]) -> tuple[str, bool]:
    mine = best(section["rows"], by="ours", kind="as used", guidance=False)
    mine_guided = best(section["rows"], by="ours", kind="as used", guidance=True)
    told, ratios = [], []
    for kind, name in (("as used", "generate"), ("alone", "forward alone")):
        theirs = best(section["rows"], by="transformers", kind=kind, guidance=True)
        ratios.append(theirs["min_ms"] / mine["min_ms"])
        guided = theirs["min_ms"] / mine_guided["min_ms"]
        told.append(f"{ratios[-1]:.1f}x its {name} in {theirs['dtype']} ({guided:.1f}x guided too)")
    return "; ".join(told), ratios[0] >= 4


def _against_openvino(section: dict[str, Any]) -> tuple[str, bool]:
    told, met = [], True
    for guided in (False, True):
        mine = best(section["rows"], by="ours", kind="as used", guidance=guided)
        theirs = best(section["rows"], by="openvino", guidance=guided)
        ratio = theirs["min_ms"] / mine["min_ms"]
        met = met and ratio >= 1
        told.append(f"{ratio:.2f}x {'with' if guided else 'without'} guidance")
    return ", ".join(told), met


def _frames(section: dict[str, Any]) -> tuple[str, bool]:
    row = best(section["rows"], by="ours", clips=32, guidance=False)
    guided = best(section["rows"], by="ours", clips=32, guidance=True)
    told = f"{row['frames_per_s']:.0f} frames/s; {guided['frames_per_s']:.0f} with guidance"
    return told, row["frames_per_s"] >= 2000


def _text_to_file(section: dict[str, Any]) -> tuple[str, bool]:
    row = section["rows"][0]
    return f"{row['min_s']:.2f} s (median {row['median_s']:.2f})", row["min_s"] <= 3


def _start(section: dict[str, Any]) -> tuple[str, bool]:
    took = {row["name"]: row["process_s"] for row in section["rows"]}
    told = "; ".join(f"{seconds:.1f} s, {name}" for name, seconds in took.items())
    cold = [seconds for name, seconds in took.items() if not name.startswith("first start ever")]
    return told, max(cold) <= 5  # what a start ever after takes; compiling comes once


def _long_cost(section: dict[str, Any]) -> tuple[str, bool]:
    rows = section["rows"]
    wall, busy = (rows[-1][key] / rows[0][key] for key in ("per_second_s", "cpu_per_second_s"))
    return f"{wall:.2f}x (processor time: {busy:.2f}x)", wall <= 1.1


def _long_memory(section: dict[str, Any]) -> tuple[str, bool]:
    _, middle, longest = section["rows"]
    ratio = longest["peak_mb"] / middle["peak_mb"]
    told = f"{longest['peak_mb']:.0f} MB against {middle['peak_mb']:.0f} MB ({ratio - 1:+.1%})"
    return told, ratio <= 1.05


def _many(section: dict[str, Any]) -> tuple[str, bool]:
    ratio = section["last_mb"] / section["tenth_mb"]
    told = f"{section['last_mb']:.0f} MB against {section['tenth_mb']:.0f} MB ({ratio - 1:+.1%})"
    return told, ratio <= 1.05


def _gpu(section: dict[str, Any]) -> tuple[str, bool]:
    mine = best(section["rows"], by="ours", clips=1)
    theirs = max(
        row["min_ms"] for row in section["rows"] if row["by"] != "ours" and row["clips"] == 1
    )  # generate, which is what people call
    told = f"{mine['times_real_time']:.0f}x real time, {theirs / mine['min_ms']:.1f}x transformers"
    return told, mine["times_real_time"] >= 20 and theirs / mine["min_ms"] >= 8


_TARGETS: list[tuple[str, str, str, Callable[[dict[str, Any]], tuple[str, bool]]]] = [
    ("30 M decoder, one clip, one core", "<= 2.0 ms a step", "step_30m", _step_under(2.0)),
    ("30 M decoder against transformers with guidance", ">= 4x", "step_30m", _against_transformers),
    ("30 M decoder against OpenVINO int8", ">= 1x (our own aim)", "step_30m", _against_openvino),
    ("MusicGen-small's shape, one clip, two cores", "<= 18 ms a step", "step_small",
     _step_under(18.0)),
    ("MusicGen-small's shape against transformers with guidance", ">= 4x (our own aim)",
     "step_small", _against_transformers),
    ("MusicGen-small's shape against OpenVINO int8", ">= 1x (our own aim)", "step_small",
     _against_openvino),
    ("30 M decoder, 32 clips, one core", ">= 2,000 frames/s", "clips_30m", _frames),
    ("text to file, 10 s, one core, after loading", "<= 3 s", "text_to_file", _text_to_file),
    ("start of the process to loaded, one core", "<= 5 s", "start", _start),
    ("10 min against 10 s: cost a second of audio", "<= 1.1x", "long", _long_cost),
    ("10 min against 60 s: peak memory", "within 5 %", "long", _long_memory),
    ("200 clips in a row: memory against the tenth", "within 5 %", "many", _many),
    ("GPU, MusicGen-small's shape, one clip, guidance", ">= 20x real time, >= 8x transformers",
     "gpu", _gpu),
]  # fmt: skip
