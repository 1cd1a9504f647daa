"""Keys: their notes, their names, and the one that a text names."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from musicgen_rl.errors import ConfigError

KEY_NAMES = ("C", "Db", "D", "Eb", "E", "F", "F#", "G", "Ab", "A", "Bb", "B")

MODES: dict[str, tuple[int, ...]] = {
    "major": (0, 2, 4, 5, 7, 9, 11),
    "minor": (0, 2, 3, 5, 7, 8, 10),
    "dorian": (0, 2, 3, 5, 7, 9, 10),
    "phrygian": (0, 1, 3, 5, 7, 8, 10),
    "lydian": (0, 2, 4, 6, 7, 9, 11),
    "mixolydian": (0, 2, 4, 5, 7, 9, 10),
    "harmonic minor": (0, 2, 3, 5, 7, 8, 11),
}
NO_KEY = "none"
"""What is said for a key where none is to be held."""
AUTO_KEY = "auto"
"""What is said for a key where one that goes with the words is to be found, if they name none."""

_SPELLED = {
    name: {"Db": "C#", "Ab": "G#"} for name in ("minor", "dorian", "phrygian", "harmonic minor")
}
_LETTERS = {"c": 0, "d": 2, "e": 4, "f": 5, "g": 7, "a": 9, "b": 11}
_BENDS = {"sharp": 1, "#": 1, "♯": 1, "flat": -1, "b": -1, "♭": -1, "": 0}
_ALIASES = {
    "m": "minor", "min": "minor", "natural minor": "minor", "aeolian": "minor",
    "maj": "major", "ionian": "major", "": "major",
}  # fmt: skip
_TONIC = r"(?P<letter>[a-g])(?:[ -]?(?P<word>sharp|flat)|(?P<sign>[#b♯♭]))?"
_MODE = "|".join(sorted([*MODES, "natural minor", "aeolian", "ionian"], key=len, reverse=True))
_INTRODUCED = r"(?P<of>\bin(?: the key of)? |\bkey(?: of|:)? )?"
_NAMED = re.compile(
    rf"{_INTRODUCED}(?<![\w#♯♭]){_TONIC}(?:[ -](?P<mode>{_MODE})|[ -]?(?P<short>min|maj|m))\b"
    r"(?P<key>[ -]key\b)?",
    re.IGNORECASE,
)
_KEY_OF = re.compile(
    rf"\bkey of (?<![\w#♯♭]){_TONIC}(?![\w#♯♭'-]| (?:{_MODE}|sharp|flat))", re.IGNORECASE
)
_WRITTEN = re.compile(rf"{_TONIC}(?:[ -]?(?P<mode>{_MODE}|min|maj|m))", re.IGNORECASE)


@dataclass(frozen=True)
class Key:
    """A tonic and a scale on it."""

    tonic: int
    """Semitones above C, 0 to 11."""
    scale: str
    """One of MODES."""

    @property
    def name(self) -> str:
        """As musicians spell it: C# minor rather than Db minor."""
        tonic = KEY_NAMES[self.tonic]
        return f"{_SPELLED.get(self.scale, {}).get(tonic, tonic)} {self.scale}"

    @property
    def notes(self) -> tuple[int, ...]:
        """Pitch classes of the scale, the tonic first, C is 0."""
        return tuple((self.tonic + step) % 12 for step in MODES[self.scale])


def named_key(text: str) -> Key | None:
    """Read the key that a text names, such as "in D minor", "F#m" or "key of Bb".

    "A minor key" says no more than minor, and "a major theme" no key.

    Returns:
        The key; None where it names none, or several.
    """
    found = {_key(match) for match in _NAMED.finditer(text) if _is_key(match)}
    found |= {_key(match) for match in _KEY_OF.finditer(text)}
    return found.pop() if len(found) == 1 else None


def read_key(text: str) -> Key:
    """Read a key that stands by itself, such as "D minor", "F#m", "B flat major" or "G dorian".

    Raises:
        ConfigError: it is none.
    """
    match = _WRITTEN.fullmatch(" ".join(text.split())) if isinstance(text, str) else None
    if match is None:
        raise ConfigError(
            f"key must be a note and a scale, such as 'D minor', 'F# major' or 'Bb dorian', "
            f"'{NO_KEY}' to hold none, or '{AUTO_KEY}' to find one that goes with the words; got "
            f"{text!r:.60}: scales are {', '.join(MODES)}"
        )
    return _key(match)


def key_order(text: str) -> str:
    """Write an order in one way: the name of a key, NO_KEY or AUTO_KEY.

    Raises:
        ConfigError: it is none of them.
    """
    word = text.strip().lower() if isinstance(text, str) else ""
    return word if word in (NO_KEY, AUTO_KEY) else read_key(text).name


def stated_key(facts: Mapping[str, Any]) -> Key | None:
    """Read the key of a piece from its attributes; None where they do not say it.

    `key` is a note with `scale` or `mode` beside it ("D", "minor"), or all of it ("D minor").
    """
    for scale in (facts.get("scale"), facts.get("mode"), ""):
        try:
            return read_key(f"{facts.get('key', '')} {scale or ''}")
        except ConfigError:
            continue
    return None


def _is_key(match: re.Match[str]) -> bool:
    """Tell a key from an article, and from letters that only look like one."""
    said = match.groupdict()
    bent = bool(said["word"] or said["sign"])
    if said["short"] and said["short"].lower() == "m":  # "Am" is a word, "in Am" a key
        return said["letter"].isupper() and said["short"] == "m" and bool(bent or said["of"])
    if said["letter"].lower() == "a" and not bent:
        if "key" in (said["of"] or "").lower():
            return True
        if said["key"]:
            return False
        ends = re.match(r"\s*(?:$|[.,;:!?)])", match.string[match.end() :]) is not None
        return said["letter"].isupper() or (bool(said["of"]) and ends)
    return True


def _key(match: re.Match[str]) -> Key:
    said = match.groupdict()
    bend = (said["word"] or said["sign"] or "").lower()
    mode = (said.get("mode") or said.get("short") or "").lower()
    tonic = (_LETTERS[said["letter"].lower()] + _BENDS[bend]) % 12
    return Key(tonic, _ALIASES.get(mode, mode))
