"""Diversity is taken apart as by hand, and nothing of it is lost on the way."""

import numpy as np
import pytest

from benchmarks.variety import (
    PARTS,
    PIECES,
    directions,
    main,
    parts_of,
    render,
    with_errors,
    within_style,
)


def vectors(clips: list[list[list[float]]]) -> np.ndarray:
    found = np.array(clips, dtype=np.float64)
    return found / np.linalg.norm(found, axis=-1, keepdims=True)


def test_the_parts_by_hand() -> None:
    # Three prompts of two clips: two of one style, whose clips have .8 in common, one of another.
    e = vectors([[[1, 0, 0], [0.6, 0.8, 0]], [[1, 0, 0], [1, 0, 0]], [[0, 0, 1], [0, 0, 1]]])
    right = np.array([[True, False], [True, True], [True, True]])
    found = parts_of(e, ["jazz", "jazz", "rock"], right)
    a = (0.6 + 1 + 1) / 3  # of one prompt
    b = (1 + 1 + 0.6 + 0.6) / 4  # of two prompts of one style
    assert found == {
        "D": pytest.approx(1 - a), "words": pytest.approx(a - b), "style": pytest.approx(b - 0.0),
        "shared": pytest.approx(0.0), "D of right": pytest.approx(0.0),
    }  # fmt: skip


def test_the_parts_sum_to_one_and_right_clips_count_alone() -> None:
    rng = np.random.default_rng(0)
    e = rng.normal(size=(9, 4, 5)) + 0.5
    e /= np.linalg.norm(e, axis=-1, keepdims=True)
    styles = ["a", "b", "c"] * 3
    right = rng.random((9, 4)) < 0.7
    found = parts_of(e, styles, right)
    assert sum(found[part] for part in PARTS[:4]) == pytest.approx(1.0)
    pairs = [
        float(e[p, i] @ e[p, j])
        for p in range(9) for i in range(4) for j in range(4)
        if i != j and right[p, i] and right[p, j]
    ]  # fmt: skip
    assert found["D of right"] == pytest.approx(1 - np.mean(pairs))


def test_errors_are_those_of_another_choice_of_styles() -> None:
    rng = np.random.default_rng(1)
    centres = rng.normal(size=(40, 8))
    found = []
    for _ in range(60):  # worlds, each with ten styles of its own
        some = centres[rng.choice(40, 10, replace=False)]
        e = np.repeat(some, 2, axis=0)[:, None] + rng.normal(size=(20, 3, 8)) * 0.7
        e /= np.linalg.norm(e, axis=-1, keepdims=True)
        styles = [str(s) for s in range(10) for _ in range(2)]
        found.append(with_errors(e, styles, np.ones((20, 3), bool))["D"])
    means, errors = np.array(found).T
    assert errors.mean() == pytest.approx(means.std(), rel=0.5)


def test_pieces_have_no_prompt_in_common() -> None:
    e = vectors([[[1, 0]], [[0.6, 0.8]], [[0, 1]], [[0, 1]]])
    styles = ["a", "a", "b", "b"]
    found = parts_of(e, styles, np.ones((4, 1), bool))
    assert np.isnan(found["D"])
    assert np.isnan(found["words"])
    assert found["style"] == pytest.approx((0.6 + 1) / 2 - (0 + 0 + 0.8 + 0.8) / 4)
    apart, _ = within_style(e, styles)
    assert apart == pytest.approx(0.2)


def test_directions_in_use() -> None:
    even = np.concatenate([np.eye(4), -np.eye(4)])
    assert directions(even) == pytest.approx(4.0)
    assert directions(even * np.array([1.0, 0, 0, 0])) == pytest.approx(1.0)


def test_the_table_tells_pieces_without_a_prompt() -> None:
    told = {part: [0.25, 0.01] for part in PARTS}
    piece = {"style": [0.5, 0.1], "shared": [0.0, 0.1], "within style": [0.5, 0.02]}
    rows = [
        {"way": way, "role": role, "right": 0.9, "parts": parts}
        for role in ("report", "training") for way, parts in ((PIECES, piece), ("base", told))
    ]  # fmt: skip
    both = {"report": 8.0, "training": 17.0}
    found = {"model": "m", "captions": 3, "prompts": "a/b.jsonl", "clips": 4, "seconds": 5.0,
             "seed": 0, "pieces": 2, "directions": both, "dims": both, "rows": rows}  # fmt: skip
    told_rows = render(found).splitlines()
    assert (
        f"| {PIECES} | 0.500 ± 0.020, of one style |  | 0.500 ± 0.100 | 0.000 ± 0.100 | 0.90 |  |"
        in (told_rows)
    )
    assert sum(row.startswith("| base | 0.250 ± 0.010 | 0.250 ± 0.010") for row in told_rows) == 2


def test_one_clip_has_no_diversity(monkeypatch, capsys, tmp_path) -> None:  # type: ignore[no-untyped-def]
    given = ["variety", "--manifest", "x.jsonl", "--clips", "1", "--out", str(tmp_path / "x")]
    monkeypatch.setattr("sys.argv", given)
    assert main() == 2
    assert "give 2 clips or more, got 1" in capsys.readouterr().err
