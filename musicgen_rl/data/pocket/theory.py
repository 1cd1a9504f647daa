"""Scales, chords and voicings: pitch arithmetic and nothing else.

Chords are written as roman numerals against the major scale of the tonic: `bVII`, `ii7`, `V`,
`Imaj7`, `vii0`, `IVadd9`, `i5` (a power chord). Upper case is major, lower case minor.
"""

import re
from dataclasses import dataclass
from itertools import pairwise

from musicgen_rl.data.keys import MODES

PENTATONIC = {"major": (0, 2, 4, 7, 9), "minor": (0, 3, 5, 7, 10)}
BLUES = {"major": (0, 2, 3, 4, 7, 9, 10), "minor": (0, 3, 5, 6, 7, 10)}

_DEGREES = {"I": 0, "II": 2, "III": 4, "IV": 5, "V": 7, "VI": 9, "VII": 11}
_CHORD = re.compile(r"^([b#]?)([IViv]+)(.*)$")
_SUFFIXES: dict[str, tuple[int, ...]] = {
    "7": (10,),
    "maj7": (11,),
    "6": (9,),
    "9": (10, 14),
    "maj9": (11, 14),
    "add9": (14,),
}
_SHAPES: dict[str, tuple[int, ...]] = {
    "5": (0, 7),
    "sus4": (0, 5, 7),
    "sus2": (0, 2, 7),
    "7sus4": (0, 5, 7, 10),
    "0": (0, 3, 6),
    "07": (0, 3, 6, 9),
    "h7": (0, 3, 6, 10),
    "+": (0, 4, 8),
}


@dataclass(frozen=True)
class Chord:
    """A chord relative to the tonic."""

    root: int
    """Semitones above the tonic, 0 to 11."""
    intervals: tuple[int, ...]
    """Semitones above the root, ascending, starting at 0."""

    def pitch_classes(self, tonic: int) -> tuple[int, ...]:
        """Pitch classes of the chord's tones, root first."""
        return tuple((tonic + self.root + i) % 12 for i in self.intervals)


def family(mode: str) -> str:
    """Return "major" or "minor": which third the mode has."""
    return "major" if 4 in MODES[mode] else "minor"


def parse_chord(text: str) -> Chord:
    """Read one roman numeral.

    Raises:
        ValueError: if `text` is not a chord of this notation.
    """
    match = _CHORD.match(text)
    if match is None or match[2].upper() not in _DEGREES:
        raise ValueError(f"not a chord: {text!r}")
    accidental, numeral, suffix = match.groups()
    root = (_DEGREES[numeral.upper()] + {"b": -1, "#": 1, "": 0}[accidental]) % 12
    if suffix in _SHAPES:
        return Chord(root, _SHAPES[suffix])
    triad = (0, 4, 7) if numeral.isupper() else (0, 3, 7)
    if suffix == "":
        return Chord(root, triad)
    if suffix not in _SUFFIXES:
        raise ValueError(f"unknown chord suffix {suffix!r} in {text!r}")
    return Chord(root, triad + _SUFFIXES[suffix])


def parse_progression(text: str) -> list[list[Chord]]:
    """Read bars separated by `|`; chords within a bar share it evenly."""
    return [[parse_chord(word) for word in bar.split()] for bar in text.split("|")]


def scale_over(tonic: int, scale: tuple[int, ...], chord: Chord) -> frozenset[int]:
    """Return the pitch classes a melody may use: the scale, bent to the chord.

    A scale tone a semitone from a chord tone that is foreign to the scale gives way to it, so the
    dominant of a minor key raises the seventh.
    """
    tones = set(chord.pitch_classes(tonic))
    notes = {(tonic + s) % 12 for s in scale}
    foreign = tones - notes
    kept = {n for n in notes if n in tones or not any((n - f) % 12 in (1, 11) for f in foreign)}
    return frozenset(kept | tones)


def pitches_between(classes: frozenset[int] | tuple[int, ...], low: int, high: int) -> list[int]:
    """List the MIDI pitches of some pitch classes in [low, high], ascending."""
    wanted = set(classes)
    return [p for p in range(low, high + 1) if p % 12 in wanted]


def nearest(pitches: list[int], target: float) -> int:
    """Return the pitch nearest to `target` (the lower one in a tie)."""
    return min(pitches, key=lambda p: (abs(p - target), p))


def voice_chord(
    chord: Chord, tonic: int, center: float, previous: tuple[int, ...], size: int
) -> tuple[int, ...]:
    """Choose a close voicing that moves little from the one before.

    Args:
        chord: what to voice.
        tonic: pitch class of the key.
        center: MIDI pitch around which the voicing lies.
        previous: the last voicing, or () at the start.
        size: how many notes; tones repeat an octave up where the chord has fewer.

    Returns:
        Ascending MIDI pitches.
    """
    classes = chord.pitch_classes(tonic)
    if len(classes) > size:  # keep the third and the colour tones, drop the fifth, then the root
        drop = [c for c in (classes[2], classes[0]) if len(classes) - size > 0]
        classes = tuple(c for c in classes if c not in drop[: len(classes) - size])
    ladder = pitches_between(classes, int(center) - 14, int(center) + 14)
    options = [
        tuple(ladder[i : i + size])
        for i in range(len(ladder) - size + 1)
        if all(b - a >= 1 for a, b in pairwise(ladder[i : i + size]))
    ]

    def cost(option: tuple[int, ...]) -> tuple[float, int]:
        away = abs(sum(option) / len(option) - center)
        if not previous:
            return (away, option[0])
        moved = sum(min(abs(p - q) for q in previous) for p in option)
        return (moved + 0.35 * away, option[0])

    return min(options, key=cost)
