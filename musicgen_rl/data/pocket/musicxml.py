"""Read compressed MusicXML scores: notes of every part and the bars, no more.

Source: MusicXML 4.0, score-partwise. Grace notes and cue notes are skipped, tied notes joined.
"""

import zipfile
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from musicgen_rl.errors import InputError

_STEPS = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}


@dataclass(frozen=True)
class Bar:
    """One measure."""

    start: float
    """Quarter notes from the beginning."""
    length: float
    """Quarter notes it really lasts; an upbeat is short."""
    numerator: int
    """Of the time signature in force."""
    denominator: int
    """Of the time signature in force."""

    @property
    def is_full(self) -> bool:
        """Whether the bar lasts as long as its time signature says."""
        return abs(self.length - 4 * self.numerator / self.denominator) < 1e-6


@dataclass(frozen=True)
class Work:
    """A score as notes."""

    bars: tuple[Bar, ...]
    """Measures of the first part."""
    parts: tuple[tuple[tuple[float, float, int], ...], ...]
    """For each part (start, duration, pitch) in quarter notes, in order of time."""


def read_musicxml(path: Path) -> Work:
    """Read an .mxl file.

    Raises:
        InputError: if it is not a compressed MusicXML score.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = [n for n in archive.namelist() if not n.startswith("META-INF")]
            name = next(n for n in names if n.endswith((".xml", ".musicxml")))
            root = ElementTree.fromstring(archive.read(name))
    except (OSError, StopIteration, zipfile.BadZipFile, ElementTree.ParseError) as error:
        raise InputError(f"{path} is not compressed MusicXML: {error}") from error
    read = [_read_part(part) for part in root.findall("part")]
    if not read:
        raise InputError(f"{path} has no parts")
    return Work(tuple(read[0][0]), tuple(tuple(notes) for _, notes in read))


def _read_part(
    part: ElementTree.Element,
) -> tuple[list[Bar], list[tuple[float, float, int]]]:
    bars: list[Bar] = []
    notes: list[tuple[float, float, int]] = []
    open_ties: dict[int, int] = {}
    divisions, numerator, denominator, start = 1.0, 4, 4, 0.0
    for measure in part.findall("measure"):
        now, furthest, last = 0.0, 0.0, 0.0
        for item in measure:
            if item.tag == "attributes":
                divisions = float(item.findtext("divisions") or divisions)
                numerator = int(item.findtext("time/beats") or numerator)
                denominator = int(item.findtext("time/beat-type") or denominator)
            elif item.tag in ("backup", "forward"):
                step = float(item.findtext("duration") or 0) / divisions
                now += step if item.tag == "forward" else -step
            elif item.tag == "note" and item.find("grace") is None and item.find("cue") is None:
                duration = float(item.findtext("duration") or 0) / divisions
                in_chord = item.find("chord") is not None
                at = last if in_chord else now
                if not in_chord:
                    last, now = now, now + duration
                if item.find("pitch") is not None:
                    _add(notes, open_ties, item, start + at, duration)
            furthest = max(furthest, now)
        bars.append(Bar(start, furthest, numerator, denominator))
        start += furthest
    return bars, sorted(notes)


def _add(
    notes: list[tuple[float, float, int]],
    open_ties: dict[int, int],
    item: ElementTree.Element,
    start: float,
    duration: float,
) -> None:
    """Append a note, or lengthen the one it is tied to."""
    step = item.findtext("pitch/step") or "C"
    octave = int(item.findtext("pitch/octave") or 4)
    alter = round(float(item.findtext("pitch/alter") or 0))
    pitch = 12 * (octave + 1) + _STEPS[step] + alter
    ties = {tie.get("type") for tie in item.findall("tie")}
    if "stop" in ties and pitch in open_ties:
        index = open_ties[pitch]
        first, length, _ = notes[index]
        if abs(first + length - start) < 1e-6:
            notes[index] = (first, length + duration, pitch)
            if "start" not in ties:
                del open_ties[pitch]
            return
    if "start" in ties:
        open_ties[pitch] = len(notes)
    notes.append((start, duration, pitch))
