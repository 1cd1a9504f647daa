import json
from pathlib import Path

import endpoint_curves
import numpy as np
import pytest


def rows() -> list[dict[str, object]]:
    train = [
        {"kind": "train", "step": i, "kl": float(i), "objective": -float(i),
         "tokens_per_clip": 1600.0 if i == 3 else 400.0, **({"diversity": 0.5} if i % 2 else {})}
        for i in range(1, 7)
    ]  # fmt: skip
    return [*train, {"kind": "heard", "step": 2, "diversity": 0.9}]


def test_longer_clips_and_steps_without_the_figure_are_left_out() -> None:
    steps, values = endpoint_curves.curve(rows(), "kl")
    assert steps.tolist() == [1, 2, 4, 5, 6]
    assert values.tolist() == [1, 2, 4, 5, 6]
    assert endpoint_curves.curve(rows(), "diversity")[0].tolist() == [1, 5]


def test_smoothing_is_a_mean_of_the_window_that_is_there() -> None:
    found = endpoint_curves.smooth(np.array([0.0, 3.0, 6.0, 0.0]), 3)
    assert found.tolist() == [1.5, 3.0, 3.0, 3.0]


def test_the_command_draws_and_names_what_is_no_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, picture = tmp_path / "metrics.jsonl", tmp_path / "deep" / "curves.png"
    run.write_text("".join(json.dumps(row) + "\n" for row in rows()))
    assert endpoint_curves.main([f"a={run}", f"b={run}", "--out", str(picture)]) == 0
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert capsys.readouterr().out.strip() == str(picture)
    for wrong in (str(run), f"a={tmp_path / 'gone.jsonl'}"):
        assert endpoint_curves.main([wrong]) == 2
        assert "is not NAME=FILE" in capsys.readouterr().err
