"""Chord progressions that much music is made of, in roman numerals.

Which of them goes with which words is learnt (text/progression.py); the order of the tables belongs
to what was learnt: another order needs it to be learnt again.
"""

import itertools

from musicgen_rl.data.chords import Chord, Progression, Section
from musicgen_rl.data.keys import MODES, Key
from musicgen_rl.data.pocket.theory import parse_progression

MAJOR: tuple[str, ...] = (
    "I | vi | IV | V", "I | V | vi | iii | IV | I | ii7 | V7", "Imaj7 | iii7 | IVmaj7 | V",
    "I | ii7 | V7 | I", "I | IV | I | V", "I | IV | V7 | I", "I | vi | ii7 | V7",
    "I | V7 | I | IV | ii | V7 | I | I", "I | IV V | vi | ii V7", "I | V | vi | IV",
    "I | bVII | IV | I", "I | II | IV | I", "I | IV | vi | V", "I | bVI | bVII | I",
    "I | I | IV | V", "I | I | V7 | V7 | V7 | V7 | I | I", "I | IV | I | V7",
    "I | I | IV | I | ii | I | V7 | I", "I | III7 | vi | II7 | IV | I | V7 | I",
    "I | V | vi | iii | IV | I | IV | V", "I | IV V | I | V7", "I | vi | ii | V7",
    "I | IV | I V | I", "I V | vi iii | IV I | V", "Imaj7 | vi7 | ii7 | V7",
    "ii7 | V7 | Imaj7 | VI7", "Imaj7 IV7 | iii7 VI7 | ii7 | V7",
    "Imaj7 | Imaj7 | II7 | II7 | ii7 | V7 | Imaj7 | V7", "Imaj9 | IV7 | iii7 VI7 | ii7 V7",
    "I7 | IV7 | I7 | I7 | IV7 | IV7 | I7 | I7 | V7 | IV7 | I7 | V7", "I | IV | V | IV",
    "I5 | IV5 | I5 | V5", "I9 | I9 | IV9 | I9", "I7 | bVII | IV7 | I7", "I | ii | I | ii",
    "I | IV | V7 | IV", "Imaj7 | ii7 | V7 | Imaj7", "I | I | IV | I", "I | V7 | V7 | I",
    "IVmaj7 | iii7 | ii7 | Imaj7", "Imaj9 | vi7 | ii9 | V7", "IVmaj7 | V | iii7 | vi7",
    "Imaj7 | Imaj7 | IVmaj7 | IVmaj7", "Iadd9 | II | Iadd9 | IV", "Imaj9 | vi7 | IVmaj7 | V",
    "vi | IV | I | V", "I | IV | V | I", "IV | V | iii | vi", "I | bVII | IV | V",
    "IV | I | V | vi", "I | iii | IV | V", "Imaj7 | vi7 | ii7 | V", "I | vi | ii | V",
    "Imaj7 | IVmaj7 | iii7 | vi7", "I | VI7 | II7 | V7 | I | VI7 | II7 V7 | I",
    "I | I7 | IV | iv | I | II7 | V7 | I", "I | VI7 | ii | V7",
)  # fmt: skip
"""For keys with a major third."""

MINOR: tuple[str, ...] = (
    "i | bVI | bIII | bVII", "i | iv | V7 | i", "i | bVII | bVI | V",
    "i | iv7 | bVII | bIII | bVI | iih7 | V7 | i", "i | bVI | iv | V7",
    "i | V7 | i | bVII | bIII | iv | V7 | i", "i | i | bVI | V", "i | bVII | bVI | bVII",
    "i | iv | bVI | V", "i | bIII | bVII | iv", "i | IV | i | bVII", "i | i | V7 | i",
    "i | iv | i | V7", "i | bVII | bIII | V7", "i | iv | bVII | bIII | bVI | iih7 | V7 | i",
    "i | V7 | i | V7", "i | iv | V | i", "i bVII | bVI | iv | V", "i | bIII | iv | V",
    "i7 | iih7 V7 | i7 | V7", "i7 | iv7 | iih7 | V7", "i7 | IV7 | i7 | IV7", "i7 | i7 | iv7 | V7",
    "i9 | bVImaj7 | iih7 | V7", "i7 | iv7 | i7 | i7 | iv7 | iv7 | i7 | i7 | bVI7 | V7 | i7 | V7",
    "i5 | bVII5 | bVI5 | bVII5", "i | bVII | IV | i", "i5 | i5 | bVI5 | bVII5",
    "i5 | bII5 | i5 | bII5", "i5 | i5 | bIII5 | bII5", "i5 | bVI5 | bIII5 | bVII5",
    "i9 | i9 | iv7 | i9", "i7 | i7 | bIII | IV", "i | iv | i | bVII", "i | iv | i | iv",
    "i7 | IV7 | i7 | V7", "i | bVII | bVI | V7", "i9 | iv7 | bVImaj7 | V7",
    "i7 | bVImaj7 | bIIImaj7 | bVII", "bVImaj7 | bVII | i7 | i7", "i7 | bVI | bIII | bVII",
    "i7 | iv7 | i7 | bVII", "i9 | bVImaj7 | i9 | v7", "i5 | i5 | i5 | i5", "i | i | bII | i",
    "i | i | i | bVII", "i9 | i9 | bVImaj7 | bVImaj7", "iadd9 | bVII | bVImaj7 | bVII",
    "i7 | iv7 | i7 | iv7", "i | iv | bVI | bVII", "i | bVI | bVII | i", "i | iv | bVII | bIII",
    "i | i | bVII | bVI", "i | bVI | i | bVII", "i7 | iv7 | i7 | V7", "i | bII | i | bII",
    "bVI | bVII | i | i", "i7 | bVII | bVI | V7", "i | V7 | i | V7 | iv | i | V7 | i",
    "i | V7 | V7 | i",
)  # fmt: skip
"""For keys with a minor third."""

PROGRESSIONS = MAJOR + MINOR


FORMS = ("AB", "AAB", "ABB")
"""Orders of two progressions through a piece, which come round and round."""
SECTION_BARS = 16
"""About how many bars a section has: progressions are played until they fill it. So half a minute
is mostly one of them, and comes back (docs/experiments/2026-11-30-chords.md)."""


def in_key(progression: str, tonic: int) -> Progression:
    """Give a progression in roman numerals its chords on a tonic, semitones above C."""
    return Progression.of(*_bars(progression, tonic))


def in_form(first: str, second: str, form: str, tonic: int) -> Progression:
    """Lay out a piece of two progressions in roman numerals.

    Args:
        first: A.
        second: B; the same as A makes a piece of one.
        form: a letter for each section.
        tonic: semitones above C.
    """
    if first == second:
        return in_key(first, tonic)
    sections = []
    for letter, run in itertools.groupby(form):
        bars = _bars(first if letter == "A" else second, tonic)
        fill = max(1, round(SECTION_BARS / len(bars)))
        sections.append(Section(bars, fill * len(list(run))))
    return Progression(tuple(sections))


def _bars(progression: str, tonic: int) -> tuple[tuple[Chord, ...], ...]:
    return tuple(
        tuple(Chord((tonic + chord.root) % 12, chord.intervals) for chord in bar)
        for bar in parse_progression(progression)
    )


def goes_with(key: Key) -> tuple[str, ...]:
    """List the progressions for keys of one third: MAJOR or MINOR."""
    return MAJOR if 4 in MODES[key.scale] else MINOR
