"""The best of each group is kept, and what is told is of those."""

import numpy as np
import pytest

from benchmarks.best_of import chosen, diversity_of, main, render


def test_the_best_of_each_group_is_chosen() -> None:
    scores = np.array([0.1, 0.3, 0.2, 0.9, 0.5, 0.5])
    assert chosen(scores, 1).tolist() == [0, 1, 2, 3, 4, 5]
    assert chosen(scores, 2).tolist() == [1, 3, 4]
    assert chosen(scores, 3).tolist() == [1, 3]


def test_diversity_by_hand() -> None:
    same, across = np.array([[1.0, 0.0]] * 3), np.eye(3)
    assert diversity_of(same) == pytest.approx(0.0)
    assert diversity_of(across) == pytest.approx(1.0)
    assert diversity_of(np.array([[1.0, 0.0], [0.6, 0.8]])) == pytest.approx(0.4)


def test_the_table_has_a_row_for_each_way_and_number() -> None:
    row = {"way": "base", "takes": 4, "score": [0.5, 0.02], "style": [0.75, 0.03]}
    about = {"model": "m", "prompts": "a/b.jsonl", "captions": 48, "clips": 16, "seconds": 5.0,
             "seed": 0, "rows": [row | {"diversity": [0.4, 0.01]}]}  # fmt: skip
    assert "| base | 4 | 0.500 ± 0.020 | 0.750 ± 0.030 | 0.400 ± 0.010 |" in render(about)
    assert "48 captions of b.jsonl, 16 clips of 5 s each, seed 0." in render(about)


def test_clips_that_make_no_groups_are_refused(monkeypatch, capsys, tmp_path) -> None:  # type: ignore[no-untyped-def]
    given = ["best_of", "--clips", "6", "--takes", "1", "4", "--out", str(tmp_path / "x")]
    monkeypatch.setattr("sys.argv", given)
    assert main() == 2
    assert "6 clips cannot be put into two groups or more" in capsys.readouterr().err
