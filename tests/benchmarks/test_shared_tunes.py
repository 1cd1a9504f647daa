import json
from pathlib import Path

import pytest

from benchmarks import shared_tunes
from benchmarks.shared_tunes import measure, shared
from musicgen_rl.data.manifest import Entry, parse_entry


def entries(*rows: tuple[str, str]) -> list[Entry]:
    """Pieces and their splits; what begins with tune is on one."""
    lines = [
        {"audio": f"{i}.flac", "captions": [f"words {i}"], "piece": piece, "split": split,
         "attributes": {"tune": piece if piece.startswith("tune") else None}}
        for i, (piece, split) in enumerate(rows)
    ]  # fmt: skip
    return [parse_entry(json.dumps(line)) for line in lines]


HELD = entries(("tune-a", "valid"), ("tune-b", "test"), ("910-1", "test"), ("tune-c", "train"))
LEARNT = entries(("tune-a", "train"), ("tune-b", "valid"), ("tune-c", "train"), ("7-1", "train"))


def test_a_tune_counts_where_it_is_held_out_here_and_learnt_there() -> None:
    assert [entry.piece for entry in shared(HELD, LEARNT)] == ["tune-a"]
    found = measure(HELD, LEARNT, {"played": ["words 0", "words 1"]})
    assert (found["held out"], found["of these on a tune"]) == (3, 2)
    assert found["on a tune learnt from"] == 1
    assert found["captions"] == {"played": {"played": 2, "of such pieces": 1}}


def test_the_command_counts_the_lines_that_were_heard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, rows in (("held", HELD), ("learnt", LEARNT[::-1])):
        lines = [json.dumps(entry.to_json()) for entry in rows]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines))
    for first, count in (("3", 0), ("4", 1)):
        monkeypatch.setattr("sys.argv", [
            "shared_tunes", "--held", str(tmp_path / "held.jsonl"), "--learnt",
            str(tmp_path / "learnt.jsonl"), "--first", first, "--out", str(tmp_path / "out.json"),
        ])  # fmt: skip
        assert shared_tunes.main() == 0
        assert json.loads((tmp_path / "out.json").read_text())["on a tune learnt from"] == count
