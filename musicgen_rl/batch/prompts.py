"""Prompt files: text, csv, jsonl or parquet, read whole and checked before any work."""

import csv
import difflib
import io
import json
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from musicgen_rl.data.manifest import parse_object
from musicgen_rl.errors import InputError

COLUMNS = {
    "prompt": "prompt", "caption": "prompt", "text": "prompt",
    "id": "name", "name": "name",
    "duration": "duration_s", "duration_s": "duration_s",
    "seed": "seed",
    "tempo": "tempo_bpm", "tempo_bpm": "tempo_bpm", "steady": "steady", "key": "key",
    "chords": "chords", "beats_per_bar": "beats_per_bar",
    "returning": "returning",
    "n": "clips", "clips_per_prompt": "clips", "takes": "takes",
    "diversity": "diversity",
    "merge_method": "merge_method", "merge_strength": "merge_strength",
    "guidance": "guidance_scale", "guidance_scale": "guidance_scale",
    "guidance_s": "guidance_s",
    "temperature": "temperature", "top_k": "top_k", "top_p": "top_p",
    "negative_prompt": "negative_prompt",
    "model": "model", "split": "split",
}  # fmt: skip
"""Column of a file -> what it sets. Other columns are kept as facts for the manifest."""
ENDINGS = (".txt", ".csv", ".tsv", ".jsonl", ".parquet")
_DELIMITERS = ",;\t"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One prompt of a file."""

    where: str
    """File and line, for messages."""
    values: dict[str, Any]
    """What it sets, by the names on the right of COLUMNS; `diversity` is a tuple."""
    attributes: dict[str, Any] = field(default_factory=dict)
    """Columns that set nothing."""


def read_prompts(path: str, standard_input: Callable[[], bytes] | None = None) -> list[Row]:
    """Read a prompt file.

    Args:
        path: ends in .txt (one prompt a line), .csv, .tsv, .jsonl or .parquet; "-" is standard
            input, lines of text or of JSON.
        standard_input: reads it.

    Returns:
        Its prompts in order, at least one; every value has its type, its range is not checked yet.

    Raises:
        InputError: naming file, line and fault.
    """
    if path == "-":
        data = b"" if standard_input is None else standard_input()
        lines = data.lstrip().startswith(b"{")
        rows = parse(data, "jsonl" if lines else "txt", "standard input")
    else:
        file = Path(path)
        if file.suffix.lower() not in ENDINGS:
            raise InputError(
                f"cannot tell what {path!r} is: end it in {', '.join(ENDINGS)}, or give - and "
                "lines on standard input"
            )
        try:
            data = file.read_bytes()
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise InputError(f"cannot read the prompts {path!r}: {reason}") from error
        rows = parse(data, file.suffix.lower().removeprefix("."), path)
    if not rows:
        raise InputError(f"{path if path != '-' else 'standard input'} holds no prompts")
    names: dict[str, str] = {}
    for row in rows:
        name = row.values.get("name")
        if name is not None and names.setdefault(name, row.where) != row.where:
            raise InputError(f"{row.where}: id {name!r:.40} is taken already, by {names[name]}")
    return rows


def parse(data: bytes, kind: str, source: str) -> list[Row]:
    """Parse the bytes of a prompt file of a kind: txt, csv, tsv, jsonl or parquet.

    Raises:
        InputError: naming source, line and fault.
    """
    read = {"txt": _text, "csv": _table, "tsv": _table, "jsonl": _lines, "parquet": _parquet}[kind]
    rows = []
    for number, found in read(data, source):
        unit = "row" if kind == "parquet" else "line"
        where = f"{source}, {unit} {number}"
        try:
            rows.append(_row(where, found))
        except InputError as error:
            raise InputError(f"{where}: {error}") from error
    return rows


def _text(data: bytes, source: str) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(_decode(data, source).split("\n"), 1):
        if line.strip():
            yield number, {"prompt": line.strip()}


def _table(data: bytes, source: str) -> Iterator[tuple[int, dict[str, Any]]]:
    text = _decode(data, source)
    first = text.split("\n", 1)[0]
    delimiter = next((d for d in _DELIMITERS if _has_prompt(first.split(d))), ",")
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    header: list[str] | None = None
    start = 1  # a quoted field may hold line breaks, so a row begins where the last one ended
    try:
        for fields in reader:
            here, start = start, reader.line_num + 1
            if not any(f.strip() for f in fields):
                continue
            if header is None:
                header = [f.strip() for f in fields]
                _require_header(header, f"{source}, line {here}")
                continue
            if len(fields) != len(header):
                raise InputError(
                    f"{source}, line {here}: {len(fields)} fields, the header has {len(header)}: "
                    "put texts with commas in double quotes"
                )
            yield here, dict(zip(header, fields, strict=True))
    except csv.Error as error:
        raise InputError(f"{source}, line {reader.line_num}: {error}") from error


def _lines(data: bytes, source: str) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(_decode(data, source).split("\n"), 1):
        if not line.strip():
            continue
        try:
            yield number, parse_object(line)
        except InputError as error:
            raise InputError(f"{source}, line {number}: {error}") from error


def _parquet(data: bytes, source: str) -> Iterator[tuple[int, dict[str, Any]]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(pa.BufferReader(data))
        rows = table.to_pylist()
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
        reason = " ".join(str(error).split()).partition(". ")[0]
        raise InputError(f"{source} is not a readable parquet file: {reason:.120}") from error
    _require_header(table.column_names, source)
    yield from enumerate(rows, 1)


def _row(where: str, found: dict[str, Any]) -> Row:
    values: dict[str, Any] = {}
    attributes: dict[str, Any] = {}
    for column, value in found.items():
        _require_text(column, value)
        name = COLUMNS.get(column.strip().lower())
        if name is None:
            _refuse_misspelt(column)
        if name is None or name in values:  # a second name of the same thing is a fact
            if value is not None and value != "":
                attributes[column] = _plain(value)
        elif not _empty(value):
            read: Callable[[str, Any], Any] = _READERS.get(name, _as_text)
            values[name] = read(column, value)
    if "prompt" not in values:
        raise InputError("no prompt: give a column or key 'prompt' that says what to play")
    return Row(where=where, values=values, attributes=attributes)


def _require_text(column: str, value: Any) -> None:
    """Refuse what no file can hold as UTF-8, such as one half of an emoji in a JSON escape."""
    try:
        column.encode()
        json.dumps(value, ensure_ascii=False, default=str).encode()
    except UnicodeEncodeError as error:
        half = error.object[error.start]
        raise InputError(
            f"{column!r:.40} holds {half!r}, which is no character but half of one: write the "
            "whole character, or leave it out"
        ) from error


def _as_text(column: str, value: Any) -> str:
    if isinstance(value, bool | list | dict | float):
        raise InputError(f"{column} takes text, got {value!r:.40}")
    return str(value).strip()


def _as_number(column: str, value: Any) -> float:
    try:
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            raise ValueError
        number = float(value)
        if not math.isfinite(number):
            raise ValueError
    except (ValueError, OverflowError):
        raise InputError(f"{column} takes a number, got {value!r:.40}") from None
    return number


def _as_whole(column: str, value: Any) -> int:
    try:
        if isinstance(value, str):
            return int(value)
        if isinstance(value, bool) or not isinstance(value, int | float) or value != int(value):
            raise ValueError
        return int(value)
    except (ValueError, OverflowError):
        raise InputError(f"{column} takes a whole number, got {value!r:.40}") from None


def _as_yes_or_no(column: str, value: Any) -> bool:
    said = str(value).strip().lower()
    if said in ("1", "true", "yes"):
        return True
    if said in ("0", "false", "no"):
        return False
    raise InputError(f"{column} takes yes or no, got {value!r:.40}")


def _as_positions(column: str, value: Any) -> tuple[float | None, ...]:
    """Read one position of the dial or several: 0.5, "0,0.5,1", [0, 0.5, 1]; "base" is none."""
    if isinstance(value, str):
        value = value.replace(";", ",").split(",")
    parts = value if isinstance(value, list) else [value]
    if not parts:
        raise InputError(f"{column} takes numbers from 0 to 1, got none")
    return tuple(
        None if isinstance(p, str) and p.strip() == "base" else _as_number(column, p) for p in parts
    )


_READERS: dict[str, Callable[[str, Any], Any]] = {
    "duration_s": _as_number, "guidance_scale": _as_number, "guidance_s": _as_number,
    "temperature": _as_number,
    "top_p": _as_number, "merge_strength": _as_number, "tempo_bpm": _as_number,
    "returning": _as_number,
    "seed": _as_whole, "top_k": _as_whole, "clips": _as_whole, "takes": _as_whole,
    "beats_per_bar": _as_whole,
    "diversity": _as_positions, "steady": _as_yes_or_no,
}  # fmt: skip


def read_positions(option: str, text: str) -> tuple[float | None, ...]:
    """Read the positions of the dial from an option such as "0,0.5,1".

    Raises:
        InputError: one is not a number.
    """
    return _as_positions(option, text)


def _empty(value: Any) -> bool:
    missing = isinstance(value, float) and math.isnan(value)  # what parquet has for no number
    return value is None or missing or (isinstance(value, str) and not value.strip())


def _plain(value: Any) -> Any:
    """Bring a foreign value to JSON: dates and the like become text."""
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        return str(value)
    return value


def _has_prompt(header: Iterable[str]) -> bool:
    return any(COLUMNS.get(h.strip().strip('"').lower()) == "prompt" for h in header)


def _require_header(header: list[str], where: str) -> None:
    if not _has_prompt(header):
        shown = ", ".join(h for h in header if h)[:100]
        raise InputError(f"{where}: no column 'prompt' (or caption, text) among: {shown}")
    twice = next((h for i, h in enumerate(header) if h in header[:i]), None)
    if twice is not None:
        raise InputError(f"{where}: column {twice!r:.40} stands there twice")


def _refuse_misspelt(column: str) -> None:
    close = difflib.get_close_matches(column.strip().lower(), COLUMNS, 1, cutoff=0.85)
    if close:
        raise InputError(f"column {column!r:.40} sets nothing: did you mean {close[0]!r}?")


def _decode(data: bytes, source: str) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise InputError(
            f"{source}, line {line}: not UTF-8 text: save the file as UTF-8"
        ) from error
