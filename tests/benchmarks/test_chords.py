"""Chords are heard where they are asked for, and the table says how well."""

import json
from typing import Any

import numpy as np
import pytest

from benchmarks.chords import (
    HEADS,
    MEASURES,
    choose,
    judge,
    on_chords,
    own_chords,
    render,
    round_and_round,
    summarise,
)
from musicgen_rl.audio.clip import Clip
from musicgen_rl.data.chords import read_chord
from musicgen_rl.data.manifest import Entry
from musicgen_rl.errors import InputError
from tests.benchmarks.test_pocket_music import RATE, play
from tests.benchmarks.test_takes import Ears

AM, F = read_chord("Am"), read_chord("F")
FACTS = {
    "style": "rock", "key": "A", "mode": "minor", "scale": "minor", "meter": "3/4", "beat_s": 0.5,
    "first_beat_s": 0.1, "progression": "i | bVI iv", "chords": [[0.1, "Am"], [1.6, "F"]],
}  # fmt: skip


def piece(**changes: Any) -> Entry:
    facts = {k: v for k, v in (FACTS | changes).items() if v is not None}
    return Entry(audio="a.flac", captions=("a",), attributes=facts, split="test", duration_s=40.0)


def test_chords_of_a_piece_and_of_its_first_theme_by_hand() -> None:
    assert own_chords(piece()) == [(0.1, AM), (1.6, F)]
    found = [(round(start, 6), chord.name) for start, chord in round_and_round(piece(), 5.0)]
    assert found == [(0.1, "Am"), (1.6, "F"), (2.35, "Dm"), (3.1, "Am"), (4.6, "F"), (5.35, "Dm")]


def test_energy_on_chords_is_told_from_energy_beside_them() -> None:
    sound = np.concatenate([play([57, 60, 64], 0.5, 3.0), play([55, 58, 62], 0.5, 3.0)])
    true = on_chords(sound, [(0.0, AM), (3.0, read_chord("Gm"))])
    late = on_chords(sound, [(0.0, AM)])
    wrong = on_chords(sound, [(0.0, read_chord("Gm")), (3.0, AM)])
    assert true > 0.4
    assert true > late + 0.1
    assert late > wrong + 0.1
    assert wrong < 0.0


def test_a_clip_is_judged_by_what_it_was_told() -> None:
    clip = Clip(play([57, 60, 64] * 8, 0.5)[None].astype(np.float32), RATE)
    found = dict(zip(MEASURES, judge(clip, [(0.0, AM)], "rock", Ears()), strict=True))  # type: ignore[arg-type]
    assert found["chords"] > 0.5
    assert found["returns"] > 0.8
    assert found["style"] == 1.0


def test_pieces_whose_chords_are_not_told_are_passed_over(tmp_path: Any) -> None:
    entries = [piece(), piece(progression=None), piece(), piece(chords=None)]
    path = tmp_path / "m.jsonl"
    path.write_text("".join(json.dumps(e.to_json()) + "\n" for e in entries))
    assert len(choose(path, "test", 5, 30.0)) == 2
    assert len(choose(path, "test", 1, 30.0)) == 1
    with pytest.raises(InputError, match="two held-out pieces"):
        choose(path, "test", 5, 38.0)


def test_means_and_errors_by_hand_and_the_table() -> None:
    row = summarise([[0.0] * len(MEASURES), [1.0] * len(MEASURES)])
    assert row["chords"] == [0.5, 0.5]
    lines = render({"pieces": 2, "seconds": 30.0, "seed": 0, "rows": {"real": row}}).splitlines()
    assert lines[4] == "| | " + " | ".join(HEADS) + " |"
    assert lines[-1] == f"| real | {' | '.join(['0.50 ± 0.50'] * 6)} |"
