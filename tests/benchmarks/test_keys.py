"""Keys are heard by their notes, and the table says what was named."""

from typing import Any

import numpy as np
import pytest

from benchmarks.keys import MEASURES, hear_key, judge, render, summarise
from musicgen_rl.audio.clip import Clip
from musicgen_rl.data.keys import Key
from tests.benchmarks.test_pocket_music import C_MAJOR, RATE, play
from tests.benchmarks.test_takes import Ears


def test_a_key_is_found_by_its_profile() -> None:
    chroma = np.zeros(12)
    chroma[[2, 4, 5, 7, 9, 10, 0]] = [3, 1, 2, 1, 2, 1, 1]  # D minor, D and F and A the most
    assert hear_key(chroma) == Key(2, "minor")
    chroma = np.zeros(12)
    chroma[[7, 11, 2]] = 1.0
    assert hear_key(chroma) == Key(7, "major")


def test_a_clip_is_judged_by_what_it_was_asked_for() -> None:
    clip = Clip(play([*C_MAJOR, 60, 64, 67, 60], 0.5)[None].astype(np.float32), RATE)
    facts = {"key": "C", "mode": "major", "style": "rock", "tempo_bpm": 120}
    found = judge(clip, facts, Ears())  # type: ignore[arg-type]
    assert found["notes"] > 0.9
    assert (found["key"], found["relative"], found["style"]) == (1.0, 1.0, 1.0)
    minor = judge(clip, facts | {"key": "A", "mode": "minor"}, Ears())  # type: ignore[arg-type]
    assert minor["notes"] == pytest.approx(found["notes"])
    assert (minor["key"], minor["relative"]) == (0.0, 1.0)
    other = judge(clip, facts | {"key": "F#", "style": "jazz"}, Ears())  # type: ignore[arg-type]
    assert other["notes"] < 0.5
    assert (other["relative"], other["style"]) == (0.0, 0.0)


def test_means_and_errors_by_hand_and_the_table() -> None:
    rows: list[dict[str, Any]] = [dict.fromkeys(MEASURES, v) for v in (0.0, 1.0)]
    row = summarise(rows)
    assert row["key"] == [0.5, 0.5]
    models = {"real pieces": row, "pocket": row, "pocket, held: both": row}
    found = {"pieces": 2, "seconds": 10.0, "seed": 0, "models": models, "asked": "a style"}
    lines = render(found).splitlines()
    assert "2 prompts, a style; clips of 10 s" in lines[2]
    cell = "0.50 ± 0.50"
    assert f"| pocket | {cell} | {cell} | {cell} | {cell} |  |" in lines
    assert f"| pocket, held: both | {' | '.join([cell] * 5)} |" in lines
