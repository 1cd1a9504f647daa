import json
from pathlib import Path

import pytest

from benchmarks import pocket_loss
from benchmarks.pocket_loss import curve, joined
from musicgen_rl.errors import InputError


def train(step: int, loss: float, seconds: float = 1.0) -> dict[str, object]:
    return {"kind": "train", "step": step, "loss": loss, "seconds": seconds, "rate": 0.1}


def valid(step: int, loss: float) -> dict[str, object]:
    return {"kind": "valid", "step": step, "loss": loss, "loss_null": loss + 0.1, "seconds": 9.0,
            "loss_per_codebook": [loss, loss], "loss_null_per_codebook": [loss, loss]}  # fmt: skip


def test_one_run_after_another_counts_on() -> None:
    rows = joined(
        [[train(1, 5.0), valid(4, 4.5)], [train(1, 4.0, 2.0), {"kind": "plan", "step": 2}]]
    )
    assert [row["step"] for row in rows] == [1, 4, 5, 6]
    assert [row.get("seconds") for row in rows] == [1.0, 9.0, 11.0, None]


def test_every_held_out_value_is_kept_and_training_is_averaged() -> None:
    rows = [train(i, float(i)) for i in range(1, 7)] + [valid(3, 4.0), valid(6, 3.0)]
    found = curve(rows, points=3)
    assert [row["loss"] for row in found["valid"]] == [4.0, 3.0]
    assert "kind" not in found["valid"][0]
    assert found["train"] == [{"step": 2, "loss": 1.5}, {"step": 4, "loss": 3.5},
                              {"step": 6, "loss": 5.5}]  # fmt: skip
    assert len(curve(rows, points=50)["train"]) == 6
    with pytest.raises(InputError, match="no row of kind valid"):
        curve(rows[:3], points=2)


def test_the_command_writes_numbers_and_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a", "b"):
        rows = [train(1, 5.0), train(2, 4.0), valid(2, 4.25)]
        (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.setattr("sys.argv", [
        "pocket_loss", str(tmp_path / "a"), str(tmp_path / "b"), "--out",
        str(tmp_path / "r" / "loss.json"), "--picture", str(tmp_path / "p" / "loss.png"),
    ])  # fmt: skip
    pocket_loss.main()
    found = json.loads((tmp_path / "r" / "loss.json").read_text())
    assert [row["step"] for row in found["valid"]] == [2, 4]
    assert (tmp_path / "p" / "loss.png").is_file()
    assert "step 4: 4.250 with the prompt, 4.350 without" in capsys.readouterr().out
