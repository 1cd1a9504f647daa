"""Chords: their notes and names, and progressions as musicians write them.

A chord is a note with a suffix: `Am7`, `F#dim`, `Bbmaj9`, `C/E` (what stands below is not kept).
A progression is chords in a row, a bar each (`Am F C G`), or bars parted by `|` whose chords share
them (`Am | F G | C`). `%` is the bar before once more. Sections of a song are parted by `;`, and
`x4` plays one so often: `Am F C G x4; F G Em Am x2`.
"""

import itertools
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from musicgen_rl.data.keys import KEY_NAMES
from musicgen_rl.errors import ConfigError

NO_CHORDS = "none"
"""What is said for chords where none are to be held."""
AUTO_CHORDS = "auto"
"""What is said for chords where some that go with the words are to be found."""
MAX_BARS = 64
MAX_CHORDS_A_BAR = 4

SUFFIXES: dict[str, tuple[int, ...]] = {
    "": (0, 4, 7), "m": (0, 3, 7), "5": (0, 7), "dim": (0, 3, 6), "aug": (0, 4, 8),
    "sus2": (0, 2, 7), "sus4": (0, 5, 7),
    "6": (0, 4, 7, 9), "m6": (0, 3, 7, 9),
    "7": (0, 4, 7, 10), "maj7": (0, 4, 7, 11), "m7": (0, 3, 7, 10), "mmaj7": (0, 3, 7, 11),
    "7sus4": (0, 5, 7, 10), "dim7": (0, 3, 6, 9), "m7b5": (0, 3, 6, 10),
    "add9": (0, 4, 7, 14), "madd9": (0, 3, 7, 14),
    "9": (0, 4, 7, 10, 14), "maj9": (0, 4, 7, 11, 14), "m9": (0, 3, 7, 10, 14),
}  # fmt: skip
"""Suffix -> semitones above the root."""
_ALIASES = {
    "maj": "", "M": "", "min": "m", "-": "m", "o": "dim", "°": "dim", "+": "aug", "sus": "sus4",
    "M7": "maj7", "Δ": "maj7", "Δ7": "maj7", "ma7": "maj7", "j7": "maj7", "min7": "m7", "-7": "m7",
    "min6": "m6", "o7": "dim7", "°7": "dim7", "ø": "m7b5", "ø7": "m7b5", "m7-5": "m7b5",
    "mM7": "mmaj7", "M9": "maj9", "min9": "m9", "m(add9)": "madd9", "(add9)": "add9", "2": "add9",
}  # fmt: skip
_LETTERS = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
_BENDS = {"#": 1, "♯": 1, "b": -1, "♭": -1, "": 0}
_SHARP = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")
_FLAT = ("C", "Db", "D", "Eb", "E", "F", "Gb", "G", "Ab", "A", "Bb", "B")
_CHORD = re.compile(r"([A-G])([#b♯♭]?)([^/\s]*)(?:/[A-G][#b♯♭]?)?")

_WORD = (
    r"[A-G][#b♯♭]?(?:maj|min|dim|aug|sus|add|mM|[mMjΔø°o+-])?(?:\(?(?:maj|add|sus|b|#|-)?\d{1,2}(?!\d)\)?)*"
    r"(?:/[A-G][#b♯♭]?)?(?![\w#♯♭])"
)
_APART = r"(?:\s*[-–—>→,|]+\s*|\s+)"
_AND = r"(?:\s*,)?\s+and\s+"
_ROW = (
    rf"{_WORD}(?:{_APART}{_WORD})+(?:{_AND}(?!A\s+[a-z]){_WORD})?"
    r"(?:\s*+(?:\|\s*+)?[x×]\d{1,2}(?!\w))?"
)
_SONG = re.compile(rf"(?<![\w#♯♭'])({_ROW}(?:\s*;\s*{_ROW})*)")
_TIMES = re.compile(r"[x×](\d{1,4})$")
_SAID = re.compile(r"\b(?:chords?|progressions?|changes)\b", re.IGNORECASE)


@dataclass(frozen=True)
class Chord:
    """A root and notes on it."""

    root: int
    """Semitones above C, 0 to 11."""
    intervals: tuple[int, ...]
    """Semitones above the root, ascending from 0."""

    @property
    def notes(self) -> tuple[int, ...]:
        """Pitch classes, ascending from C."""
        return tuple(sorted({(self.root + step) % 12 for step in self.intervals}))

    @property
    def name(self) -> str:
        """As musicians write it; notes that no suffix has are left out of the name."""
        suffix = next((name for name, shape in SUFFIXES.items() if shape == self.intervals), None)
        if suffix is None:
            suffix = "m" if self.minor else ""
        root = KEY_NAMES[self.root]
        if self.minor:
            root = {"Db": "C#", "Ab": "G#"}.get(root, root)
        return f"{root}{suffix}"

    @property
    def minor(self) -> bool:
        """Whether it has a minor third and no major one."""
        return 3 in self.intervals and 4 not in self.intervals

    def spelt(self, names: Sequence[str]) -> str:
        """Write it with a root out of twelve names, from C."""
        own = self.name
        return names[self.root] + own[2 if own[1:2] in ("#", "b") else 1 :]


@dataclass(frozen=True)
class Section:
    """Bars of chords, played once or several times."""

    bars: tuple[tuple[Chord, ...], ...]
    """Chords of each bar, which share it evenly."""
    times: int = 1


@dataclass(frozen=True)
class Progression:
    """Chords of a piece: its sections, which come round and round."""

    sections: tuple[Section, ...]

    @classmethod
    def of(cls, *bars: tuple[Chord, ...]) -> "Progression":
        """Make one of a single section."""
        return cls((Section(bars),))

    @property
    def bars(self) -> tuple[tuple[Chord, ...], ...]:
        """Chords of each bar, sections as often as they are played."""
        return tuple(bar for part in self.sections for bar in part.bars * part.times)

    def since_last(self, fewest: float) -> tuple[int, ...]:
        """Say for each bar how many bars ago the same place of the same section was last played.

        Args:
            fewest: bars; nearer places do not count.

        Returns:
            Bars back for each of `bars`, the whole coming round and round.
        """
        places = [
            (part.bars, place)
            for part in self.sections
            for _ in range(part.times)
            for place in range(len(part.bars))
        ]
        n, least = len(places), max(1, math.ceil(fewest))
        return tuple(
            next(back for back in range(least, least + n) if places[(i - back) % n] == places[i])
            for i in range(n)
        )

    def within(self, bars: float) -> "Progression":
        """Leave out the sections that so many bars do not reach; the last that is left stands once.

        The whole of it is left where all of several sections are reached.
        """
        starts = itertools.accumulate((len(s.bars) * s.times for s in self.sections), initial=0)
        kept = [s for s, start in zip(self.sections, starts, strict=False) if start < bars]
        if len(kept) == len(self.sections) > 1:
            return self
        last = kept[-1] if kept else self.sections[0]
        return Progression((*kept[:-1], Section(last.bars)))

    @property
    def name(self) -> str:
        """As musicians write it: with sharps or with flats, as the key of its first chord has."""
        first = self.bars[0][0]
        fifths = (first.root + (3 if first.minor else 0)) * 7 % 12
        names = KEY_NAMES if fifths == 0 else (_SHARP if fifths <= 6 else _FLAT)
        return "; ".join(
            _row(part.bars, names) + (f" x{part.times}" if part.times > 1 else "")
            for part in self.sections
        )


def _row(bars: Sequence[Sequence[Chord]], names: Sequence[str]) -> str:
    written = [
        " ".join(c.name if names is KEY_NAMES else c.spelt(names) for c in bar) for bar in bars
    ]
    if all(len(bar) == 1 for bar in bars):
        return " ".join(written)
    return " | ".join(written) + (" |" if len(written) == 1 else "")


def named_chords(text: str) -> Progression | None:
    """Read the chords that a text names, such as "chords Am F C G" or "progression ii-V".

    Letters alone could be words, so the text must speak of chords, a progression or changes, and
    name two or more in a row.

    Returns:
        A bar each, or bars as parted by "|", or sections as parted by ";"; None where it names
        none, or several rows.
    """
    if not _SAID.search(text):
        return None
    rows = []
    for match in _SONG.finditer(text):
        try:
            rows.append(read_progression(";".join(map(_plain, match[1].split(";")))))
        except ConfigError:
            continue
    return rows[0] if len(rows) == 1 else None


def _plain(row: str) -> str:
    """Write a row of chords with spaces between them, parted by other marks in a text."""
    chords, times = _counted(row)
    chords = re.sub(_AND, " ", chords)
    bars = [re.split(_APART, bar.strip()) for bar in chords.split("|")]
    words = (" | " if len(bars) > 1 else " ").join(" ".join(filter(None, bar)) for bar in bars)
    return f"{words} x{times}"


def _counted(section: str) -> tuple[str, int]:
    """Divide a section into its row and how often it is played."""
    section = section.strip()
    found = _TIMES.search(section)
    return (section[: found.start()], int(found[1])) if found else (section, 1)


def read_chord(text: str) -> Chord:
    """Read one chord.

    Raises:
        ConfigError: it is none.
    """
    match = _CHORD.fullmatch(text)
    suffix = match[3] if match else ""
    suffix = _ALIASES.get(suffix, suffix)
    if match is None or suffix not in SUFFIXES:
        raise ConfigError(
            f"{text!r:.30} is not a chord: a chord is a note and one of "
            f"{', '.join(name for name in SUFFIXES if name)}, such as Am, F#7 or Bbmaj7"
        )
    return Chord((_LETTERS[match[1]] + _BENDS[match[2]]) % 12, SUFFIXES[suffix])


def read_progression(text: str) -> Progression:
    """Read a progression such as "Am F C G", "Dm7 | G7 | Cmaj7 | A7 D7" or "Am F x4; C G x2".

    Raises:
        ConfigError: a chord is none, or there are too few or too many.
    """
    parts = text.strip().strip(";").split(";") if isinstance(text, str) else [""]
    sections: list[Section] = []
    for part in parts:
        row, times = _counted(part)
        before = sections[-1].bars[-1] if sections else None
        bars = _read_row(row, sum(len(s.bars) * s.times for s in sections), before)
        if not bars or times < 1:
            raise _no_chords(text)
        sections.append(Section(bars, times))
    if sum(len(part.bars) * part.times for part in sections) > MAX_BARS:
        raise _no_chords(text)
    return Progression(tuple(sections))


def _no_chords(text: object) -> ConfigError:
    return ConfigError(
        f"chords must be 1 to {MAX_BARS} bars, such as 'Am F C G', a chord a bar, 'Am | F G | C', "
        f"or sections, 'Am F C G x4; F G Em Am x2', '{NO_CHORDS}' to hold none, or "
        f"'{AUTO_CHORDS}' to find some that go with the words; got {text!r:.60}"
    )


def _read_row(
    text: str, passed: int, before: tuple[Chord, ...] | None
) -> tuple[tuple[Chord, ...], ...]:
    """Read the bars of a section, none where there are none or too many.

    `passed` bars come first; `before` is the last of them, which a % at the beginning means.
    """
    bars = text.strip().strip("|").split("|") if "|" in text else text.split()
    if len(bars) > MAX_BARS or not any(bar.split() for bar in bars):
        return ()
    read: list[tuple[Chord, ...]] = []
    for number, bar in enumerate(bars, passed + 1):
        words = bar.split()
        last = read[-1] if read else before
        if words == ["%"] and last:
            read.append(last)
            continue
        if not 1 <= len(words) <= MAX_CHORDS_A_BAR:
            raise ConfigError(
                f"bar {number} of the chords has {len(words)}: a bar has 1 to {MAX_CHORDS_A_BAR} "
                f"chords, or % to play the one before again; got {text!r:.60}"
            )
        read.append(tuple(read_chord(word) for word in words))
    return tuple(read)


def chords_order(text: str) -> str:
    """Write an order in one way: a progression's name, NO_CHORDS or AUTO_CHORDS.

    Raises:
        ConfigError: it is none of them.
    """
    word = text.strip().lower() if isinstance(text, str) else ""
    return word if word in (NO_CHORDS, AUTO_CHORDS) else read_progression(text).name
