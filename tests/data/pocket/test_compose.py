import random

import numpy as np
import pytest

from musicgen_rl.data.keys import KEY_NAMES, MODES
from musicgen_rl.data.pocket.compose import compose, humanize, layer_gain, plan_form
from musicgen_rl.data.pocket.instruments import DRUM_KITS, INSTRUMENTS
from musicgen_rl.data.pocket.rhythm import on_grid
from musicgen_rl.data.pocket.score import Note, Part, Score
from musicgen_rl.data.pocket.style import Layer
from musicgen_rl.data.pocket.styles import BROADER, STYLES
from musicgen_rl.data.pocket.theory import parse_progression


def test_there_are_at_least_sixteen_styles() -> None:
    wanted = {
        "solo piano", "string quartet", "orchestral", "folk", "jazz", "bossa nova", "blues",
        "rock", "metal", "funk", "reggae", "lo-fi", "house", "techno", "ambient", "synthwave",
        "chiptune", "march", "waltz", "latin",
    }  # fmt: skip
    assert wanted <= set(STYLES)


@pytest.mark.parametrize("name", STYLES)
def test_style_data_names_only_what_exists(name: str) -> None:
    style = STYLES[name]
    assert style.tempo[0] < style.tempo[1]
    for layer in style.layers:
        assert set(layer.instruments) <= set(INSTRUMENTS)
        assert layer.patterns or layer.role in ("lead", "counter")
    assert set(style.kits) <= set(DRUM_KITS)
    assert set(style.modes) <= set(MODES)
    assert style.layers[0].role in ("lead", "arp")


@pytest.mark.parametrize("name", STYLES)
def test_a_piece_is_playable_in_key_and_in_tempo(name: str) -> None:
    style = STYLES[name]
    piece = compose(style, random.Random(f"test {name}"), duration_s=35)
    score = piece.score
    assert on_grid(style.tempo[0]) <= score.tempo_bpm <= on_grid(style.tempo[1])
    assert on_grid(score.tempo_bpm) == pytest.approx(score.tempo_bpm)
    assert 20 < score.duration_s < 60
    assert score.parts
    scale = {(KEY_NAMES.index(piece.key) + s) % 12 for s in MODES[piece.mode]}
    inside = outside = 0.0
    for part in score.parts:
        assert part.notes
        for n in part.notes:
            assert 1 <= n.velocity <= 127
            assert n.duration > 0
            assert 0 <= n.start < score.num_beats
            if part.is_drums:
                assert 35 <= n.pitch <= 81
                continue
            assert 21 <= n.pitch <= 108
            if n.pitch % 12 in scale:
                inside += n.duration
            else:
                outside += n.duration
    limit = 0.35 if name in ("blues", "ragtime", "jazz", "bossa nova", "funk") else 0.2
    assert outside <= limit * (inside + outside)


@pytest.mark.parametrize("name", ["jazz", "techno", "waltz"])
def test_the_same_chance_gives_the_same_piece(name: str) -> None:
    a = compose(STYLES[name], random.Random(5), duration_s=30)
    b = compose(STYLES[name], random.Random(5), duration_s=30)
    c = compose(STYLES[name], random.Random(6), duration_s=30)
    assert a.score == b.score
    assert a.score != c.score


def test_the_wanted_length_is_met() -> None:
    for wanted in (20, 60):
        lengths = [
            compose(STYLES["pop"], random.Random(i), duration_s=wanted).score.duration_s
            for i in range(4)
        ]
        assert all(abs(x - wanted) < 16 for x in lengths)


def test_the_ending_rests_on_the_tonic() -> None:
    piece = compose(STYLES["rock"], random.Random(3), duration_s=30)
    tonic = KEY_NAMES.index(piece.key)
    bass = next(p for p in piece.score.parts if p.role == "bass")
    assert max(bass.notes, key=lambda n: n.start).pitch % 12 == tonic


def test_humans_scatter_and_machines_do_not() -> None:
    band = compose(STYLES["jazz"], random.Random(1), duration_s=30).score
    machine = compose(STYLES["chiptune"], random.Random(1), duration_s=30).score
    assert len({round(n.shift_s, 4) for n in band.parts[0].notes}) > 5
    assert {n.shift_s for n in machine.parts[0].notes} == {0.0}


def test_swing_delays_the_off_beats() -> None:
    piece = compose(STYLES["jazz"], random.Random(2), duration_s=30)
    assert 0.6 <= piece.swing <= 0.68
    ride = next(p for p in piece.score.parts if p.is_drums).notes
    offs = {round(n.start % 1, 3) for n in ride} - {0.0}
    assert round(piece.swing, 3) in offs
    assert 0.5 not in offs


def test_a_waltz_has_three_beats() -> None:
    assert compose(STYLES["waltz"], random.Random(0), duration_s=30).score.beats_per_bar == 3


def test_a_form_has_themes_and_returns() -> None:
    rng = random.Random(4)
    sections = plan_form(STYLES["folk"], rng, "major", 4, 120, 60, 0.5)
    themes = [s.theme for s in sections if s.theme]
    assert len(themes) > len(set(themes)) >= 2
    assert 26 <= sum(len(s.harmony) for s in sections) <= 36
    known = [parse_progression(p) for p in STYLES["folk"].major]
    assert any(sections[-1].harmony[: len(p)] == p for p in known)


def test_leads_are_mixed_above_basses_and_soft_layers_raised() -> None:
    lead = Layer(role="lead", instruments=("piano",), velocity=84)
    bass = Layer(role="bass", instruments=("bass guitar",), velocity=84)
    soft = Layer(role="lead", instruments=("piano",), velocity=60)
    assert layer_gain(lead) > layer_gain(bass)
    assert layer_gain(soft) > layer_gain(lead)


def test_broader_words_cover_known_styles() -> None:
    assert all(set(styles) <= set(STYLES) for styles in BROADER.values())


def test_players_have_habits() -> None:
    notes = [Note(beat / 2, 0.4, 60, 80) for beat in range(8 * 40)]
    score = Score(120.0, 4, [Part("lead", "piano", 0, notes)], 160.0)
    humanize(score, random.Random(3), 0.5, 1.0, 20.0)
    shifts = np.array([n.shift_s for n in score.parts[0].notes]).reshape(40, 8)  # by bar, by place
    assert shifts.std(0).mean() == pytest.approx(0.004, abs=0.001)  # from bar to bar
    assert 0.004 < shifts.mean(0).std() < 0.016  # from place to place
