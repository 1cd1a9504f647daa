"""Read single-voice tunes in ABC notation, as far as the collections of dance tunes need it.

Repeats are ignored, grace notes and decorations skipped, the top note of a chord kept.
Source: the ABC standard 2.1, sections 3 (header), 4 (notes) and 4.13 (tuplets).
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

_STEPS = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
_SHARPS, _FLATS = "FCGDAEB", "BEADGCF"
_FIFTHS = {"major": 0, "mixolydian": -1, "dorian": -2, "minor": -3}
_CIRCLE = {"F": -1, "C": 0, "G": 1, "D": 2, "A": 3, "E": 4, "B": 5}
_TOKEN = re.compile(
    r"(?P<skip>\{[^}]*\}|\"[^\"]*\"|![^!]*!|%[^\n]*|\[[A-Za-z]:[^\]]*\]|\\\n|[~.uvTHMLPSO`$&y])"
    r"|(?P<tuplet>\(\d)"
    r"|(?P<chord>\[(?:[\^_=]*[A-Ga-g][,']*[\d/]*)+\])(?P<clen>[\d/]*)"
    r"|(?P<note>(?P<acc>[\^_=]*)(?P<name>[A-Ga-gzx])(?P<oct>[,']*)(?P<len>[\d/]*))"
    r"|(?P<broken>[<>]+)"
    r"|(?P<bar>:?\|+[\]:]*|::|\[\d|\|\d)"
    r"|(?P<other>.|\n)"
)


@dataclass(frozen=True)
class Tune:
    """A melody in its own key."""

    title: str
    """First title."""
    numerator: int
    """Of the time signature."""
    denominator: int
    """Of the time signature."""
    tonic: int
    """Pitch class."""
    mode: str
    """major, minor, dorian or mixolydian."""
    bars: tuple[tuple[tuple[float, float, int], ...], ...]
    """Full bars of (start, duration, pitch); times in quarter notes from the bar's beginning."""


def read_tunes(text: str) -> Iterator[Tune]:
    """Yield the tunes of a file that this reader understands; the others are left out."""
    for block in re.split(r"\n(?=X:)", "\n" + text):
        tune = _read_tune(block)
        if tune is not None:
            yield tune


def _read_tune(block: str) -> Tune | None:
    header: dict[str, str] = {}
    body: list[str] = []
    for line in block.splitlines():
        match = re.match(r"^([A-Za-z]):\s*(.*)$", line)
        if match and (not body or match[1] not in "KM"):
            header.setdefault(match[1], match[2].split("%")[0].strip())
        elif match:
            return None  # changes of key or metre inside a tune
        elif header.get("K") and not line.startswith("%"):
            body.append(line)
    key = _read_key(header.get("K", ""))
    meter = {"C": "4/4", "C|": "2/2"}.get(header.get("M", "C"), header.get("M", ""))
    numbers = re.match(r"^(\d+)/(\d+)$", meter)
    if key is None or numbers is None or "V" in header:
        return None
    numerator, denominator = int(numbers[1]), int(numbers[2])
    if denominator not in (2, 4, 8):
        return None
    unit = header.get("L", "1/8" if numerator / denominator >= 0.75 else "1/16")
    length = re.match(r"^1/(\d+)$", unit)
    if length is None:
        return None
    tonic, mode, accidentals = key
    full = Fraction(4 * numerator, denominator)
    bars = _read_bars("\n".join(body), Fraction(4, int(length[1])), accidentals, full)
    if len(bars) < 6:
        return None
    return Tune(header.get("T", "untitled"), numerator, denominator, tonic, mode, tuple(bars))


def _read_key(text: str) -> tuple[int, str, dict[str, int]] | None:
    match = re.match(r"^([A-G])([b#]?)\s*([A-Za-z]*)", text)
    if match is None:
        return None
    name = match[3].lower()[:3]
    modes = {"": "major", "maj": "major", "m": "minor", "min": "minor", "aeo": "minor",
             "dor": "dorian", "mix": "mixolydian", "ion": "major"}  # fmt: skip
    if name not in modes:
        return None
    mode = modes[name]
    shift = {"b": -1, "#": 1, "": 0}[match[2]]
    fifths = _CIRCLE[match[1]] + 7 * shift + _FIFTHS[mode]
    if not -7 <= fifths <= 7:
        return None
    sharp = dict.fromkeys(_SHARPS[: max(0, fifths)], 1)
    flat = dict.fromkeys(_FLATS[: max(0, -fifths)], -1)
    return (_STEPS[match[1]] + shift) % 12, mode, {**sharp, **flat}


def _read_length(text: str) -> Fraction:
    if not text:
        return Fraction(1)
    top, slash, bottom = text.partition("/")
    number = Fraction(int(top or 1))
    if not slash:
        return number
    halves = text.count("/")
    bottom = bottom.strip("/")
    return number / (int(bottom) if bottom else 2**halves)


def _read_bars(
    text: str, unit: Fraction, key: dict[str, int], full: Fraction
) -> list[tuple[tuple[float, float, int], ...]]:
    """Split into bars; a bar of another length than `full` (an upbeat, an ending) is merged or cut.

    Two neighbours that make up one full bar are joined; other odd bars are dropped.
    """
    bars: list[list[tuple[Fraction, Fraction, int]]] = [[]]
    lengths: list[Fraction] = [Fraction(0)]
    inside: dict[tuple[str, int], int] = {}
    broken = Fraction(1)
    tuplet_left, tuplet = 0, Fraction(1)
    for match in _TOKEN.finditer(text):
        if match["bar"]:
            inside.clear()
            if lengths[-1] > 0:
                bars.append([])
                lengths.append(Fraction(0))
        elif match["tuplet"]:
            count = int(match["tuplet"][1])
            tuplet_left = count
            tuplet = {2: Fraction(3, 2), 3: Fraction(2, 3), 4: Fraction(3, 4),
                      6: Fraction(2, 6)}.get(count, Fraction(1))  # fmt: skip
        elif match["broken"] and bars[-1]:
            start, duration, pitch = bars[-1][-1]
            factor = Fraction(3, 2) if match["broken"][0] == ">" else Fraction(1, 2)
            lengths[-1] += duration * factor - duration
            bars[-1][-1] = (start, duration * factor, pitch)
            broken = 2 - factor
        elif match["note"] or match["chord"]:
            if match["chord"]:
                inner = re.findall(r"([\^_=]*)([A-Ga-g])([,']*)([\d/]*)", match["chord"])
                accidental, name, octave, own = inner[-1]
                size = _read_length(own) * _read_length(match["clen"])
            else:
                accidental, name, octave = match["acc"], match["name"], match["oct"]
                size = _read_length(match["len"])
            duration = unit * size * broken
            broken = Fraction(1)
            if tuplet_left:
                duration, tuplet_left = duration * tuplet, tuplet_left - 1
            if name not in "zx":
                pitch = _pitch(accidental, name, octave, key, inside)
                bars[-1].append((lengths[-1], duration, pitch))
            lengths[-1] += duration
    return _whole_bars(bars, lengths, full)


def _pitch(
    accidental: str, name: str, octave: str, key: dict[str, int], inside: dict[tuple[str, int], int]
) -> int:
    height = (1 if name.islower() else 0) + octave.count("'") - octave.count(",")
    letter = name.upper()
    place = (letter, height)
    if accidental:
        inside[place] = accidental.count("^") - accidental.count("_")
    alter = inside.get(place, key.get(letter, 0))
    return 60 + 12 * height + _STEPS[letter] + alter


def _whole_bars(
    bars: list[list[tuple[Fraction, Fraction, int]]], lengths: list[Fraction], full: Fraction
) -> list[tuple[tuple[float, float, int], ...]]:
    found: list[tuple[tuple[float, float, int], ...]] = []
    waiting: tuple[list[tuple[Fraction, Fraction, int]], Fraction] | None = None
    for notes, length in zip(bars, lengths, strict=True):
        if length == full:
            waiting = None
            found.append(tuple((float(s), float(d), p) for s, d, p in notes))
        elif length < full and waiting is not None and waiting[1] + length == full:
            moved = [(s + waiting[1], d, p) for s, d, p in notes]
            found.append(tuple((float(s), float(d), p) for s, d, p in waiting[0] + moved))
            waiting = None
        elif length < full:
            waiting = (notes, length)
    return found
