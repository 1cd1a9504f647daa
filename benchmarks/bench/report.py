"""Results as a page: targets first, then every table with its floor, then how it was measured."""

from typing import Any

_TITLES = {
    "step_30m": "One clip, 30 M decoder, one core",
    "step_small": "One clip, MusicGen-small's shape (24 x 1024), two cores",
    "step_pocket": "One clip, pocket's shape (6 x 384, 8 codebooks, 25 frames a second), one core",
    "clips_30m": "Many clips side by side, 30 M decoder, one core",
    "text_to_file": "Text to file, pocket, one core",
    "start": "Start",
    "long": "Long clips",
    "many": "Many clips in a row",
    "gpu": "GPU, MusicGen-small's shape, guidance 3",
}


def markdown(result: dict[str, Any]) -> str:
    """Write the page.

    Args:
        result: as `decode.py` writes it.
    """
    machine = result["machine"]
    flags = ", ".join(machine["flags"]) or "none of those that matter"
    versions = ", ".join(f"{n} {v or 'not installed'}" for n, v in result["versions"].items())
    lines = [
        "# Decoding", "",
        f"`{result['command']}`, {result['date']}, commit {result['commit']}"
        + (", QUICK: tiny sizes, the numbers mean nothing" if result["quick"] else ""), "",
        f"- Machine: {machine['cpu']}, {machine['cores']} cores ({flags}; L3 "
        f"{machine['l3_cache'] or 'unknown'}), {machine['memory_gb']} GB, {machine['system']}; "
        f"load before the run {machine['load_before'][0]:.2f}",
        *_rates(result["sections"]),
        f"- Versions: {versions}",
        *_other_commits(result), "",
        "Random weights, the same for all. How to read this: [docs/performance.md]"
        "(../../docs/performance.md).", "",
        "![Decoding](decode.svg)", "",
        "## Targets", "",
        "| work | to reach | measured | |", "|---|---|---|---|",
    ]  # fmt: skip
    for entry in result["targets"]:
        met = {True: "met", False: "**missed**", None: "-"}[entry["met"]]
        met = "-" if result["quick"] else met
        lines.append(f"| {entry['work']} | {entry['target']} | {entry['measured']} | {met} |")
    for name, section in result["sections"].items():
        lines += ["", f"## {_TITLES.get(name, name)}", ""]
        if "error" in section:
            lines.append(f"Failed: {section['error']}")
        lines += _table(section.get("rows", []))
        if section.get("notes"):
            lines += ["", *(f"- {note}" for note in section["notes"])]
    return "\n".join(lines) + "\n"


def _other_commits(result: dict[str, Any]) -> list[str]:
    """Name the sections that were kept from an earlier run (`--only`), and their commit."""
    kept = {
        name: section["commit"]
        for name, section in result["sections"].items()
        if section.get("commit", result["commit"]) != result["commit"]
    }
    named = ", ".join(f"{name} at {commit}" for name, commit in kept.items())
    return [f"- Kept from an earlier run: {named}"] if kept else []


def _rates(sections: dict[str, dict[str, Any]]) -> list[str]:
    """Tell the measured speed of memory and arithmetic, for each number of cores in use."""
    lines = []
    for name, told in (("step_30m", "one core"), ("step_small", "two cores")):
        rates = sections.get(name, {}).get("rates")
        if rates:
            lines.append(
                f"- Memory and arithmetic, {told}: copy {rates['copy_gb_s']:.1f} GB/s (read and "
                f"written counted), read {rates['read_int8_gb_s']:.1f} GB/s (a block as large as "
                f"the int8 weights), {rates['read_fp32_gb_s']:.1f} (the fp32 weights); fp32 "
                f"{rates['multiply_fp32_gop_s']:.0f} GFLOP/s, int8 "
                f"{rates.get('multiply_int8_gop_s', float('nan')):.0f} Gop/s"
            )
    return lines


def _table(rows: list[dict[str, Any]]) -> list[str]:
    if not rows:
        return ["Not measured here."]
    if "floor_ms" in rows[0]:
        return _step_table(rows)
    names = [key for key in rows[0] if key not in ("name", "parts_s")]
    headings = " | ".join(_heading(n) for n in names)
    lines = [f"| | {headings} |", "|---" * (len(names) + 1) + "|"]
    for row in rows:
        lines.append(f"| {row['name']} | " + " | ".join(_number(row[n]) for n in names) + " |")
        for part, seconds in row.get("parts_s", {}).items():
            lines.append(f"| of which {part} | {seconds:.3f} |" + " |" * (len(names) - 1))
    return lines


def _step_table(rows: list[dict[str, Any]]) -> list[str]:
    lines = [
        "| | min ms/step | median | frames/s | floor ms | set by | x floor |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row['name']} | {row['min_ms']:.2f} | {row['median_ms']:.2f} | "
        f"{row['frames_per_s']:.0f} | {row['floor_ms']:.2f} | {row['bound']} | "
        f"{row['times_floor']:.1f} |"
        for row in rows
    ]
    return lines


def _heading(key: str) -> str:
    name, _, unit = key.rpartition("_")
    spoken = {"s": "s", "mb": "MB"}.get(unit)
    return f"{name.replace('_', ' ')}, {spoken}" if spoken else key.replace("_", " ")


def _number(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.0f}" if value >= 100 else f"{value:.3g}"
    return str(value)
