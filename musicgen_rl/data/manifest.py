"""The manifest: a jsonl file that names audio and what is known about it.

One line a piece, the same for our corpus and for a user's own audio:

    {"audio": "a/0001.flac", "duration_s": 42.1, "captions": ["calm piano", ...],
     "attributes": {...}, "piece": "0001", "split": "train", "license": "CC0-1.0"}

`audio` is relative to the manifest. `caption` (one string) is accepted for `captions`. Only
`audio` and a caption are required; `piece` defaults to the audio's name and `split` to train.
"""

import json
import math
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from musicgen_rl.errors import InputError, StorageError

SPLITS = ("train", "valid", "test")
"""Allowed values of `split`."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One line of a manifest."""

    audio: str
    """Path of the audio file, relative to the manifest's folder."""
    duration_s: float | None = None
    """Length in seconds, if it is known."""
    captions: tuple[str, ...]
    """Descriptions, at least one; training draws among them."""
    attributes: dict[str, Any] = field(default_factory=dict)
    """Facts for evaluation: style, instruments, tempo_bpm, mode, ..."""
    piece: str = ""
    """Identity; clips of one piece stay in one split."""
    split: str = "train"
    """train, valid or test."""
    license: str = ""
    """Licence of the audio."""

    def to_json(self) -> dict[str, Any]:
        """Return the line as a dictionary."""
        return {
            "audio": self.audio,
            "duration_s": self.duration_s,
            "captions": list(self.captions),
            "attributes": self.attributes,
            "piece": self.piece,
            "split": self.split,
            "license": self.license,
        }


def parse_entry(text: str) -> Entry:
    """Read one line.

    Args:
        text: a JSON object.

    Raises:
        InputError: naming the field that is missing or wrong.
    """
    row = parse_object(text)
    audio = row.get("audio")
    if not isinstance(audio, str) or not audio.strip():
        raise InputError('no "audio": give the path of an audio file')
    captions = row.get("captions", row.get("caption"))
    captions = [captions] if isinstance(captions, str) else captions
    if not isinstance(captions, list) or not captions:
        raise InputError('no "captions": give a list with at least one description')
    for caption in captions:
        if not isinstance(caption, str) or not caption.strip():
            raise InputError(f"empty caption {caption!r}: write what is heard, or remove it")
    split = row.get("split") or "train"
    if split not in SPLITS:
        raise InputError(f"unknown split {split!r}: use train, valid or test")
    duration = row.get("duration_s")
    number = isinstance(duration, int | float) and not isinstance(duration, bool)
    if duration is not None and not (number and duration > 0):
        raise InputError(f"duration_s must be a number above 0, got {duration!r}")
    attributes = row.get("attributes") or {}
    if not isinstance(attributes, dict):
        raise InputError(f"attributes must be an object, got {attributes!r}")
    return Entry(
        audio=audio,
        duration_s=None if duration is None else float(duration),
        captions=tuple(captions),
        attributes=attributes,
        piece=str(row.get("piece") or Path(audio).stem),
        split=split,
        license=str(row.get("license") or ""),
    )


def parse_object(text: str) -> dict[str, Any]:
    """Read a JSON object that somebody wrote, stricter than Python does.

    Raises:
        InputError: it is none, a key stands there twice (of which Python keeps the last), or a
            number is NaN or infinite.
    """
    try:
        found = json.loads(
            text, parse_constant=_number, parse_float=_number, object_pairs_hook=_once
        )
    except json.JSONDecodeError as error:
        raise InputError(f"not JSON: {error.msg} at column {error.colno}") from error
    except RecursionError as error:
        raise InputError("not JSON that can be read: it is nested too deep") from error
    if not isinstance(found, dict):
        raise InputError(f"not a JSON object: {text.strip()[:40]!r}")
    return found


def _number(text: str) -> float:
    value = float(text)  # Python's JSON takes NaN and Infinity, and makes infinity of 1e999
    if not math.isfinite(value):
        raise InputError(f"not JSON: {text:.40} is no number there; write another, or null")
    return value


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise InputError(f"the key {key!r:.40} is given twice: keep one of them")
        found[key] = value
    return found


def read_manifest(path: Path) -> list[Entry]:
    """Read a manifest.

    Args:
        path: the jsonl file.

    Returns:
        Its entries in order; empty lines are skipped.

    Raises:
        InputError: naming file, line and fault.
    """
    entries = []
    for number, line in numbered_lines(path):
        try:
            entries.append(parse_entry(line))
        except InputError as error:
            raise InputError(f"{path}, line {number}: {error}") from error
    if not entries:
        raise InputError(f"{path} holds no entries: write one JSON object a line")
    return entries


def numbered_lines(path: Path) -> Iterable[tuple[int, str]]:
    """Yield (line number from 1, text) of the lines that are not blank.

    Raises:
        InputError: if the file cannot be read, or is not UTF-8 text.
    """
    try:
        data = path.read_bytes()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"cannot read {path}: {reason}") from error
    try:
        text = data.decode("utf-8-sig")  # editors on Windows put a mark before the first line
    except UnicodeDecodeError as error:
        place = data[: error.start].count(b"\n") + 1
        raise InputError(f"{path}, line {place}: not UTF-8 text: save the file as UTF-8") from error
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield number, line


def write_manifest(path: Path, entries: Iterable[Entry]) -> None:
    """Write a manifest so that a reader sees the old file or the whole new one, never half.

    Args:
        path: the jsonl file.
        entries: its lines.

    Raises:
        StorageError: if it cannot be written.
    """
    write_atomic(path, b"".join(_line(entry) for entry in entries))


def _line(entry: Entry) -> bytes:
    content = entry.to_json()
    try:
        return json.dumps(content, ensure_ascii=False).encode() + b"\n"
    except UnicodeEncodeError:  # half of a character: JSON can hold it as an escape, UTF-8 cannot
        return json.dumps(content).encode() + b"\n"


def write_atomic(path: Path, data: bytes) -> None:
    """Write a file under a temporary name, force it to disk, and rename it into place.

    Raises:
        StorageError: if the disk is full or the folder not writable.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise StorageError(f"cannot write {path}: {error.strerror or error}") from error
