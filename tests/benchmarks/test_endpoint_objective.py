import json
import sys
from pathlib import Path

import pytest

from benchmarks.endpoint_objective import interval, main
from tests.judged import save_judged


def test_points_are_judged_by_the_same_clips(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = save_judged(tmp_path / "tiny")
    other = save_judged(tmp_path / "other", seed=5)
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("slow piano\nfast drums\nsad violin\n")
    command = [
        "endpoint_objective.py", "--base", base, "--prompts", prompts, "--clip-s", "1", "-n", "3",
        "--points", f"base,base:{other}:0,base:{other}:0.5,{other}", "--weights", "10",
        "--guidance", "1", "--here", tmp_path,
    ]  # fmt: skip
    monkeypatch.setattr(sys, "argv", [str(part) for part in command])
    main()
    found = json.loads((tmp_path / "endpoint_objective.json").read_text())
    rows = {row["point"].replace(str(other), "other"): row for row in found["points"]}
    assert rows["base"]["kl"][0] == pytest.approx(0.0, abs=1e-4)  # its own teacher, unguided
    for key, value in rows["base"].items():
        if key != "point":
            assert value == pytest.approx(rows["base:other:0"][key], abs=1e-6), key
    assert 0.1 < rows["base:other:0.5"]["kl"][0] < rows["other"]["kl"][0]
    for row in rows.values():
        assert row["objective_10"][0] == pytest.approx(10 * row["training"][0] - row["kl"][0])
        assert 0 < row["report"][1] <= row["report"][0] <= row["report"][2]
    assert "| base | 0.0 (" in (tmp_path / "endpoint_objective.md").read_text()


def test_a_point_that_is_none_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = save_judged(tmp_path / "tiny")
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("slow piano\n")
    command = ["x", "--base", base, "--prompts", prompts, "--points", "base:base", "--clip-s", "1"]
    monkeypatch.setattr(sys, "argv", [str(part) for part in command])
    with pytest.raises(SystemExit, match="'base:base' is no point"):
        main()


def test_an_interval_is_over_prompts() -> None:
    import torch

    mean, low, high = interval(torch.tensor([1.0, 3.0]).repeat(50))
    assert mean == 2.0
    assert 1.7 < low < 2.0 < high < 2.3
