import json
import os
from pathlib import Path

import pytest

from musicgen_rl.data.manifest import (
    Entry,
    parse_entry,
    read_manifest,
    write_atomic,
    write_manifest,
)
from musicgen_rl.errors import InputError, StorageError

FULL = Entry(
    audio="a/b.flac",
    duration_s=3.5,
    captions=("a calm piano", "пиано"),
    attributes={"tempo_bpm": 90, "drums": False},
    piece="p1",
    split="valid",
    license="CC0-1.0",
)


def test_written_entries_read_back_equal(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    other = Entry(audio="c.wav", captions=("x",), piece="c")
    write_manifest(path, [FULL, other])
    assert read_manifest(path) == [FULL, other]


def test_half_of_a_character_does_not_cost_the_manifest(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    broken = Entry(audio="c.wav", captions=("x",), piece="c", attributes={"title": "x \ud83d"})
    write_manifest(path, [FULL, broken])
    assert read_manifest(path) == [FULL, broken]
    assert "пиано" in path.read_text().splitlines()[0]


def test_one_line_holds_the_documented_fields(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    write_manifest(path, [FULL])
    row = json.loads(path.read_text())
    assert list(row) == [
        "audio", "duration_s", "captions", "attributes", "piece", "split", "license",
    ]  # fmt: skip


def test_a_single_caption_is_accepted() -> None:
    assert parse_entry('{"audio": "x.wav", "caption": "loud rock"}').captions == ("loud rock",)


def test_piece_and_split_have_defaults() -> None:
    entry = parse_entry('{"audio": "folder/song.wav", "captions": ["a"]}')
    assert (entry.piece, entry.split, entry.duration_s) == ("song", "train", None)


def test_blank_lines_are_skipped(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    path.write_text('\n{"audio": "x.wav", "caption": "a"}\n\n')
    assert len(read_manifest(path)) == 1


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{", "not JSON"),
        ("[1]", "not a JSON object"),
        ("[" * 100_000, "not JSON"),
        ('{"audio": "x.wav", "caption": "a", "caption": "b"}', "'caption' is given twice"),
        ('{"audio": "x.wav", "caption": "a", "attributes": {"tempo_bpm": NaN}}', "NaN is no"),
        ('{"audio": "x.wav", "caption": "a", "duration_s": 1e999}', "1e999 is no number"),
        ('{"caption": "a"}', 'no "audio"'),
        ('{"audio": "x.wav"}', 'no "captions"'),
        ('{"audio": "x.wav", "captions": []}', 'no "captions"'),
        ('{"audio": "x.wav", "captions": ["ok", "  "]}', "empty caption '  '"),
        ('{"audio": "x.wav", "caption": "a", "split": "dev"}', "unknown split 'dev'"),
        ('{"audio": "x.wav", "caption": "a", "duration_s": -1}', "got -1"),
        ('{"audio": "x.wav", "caption": "a", "duration_s": true}', "got True"),
        ('{"audio": "x.wav", "caption": "a", "attributes": [1]}', "attributes must be"),
    ],
)
def test_a_bad_line_is_named_with_its_number(tmp_path: Path, line: str, words: str) -> None:
    path = tmp_path / "m.jsonl"
    path.write_text('{"audio": "x.wav", "caption": "a"}\n' + line + "\n")
    with pytest.raises(InputError, match="line 2") as caught:
        read_manifest(path)
    assert words in str(caught.value)


def test_an_empty_manifest_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    path.write_text("\n")
    with pytest.raises(InputError, match="holds no entries"):
        read_manifest(path)


def test_a_missing_manifest_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.jsonl"):
        read_manifest(tmp_path / "none.jsonl")


def test_a_mark_before_the_first_line_is_no_fault(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"audio": "x.wav", "caption": "a"}\r\n')
    assert read_manifest(path)[0].captions == ("a",)


def test_other_encodings_are_named_with_their_line(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    path.write_bytes('{"audio": "x.wav", "caption": "a"}\n{"caption": "café"}'.encode("latin-1"))
    with pytest.raises(InputError, match=r"m\.jsonl, line 2: not UTF-8 text: save"):
        read_manifest(path)


def test_a_failed_write_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "m.jsonl"
    write_atomic(path, b"old")

    def full_disk(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(StorageError, match="No space left"):
        write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["m.jsonl"]  # no temporary file stays behind
