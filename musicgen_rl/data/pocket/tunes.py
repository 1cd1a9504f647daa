"""Public-domain tunes: where they are, which of them are the same, and their chords.

The tunes come from collections that music21 carries: Aird's airs (1778-1801), Ryan's Mammoth
Collection (1883) and O'Neill's Music of Ireland. We take the notes and make our own arrangements.
"""

import functools
import hashlib
import re
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

from musicgen_rl.data.pocket.abc import Tune, read_tunes
from musicgen_rl.data.pocket.score import Note
from musicgen_rl.data.pocket.theory import Chord, parse_chord
from musicgen_rl.errors import InputError

COLLECTIONS = ("airdsAirs", "ryansMammoth", "oneills1850")
"""Folders of music21's corpus; the ABC files in them are free of restrictions."""

_CHORDS = {
    "major": {"I": 0.0, "IV": 0.1, "V": 0.1, "vi": 0.35, "ii": 0.35, "V7": 0.25},
    "mixolydian": {"I": 0.0, "bVII": 0.05, "IV": 0.2, "v": 0.4, "ii": 0.5},
    "minor": {"i": 0.0, "iv": 0.15, "V": 0.25, "bVII": 0.15, "bVI": 0.3, "bIII": 0.3},
    "dorian": {"i": 0.0, "bVII": 0.05, "IV": 0.2, "v": 0.4, "bIII": 0.35},
}
_SIGNATURE_NOTES = 14


@dataclass(frozen=True)
class Borrowed:
    """A tune laid out in bars of three or four quarter notes."""

    title: str
    """Title as printed."""
    identity: str
    """Shared by all versions of the tune."""
    beats: int
    """Beats a bar, 3 or 4."""
    triplets: bool
    """Whether it came from a compound metre, so that its beats divide in three."""
    tonic: int
    """Pitch class."""
    mode: str
    """Name of the mode."""
    bars: tuple[tuple[Note, ...], ...]
    """Notes of each bar, starts from the bar's beginning."""


def lay_out(tune: Tune, identity: str) -> Borrowed | None:
    """Bring a tune into bars of three or four beats, or return None if it does not fit.

    Two bars of 2/4 become one; the dotted quarters of 6/8, 9/8 and 12/8 become beats.
    """
    scale, beats, triplets = 1.0, tune.numerator * 4 / tune.denominator, False
    if tune.denominator == 8 and tune.numerator % 3 == 0 and tune.numerator > 3:
        scale, beats, triplets = 2 / 3, tune.numerator / 3, True
    bars = [tuple(Note(s * scale, d * scale, p, 84) for s, d, p in bar) for bar in tune.bars]
    if beats == 2:
        if len(bars) % 2:
            bars.append(())
        pairs = zip(bars[::2], bars[1::2], strict=True)
        bars = [
            a + tuple(Note(n.start + 2, n.duration, n.pitch, n.velocity) for n in b)
            for a, b in pairs
        ]
        beats = 4
    if beats not in (3, 4) or not any(bars):
        return None
    pitches = [n.pitch for bar in bars for n in bar]
    if max(pitches) - min(pitches) > 26:
        return None
    return Borrowed(tune.title, identity, int(beats), triplets, tune.tonic, tune.mode, tuple(bars))


def folder() -> Path:
    """Return the folder of music21's corpus.

    Raises:
        InputError: if music21 is not installed.
    """
    spec = find_spec("music21")
    if spec is None or spec.origin is None:
        raise InputError("music21 is not installed: pip install 'musicgen-rl[train]', or tunes=0")
    return Path(spec.origin).parent / "corpus"


@functools.cache
def library() -> tuple[Borrowed, ...]:
    """Read all usable tunes, in a fixed order; versions of one tune share an identity."""
    tunes = []
    for name in COLLECTIONS:
        for path in sorted((folder() / name).glob("*.abc")):
            tunes += list(read_tunes(path.read_text(encoding="utf-8", errors="replace")))
    found = []
    for tune, identity in zip(tunes, identities(tunes), strict=True):
        laid = lay_out(tune, identity)
        if laid is not None:
            found.append(laid)
    return tuple(found)


def identities(tunes: list[Tune]) -> list[str]:
    """Give tunes with the same title or the same opening notes one name.

    Args:
        tunes: all tunes at once.

    Returns:
        A name for each.
    """
    parent = list(range(len(tunes)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    first: dict[str, int] = {}
    for i, tune in enumerate(tunes):
        for mark in (f"t/{plain_title(tune.title)}", f"n/{opening(tune)}"):
            j = first.setdefault(mark, i)
            parent[max(root(i), root(j))] = min(root(i), root(j))
    return [
        f"tune-{hashlib.sha256(_name(tunes[root(i)]).encode()).hexdigest()[:10]}"
        for i in range(len(tunes))
    ]


def _name(tune: Tune) -> str:
    return f"{plain_title(tune.title)}/{opening(tune)}"


def plain_title(title: str) -> str:
    """Fold a title to what versions of it share."""
    text = title.lower().replace("'", "")
    text = re.sub(r"\b(the|a|an|reel|jig|hornpipe|march|strathspey|air|slip)\b", " ", text)
    return "".join(re.findall(r"[a-z]+", text)) or title.lower()


def opening(tune: Tune) -> str:
    """Return the first intervals of a tune as text; a transposed version has the same."""
    pitches = [p for bar in tune.bars for _, _, p in bar][: _SIGNATURE_NOTES + 1]
    return ",".join(str(b - a) for a, b in pairwise(pitches))


def harmonize(tune: Borrowed) -> list[list[Chord]]:
    """Choose a chord for every bar, by how long its tones sound and where chords like to go.

    Args:
        tune: melody in bars.

    Returns:
        One chord a bar; the last is the tonic's.

    Source: the Viterbi algorithm over bars.
    """
    names = list(_CHORDS[tune.mode])
    home = names[0]
    chords = {name: parse_chord(name) for name in names}
    best: list[dict[str, tuple[float, str | None]]] = []
    for index, bar in enumerate(tune.bars):
        row: dict[str, tuple[float, str | None]] = {}
        for name in names:
            tones = set(chords[name].pitch_classes(tune.tonic))
            cost = _CHORDS[tune.mode][name] + sum(
                n.duration * (1.5 if n.start % 1 == 0 else 1.0)
                for n in bar
                if n.pitch % 12 not in tones
            )
            if name != home and index in (0, len(tune.bars) - 1):
                cost += 2.0 if index == 0 else 50.0
            if not best:
                row[name] = (cost, None)
                continue
            before = min(names, key=lambda p: best[-1][p][0] + _move(p, name))
            row[name] = (best[-1][before][0] + _move(before, name) + cost, before)
        best.append(row)
    name = min(names, key=lambda n: best[-1][n][0])
    path = [name]
    for row in reversed(best[1:]):
        previous = row[path[-1]][1]
        assert previous is not None
        path.append(previous)
    return [[chords[n]] for n in reversed(path)]


def _move(before: str, after: str) -> float:
    """Cost of going from one chord to another."""
    if before == after:
        return 0.15
    return 0.6 if before in ("V", "V7") and after in ("IV", "ii", "iv") else 0.0
