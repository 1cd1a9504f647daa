"""The tables of pocket's model card, from results that committed commands wrote."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from musicgen_rl.rewards.files import DESCRIPTION
from musicgen_rl.storage import read_json
from musicgen_rl.training.pocket_sizes import JUDGES

ADHERENCE = {
    "style": "style", "named": "named", "score, report": "score, report",
    "diversity, report": "diversity, report", "diversity, training": "diversity, training",
}  # fmt: skip
"""Columns of the adherence table: name in the result -> heading."""
GUIDANCE, TEMPERATURE = 3.0, 1.0
"""Rows with one of the two are shown; the rest is in the result file."""
CEILING, RIGHT = "real, through the codec", "right: "
"""Row of real clips; what begins the names of an attribute's columns."""
AIM = 0.75
"""Share of the probe's accuracy on real clips that clips of the model are to reach."""
FEW = 5
"""A measure of fewer clips than this is left out."""
FIGURES = {
    "encoder": ("recall@1, 5 s", "recall@1, 2 s"),
    "scorer": ("caption-to-clip recall@10", "chance of recall@10"),
    "probe": ("style, original", "style, through the codec"),
}
"""Kind of judge -> figures that are shown."""


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Write a Markdown table."""
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    return "\n".join(lines + [f"| {' | '.join(map(str, row))} |" for row in rows])


def stage_table(
    records: Mapping[str, Mapping[str, Any]], rows: Sequence[Mapping[str, Any]]
) -> tuple[str, str]:
    """Tell what each stage took.

    Args:
        records: stage -> what `make pocket` left behind.
        rows: stages made by hand: stage, what, seconds.

    Returns:
        (table, a sentence about it); both empty without stages.
    """
    if rows:
        cells = [(r["stage"], r["what"], thousands(r["seconds"])) for r in rows]
        return table(("stage", "what", "seconds"), cells), ""
    if not records:
        return "", ""
    cells = [(n, f"{r['seconds_of_last_run']:.0f}", r["machine"]) for n, r in records.items()]
    note = "Seconds are of the last start; a stage that was resumed took longer in all."
    return table(("stage", "seconds", "on"), cells), note


def thousands(value: object) -> str:
    """Write a number with commas; texts stay as they are."""
    return f"{value:,.0f}" if isinstance(value, int | float) else str(value)


def codec_table(reports: Mapping[str, Mapping[str, Any]]) -> str:
    """Tell what the codec keeps: `codec_report`'s figures, a row for each kind of clip."""

    def shown(report: Mapping[str, Any], name: str) -> str:
        low, high = report.get(f"{name}_interval", (None, None))
        return f"{report[name]:.2f}" + ("" if low is None else f" ({low:.2f} to {high:.2f})")

    rows = []
    for clips, report in reports.items():
        moved = report.get("onset_f1_moved")
        rows.append((
            f"{report['clips']} {clips}", f"{report['distance']:.2f}", shown(report, "chroma"),
            shown(report, "onset_f1"), "" if moved is None else f"{moved:.2f}",
            f"{min(report['used']):.2f} to {max(report['used']):.2f}",
        ))  # fmt: skip
    head = ("clips", "distance (asked: 1.8 at most)", "chroma correlation (.9)", "onset F1 (.9)",
            "onset F1 of originals, moved", "codebooks used (.6)")  # fmt: skip
    return table(head, rows)


def usage_words(rows: Sequence[Mapping[str, Any]]) -> str:
    """Tell how the used share of the codebooks grows with the music it is counted over."""
    told = [f"{min(r['used']):.2f} to {max(r['used']):.2f} of {r['hours']:.3g} h" for r in rows]
    return (
        "The share of a codebook that is used grows with the music it is counted over "
        f"(`benchmarks/codec_usage.py`, pieces the codec never learnt from): {', '.join(told)}."
    )


def loss_table(training: Mapping[str, Any]) -> str:
    """Tell the held-out loss of each codebook, with the prompt and without it."""
    given = training.get("loss_per_codebook", [])
    null = training.get("loss_null_per_codebook", [])
    pairs = enumerate(zip(given, null, strict=True), start=1)
    rows = [(k, f"{a:.3f}", f"{b:.3f}") for k, (a, b) in pairs]
    return table(("codebook", "with", "without"), rows)


def loss_course(rows: Sequence[Mapping[str, Any]], points: int = 12) -> str:
    """Tell how the held-out loss went: up to so many (step, loss), evenly, with the last."""
    last = len(rows) - 1
    places = sorted({round(i * last / max(1, points - 1)) for i in range(points)}) if rows else []
    return ", ".join(f"{rows[i]['step']:,}: {rows[i]['loss']:.3f}" for i in places)


def overfit_words(
    curve: Mapping[str, Any], training: Mapping[str, Any], train_hours: float, frame_rate: float
) -> str:
    """Tell the loss of what is learnt from beside the held-out one, at the end of a run.

    Args:
        curve: what `benchmarks/pocket_loss.py` keeps.
        training: figures of the run.
        train_hours: music of the training split.
        frame_rate: frames a second.

    Returns:
        A sentence; empty where the curve has no training loss.
    """
    if not curve.get("train"):
        return ""
    learnt, held = curve["train"][-1]["loss"], curve["valid"][-1]["loss"]
    rounds = training["frames"] / (train_hours * 3600 * frame_rate)
    return (
        f"At the end the music learnt from costs {learnt:.2f} nats a code, dropout included, and "
        f"held-out music {held:.2f}; the run went through {train_hours:g} h about {rounds:.0f} "
        "times."
    )


def heat_words(result: Mapping[str, Any]) -> str:
    """Tell what the temperatures in the heads cost on held-out music."""
    trained, shipped = (result["rows"][name]["loss"] for name in ("as trained", "as shipped"))
    heat = result["rows"]["as shipped"]["temperature"]
    shown = ", ".join(f"{t:g}" for t in heat)
    return (
        f"The shipped heads are those of the run divided by temperatures ({shown}, codebook by "
        f"codebook). `benchmarks/pocket_heat_loss.py`, {result['crops']} crops of "
        f"{result['pieces']} other held-out pieces: {trained:.3f} nats a code without them, "
        f"{shipped:.3f} as shipped."
    )


def adherence_table(result: Mapping[str, Any]) -> str:
    """Tell adherence and diversity at guidance 3 and at temperature 1, real clips first."""
    settings = {row["name"]: row for row in result["rows"]}

    def shown(name: str) -> bool:
        row = settings[name]
        return name.startswith("real") or (
            row["temperature"] == TEMPERATURE or row["guidance_scale"] == GUIDANCE
        )

    rows = [
        (name, *(_cell(values.get(column)) for column in ADHERENCE))
        for name, values in result["table"].items()
        if shown(name)
    ]
    return table(("", *ADHERENCE.values()), rows)


def _cell(entry: Mapping[str, float] | None) -> str:
    if entry is None:
        return ""
    return f"{entry['value']:.2f} ± {(entry['high'] - entry['low']) / 2:.2f}"


def attribute_table(result: Mapping[str, Any], shipped: str) -> str:
    """Tell how much of each kind of attribute is heard, with the captions that ask for it.

    Args:
        result: of `benchmarks/pocket_adherence.py`.
        shipped: name of the row of the shipped sampling.

    Returns:
        A table; empty where either row is missing.
    """
    rows = {row["name"]: row.get("prompts", {}) for row in result["rows"]}
    real, made = rows.get(CEILING), rows.get(shipped)
    if not real or not made:
        return ""
    cells = []
    for key in (key for key in real if key.startswith(RIGHT) and key in made):
        heard = [[v for v in values[key] if v is not None] for values in (real, made)]
        if all(heard):
            shares = [f"{sum(values) / len(values):.2f}" for values in heard]
            cells.append((key.removeprefix(RIGHT).replace("_", " "), len(heard[1]), *shares))
    return table(("heard of", "captions that ask", CEILING, f"pocket, {shipped}"), cells)


def adherence_words(result: Mapping[str, Any], shipped: str = "") -> str:
    """Say what guidance does, and how near to real clips the shipped setting and the best come."""
    found = result["differences"].get(f"temperature {TEMPERATURE:g}: guidance 3 minus 1", {})
    parts = [
        f"{name} {d['value']:+.2f} ({d['low']:+.2f} to {d['high']:+.2f})"
        for name in ("style", "score, report", "diversity, report")
        if (d := found.get(name))
    ]
    shares = {name: s["style"] for name, s in result["share of real"].items() if "style" in s}
    sentences = [f"Guidance 3 against 1 at temperature 1: {'; '.join(parts)}."] if parts else []
    if shares:
        best = max(shares, key=lambda name: shares[name])
        quoted = shipped if shipped in shares else best
        verb = "reaches" if shares[quoted] >= AIM else "falls short of"
        named = result["share of real"][quoted].get("named")
        beside = "" if named is None else f", and what a caption names {named:.0%} as often"
        where = "As it ships" if quoted == shipped else "At its best"
        sentences.append(
            f"{where} ({quoted}) the style asked for is heard {shares[quoted]:.0%} as often as in "
            f"real clips through the codec{beside}, which {verb} the aim, {AIM:.0%}."
        )
        if best != quoted:
            sentences.append(
                f"The best of the {len(shares)} settings for style, {best}, comes to "
                f"{shares[best]:.0%}."
            )
    return " ".join(sentences)


def music_table(result: Mapping[str, Any]) -> str:
    """Tell `pocket_music`'s measures: generated clips beside real ones, where there are a few."""
    rows = [
        (name, *(f"{row[kind]:{row['format']}}" if row.get(kind) is not None else ""
                 for kind in ("made", "real")))
        for name, row in result["summary"].items()
        if min(row["clips"], row["real clips"]) >= FEW
    ]  # fmt: skip
    return table(("measure", "pocket", "real, held out"), rows)


def judge_table(folder: Path) -> str:
    """Tell what each judge of a model folder reaches on held-out pieces; empty without judges."""
    rows = []
    for name in JUDGES:
        if not (folder / name / DESCRIPTION).is_file():
            continue
        described = read_json(folder / name / DESCRIPTION)
        figures = described["facts"].get("figures", {})
        shown = [f"{k} {figures[k]:.2f}" for k in FIGURES[described["kind"]] if k in figures]
        pieces = figures.get("pieces")
        of = f"{pieces:.0f} pieces" if pieces else described["facts"]["held out"].split(":")[0]
        rows.append((name, described["role"], "; ".join(shown), of))
    return table(("judge", "role", "held out", "of"), rows) if rows else ""


def end_table(ends: Mapping[str, Mapping[str, Any]]) -> str:
    """Tell how the ends of the dial were trained, from the notes in their cards."""
    rows = []
    for name, notes in ends.items():
        options, training = notes["endpoint"], notes["training"]
        clips = options["prompts_per_step"] * options["clips_per_prompt"]
        rows.append((
            name, f"{options['diversity_weight']:g}", options["train"], training["steps"],
            f"{clips} x {options['clip_s']:g} s", thousands(training["seconds"]),
        ))  # fmt: skip
    head = ("end", "diversity weight", "trained", "steps", "clips a step", "seconds")
    return table(head, rows) if rows else ""
