import random
from dataclasses import replace

import pytest

from musicgen_rl.data.pocket.melody import double_in_thirds, make_motif, melody_scale, write_melody
from musicgen_rl.data.pocket.score import Note
from musicgen_rl.data.pocket.style import Tune
from musicgen_rl.data.pocket.theory import parse_progression

TUNE = Tune(rhythms=("x---x---", "x-x-x-x-", "xxxxxxxx"), rest=0.0)
HARMONY = parse_progression("I | vi | IV | V | I | vi | IV V | I")


def melody(seed: int = 0, tune: Tune = TUNE, energy: float = 0.5, **changes: object) -> list[Note]:
    options: dict[str, object] = {
        "harmony": HARMONY, "tonic": 0, "mode": "major", "beats": 4, "energy": energy,
        "low": 60, "high": 84, "velocity": 80, "gate": 0.9,
    }  # fmt: skip
    return write_melody(random.Random(seed), tune, **{**options, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", range(8))
def test_a_melody_stays_in_the_key_and_the_range(seed: int) -> None:
    notes = melody(seed)
    assert {n.pitch % 12 for n in notes} <= {0, 2, 4, 5, 7, 9, 11}
    assert all(60 <= n.pitch <= 84 for n in notes)
    assert all(0 <= n.start < 32 for n in notes)


@pytest.mark.parametrize("seed", range(8))
def test_the_last_note_is_the_tonic(seed: int) -> None:
    assert melody(seed)[-1].pitch % 12 == 0


@pytest.mark.parametrize("seed", range(4))
def test_downbeats_are_chord_tones(seed: int) -> None:
    for n in melody(seed):
        if n.start % 4 == 0:
            chord = HARMONY[int(n.start // 4)][0]
            assert n.pitch % 12 in chord.pitch_classes(0)


def test_energy_makes_more_notes() -> None:
    calm = sum(len(melody(s, energy=0.0)) for s in range(10))
    busy = sum(len(melody(s, energy=1.0)) for s in range(10))
    assert busy > 1.5 * calm


def test_a_motif_comes_back() -> None:
    notes = melody(3, tune=replace(TUNE, rhythms=("x--x-xx-", "xx-x--x-", "x-x-xxx-")))
    bars = [tuple(n.start % 4 for n in notes if n.start // 4 == b) for b in range(8)]
    assert len(set(bars)) < 8


def test_the_tonic_moves_the_melody() -> None:
    assert {n.pitch % 12 for n in melody(1, tonic=6)} <= {6, 8, 10, 11, 1, 3, 5}


def test_rests_leave_bars_out() -> None:
    full = sum(len(melody(s)) for s in range(10))
    thin = sum(len(melody(s, tune=replace(TUNE, rest=1.0))) for s in range(10))
    assert thin < full


def test_ornaments_add_grace_notes() -> None:
    assert len(melody(2, tune=replace(TUNE, ornament=1.0))) > len(melody(2))


def test_scales_follow_the_style_and_the_mode() -> None:
    assert melody_scale(replace(TUNE, scale="pentatonic"), "dorian") == (0, 3, 5, 7, 10)
    assert melody_scale(replace(TUNE, scale="blues"), "minor") == (0, 3, 5, 6, 7, 10)
    assert melody_scale(TUNE, "lydian") == (0, 2, 4, 6, 7, 9, 11)


def test_a_motif_fills_its_bar_and_no_more() -> None:
    motif = make_motif(random.Random(5), TUNE, 1.0, 3)
    assert len(motif.hits) == len(motif.steps)
    assert all(h.start + h.duration <= 3 for h in motif.hits)


def test_doubling_adds_a_consonant_voice_below() -> None:
    white = [0, 2, 4, 5, 7, 9, 11]
    (third,) = double_in_thirds([Note(0, 1, 67, 80)], white)  # G: E below
    assert (third.pitch, third.start, third.duration) == (64, 0, 1)
    assert third.velocity < 80
    assert double_in_thirds([Note(0, 0.1, 67, 80)], white) == []
