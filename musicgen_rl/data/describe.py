"""Count what a manifest holds, as Markdown tables."""

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from musicgen_rl.data.manifest import Entry, read_manifest

LISTED = ("tempo_band", "mode", "meter", "density_band", "register", "dynamics", "drums",
          "soundfont")  # fmt: skip
"""Attributes with few values, counted in one table."""


def describe_manifest(path: Path) -> str:
    """Describe a manifest in Markdown.

    Args:
        path: the jsonl file.

    Returns:
        Tables: splits, captions, styles, other attributes, moods, instruments. Attributes that no
        entry has are left out.

    Raises:
        InputError: if the manifest cannot be read.
    """
    entries = read_manifest(path)
    parts = [_splits(entries), _captions(entries)]
    if any("style" in e.attributes for e in entries):
        parts.append(_styles(entries))
    rows = [
        (name, value, f"{100 * n / len(entries):.1f} %")
        for name in LISTED
        for value, n in Counter(
            str(e.attributes[name]) for e in entries if name in e.attributes
        ).most_common()
    ]
    if rows:
        parts.append(table(("attribute", "value", "share of pieces"), rows))
    for name in ("moods", "instruments"):
        counts = Counter(v for e in entries for v in e.attributes.get(name, ()))
        if counts:
            cells = [(value, n) for value, n in counts.most_common(40)]
            parts.append(table((name, "pieces"), cells))
    return "\n\n".join(parts) + "\n"


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Write a Markdown table."""
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    lines += [f"| {' | '.join(str(cell) for cell in row)} |" for row in rows]
    return "\n".join(lines)


def _hours(entries: Sequence[Entry]) -> float:
    return sum(e.duration_s or 0.0 for e in entries) / 3600


def _splits(entries: list[Entry]) -> str:
    rows = []
    for split in ("train", "valid", "test"):
        own = [e for e in entries if e.split == split]
        rows.append((split, len(own), len({e.piece for e in own}), f"{_hours(own):.2f}"))
    pieces = len({e.piece for e in entries})
    rows.append(("all", len(entries), pieces, f"{_hours(entries):.2f}"))
    return table(("split", "files", "pieces", "hours"), rows)


def _captions(entries: list[Entry]) -> str:
    captions = [c for e in entries for c in e.captions]
    words = [len(c.split()) for c in captions]
    vocabulary = {w.strip(".,").lower() for c in captions for w in c.split()}
    borrowed = [e for e in entries if e.attributes.get("tune")]
    rows = [
        ("captions", len(captions)),
        ("different captions", len(set(captions))),
        ("words a caption, mean", f"{sum(words) / len(words):.1f}"),
        ("words a caption, least and most", f"{min(words)} to {max(words)}"),
        ("different words", len(vocabulary)),
        ("hours on public-domain tunes", f"{_hours(borrowed):.2f}"),
    ]
    return table(("of the captions", ""), rows)


def _styles(entries: list[Entry]) -> str:
    rows = []
    styles = sorted({e.attributes["style"] for e in entries if "style" in e.attributes})
    for style in styles:
        own = [e for e in entries if e.attributes.get("style") == style]
        tempos = sorted(e.attributes["tempo_bpm"] for e in own)
        minor = sum(e.attributes["mode"] == "minor" for e in own) / len(own)
        drums = sum(bool(e.attributes["drums"]) for e in own) / len(own)
        rows.append(
            (style, len(own), f"{_hours(own):.2f}", f"{tempos[0]} to {tempos[-1]}",
             f"{100 * minor:.0f} %", f"{100 * drums:.0f} %")
        )  # fmt: skip
    return table(("style", "pieces", "hours", "bpm", "minor", "drums"), rows)
