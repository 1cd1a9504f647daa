from typing import Any

import numpy as np
import pytest

from benchmarks.diversity_on_prompt import measure, summarise

SAME, OTHER, THIRD = [1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]


def clips(arm: str, prompt: str, heard: list[tuple[list[float], float]]) -> list[dict[str, Any]]:
    return [
        {"arm": arm, "prompt": prompt, "embedding_report": e, "probe_right": right}
        for e, right in heard
    ]


def test_variety_of_clips_that_miss_does_not_count() -> None:
    """`misses` differs only by clips that nobody asked for, `answers` by clips that answer."""
    rows = []
    for prompt in ("a", "b", "c"):
        rows += clips("misses", prompt, [(SAME, 1.0), (SAME, 1.0), (OTHER, 0.0), (THIRD, 0.0)])
        rows += clips("answers", prompt, [(SAME, 1.0), (OTHER, 1.0), (THIRD, 1.0), (SAME, 0.0)])
    found = {row["arm"]: row for row in summarise(measure(rows, "report"), "misses", draws=50)}
    assert found["misses"]["right"][0] == 0.5
    assert found["misses"]["diversity_on_prompt"] == pytest.approx([0.0, 0.0, 0.0], abs=1e-9)
    assert found["misses"]["diversity"][0] > 1.0
    assert found["answers"]["diversity_on_prompt"][0] > found["answers"]["diversity"][0] > 1.0
    difference = found["answers"]["diversity_on_prompt_difference"]
    assert difference[0] == pytest.approx(found["answers"]["diversity_on_prompt"][0])
    assert difference[1] == pytest.approx(difference[2])  # every prompt is the same


def test_equal_weights_give_the_plain_diversity() -> None:
    rng = np.random.default_rng(0)
    rows = []
    for prompt in ("a", "b"):
        heard = [(rng.normal(size=3).tolist(), 0.7) for _ in range(4)]
        rows += clips("base", prompt, heard)
    (row,) = summarise(measure(rows, "report"), "base", draws=10)
    assert row["diversity_on_prompt"] == pytest.approx(row["diversity"])
