"""What one corpus holds out is not learnt from another."""

import json
from pathlib import Path

import pytest

from musicgen_rl.cli import main
from musicgen_rl.data.manifest import read_manifest


def write(path: Path, *rows: tuple[str, str]) -> Path:
    """Write a manifest of pieces and their splits."""
    path.parent.mkdir(exist_ok=True)
    lines = [
        {"audio": f"a/{i}.flac", "caption": f"words {i}", "piece": piece, "split": split}
        for i, (piece, split) in enumerate(rows)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_training_pieces_that_are_held_out_elsewhere_are_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    learn = write(
        tmp_path / "new" / "manifest.jsonl",
        ("tune-a", "train"), ("tune-b", "train"), ("tune-c", "valid"), ("7-1", "train"),
        ("tune-a", "train"), ("tune-d", "train"),
    )  # fmt: skip
    first = write(tmp_path / "x.jsonl", ("tune-a", "valid"), ("tune-b", "train"))
    second = write(tmp_path / "y.jsonl", ("tune-c", "test"), ("tune-d", "test"))
    beside, away = learn.with_name("learn.jsonl"), tmp_path / "learn.jsonl"
    for out in (beside, away):
        command = ["data", "apart", learn, "--held", first, "--held", second, "-o", out]
        assert main([str(a) for a in command]) == 0
        said = capsys.readouterr()
        assert said.out.strip() == str(out)
        assert "3 lines, 3 left out" in said.err
        kept = read_manifest(out)
        assert [(e.piece, e.split) for e in kept] == [
            ("tune-b", "train"), ("tune-c", "valid"), ("7-1", "train"),
        ]  # fmt: skip
        assert [(out.parent / e.audio).resolve() for e in kept] == [
            (learn.parent / f"a/{i}.flac").resolve() for i in (1, 2, 3)
        ]
    assert read_manifest(away)[0].audio == "new/a/1.flac"


def test_what_is_there_is_not_replaced_and_what_is_not_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    learn = write(tmp_path / "manifest.jsonl", ("tune-a", "train"))
    before = learn.read_bytes()
    asked = ["data", "apart", str(learn), "--held", str(learn), "-o", str(learn)]
    assert main(asked) == 2
    assert "is there already" in capsys.readouterr().err
    assert learn.read_bytes() == before
    none = str(tmp_path / "none.jsonl")
    assert main([*asked[:3], "--held", none, "-o", str(tmp_path / "out.jsonl")]) == 2
    assert none in capsys.readouterr().err
    assert not (tmp_path / "out.jsonl").exists()
