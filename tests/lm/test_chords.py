"""A chord is told at the frames in which it sounds, round and round."""

import re

import pytest
import torch

from musicgen_rl.data.chords import SUFFIXES, Chord, read_chord, read_progression
from musicgen_rl.lm.beat import Beat, MovingMetronome
from musicgen_rl.lm.chords import (
    FEATURES,
    Chart,
    ChordAdapter,
    LeadSheet,
    MovingLeadSheet,
    chord_features,
)
from tests.lm.test_beat import adapter_of as beat_adapter

RATE = 10.0  # frames a second: at 60 bpm ten frames are a beat
BEAT = Beat(60.0, 0.0)


def adapter_of(width=8, layers=2, seed=0):
    torch.manual_seed(seed)
    made = ChordAdapter(width, layers)
    torch.nn.init.normal_(made.outer.weight, std=0.3)
    return made.requires_grad_(False)


def sounding(text, first=0, frames=10, **how):
    """Name the chord of each frame."""
    known = {
        name: chord_features([read_chord(name)])[0] for name in set(re.findall(r"[A-G]m?", text))
    }
    told = Chart(read_progression(text), how.pop("beat", BEAT), **how)
    rows = told.sounding(first, frames, RATE)
    assert rows.shape == (frames, FEATURES)
    return [next(n for n, row in known.items() if torch.equal(row, one)) for one in rows]


def test_features_by_hand():
    (found,) = chord_features([read_chord("Am")])
    notes = [0.75 if pitch in {9, 0, 4} else -0.25 for pitch in range(12)]
    root = [11 / 12 if pitch == 9 else -1 / 12 for pitch in range(12)]
    assert found.tolist() == pytest.approx(notes + root, abs=1e-6)


def test_all_transpositions_together_say_nothing():
    for shape in SUFFIXES.values():
        every = chord_features([Chord(root, shape) for root in range(12)])
        assert torch.allclose(every.sum(0), torch.zeros(FEATURES), atol=1e-5)


def test_a_bar_each_round_and_round():
    heard = sounding("Am F", frames=170, beats_per_bar=4)
    assert heard == ["Am"] * 40 + ["F"] * 40 + ["Am"] * 40 + ["F"] * 40 + ["Am"] * 10
    assert sounding("Am F", frames=65, beats_per_bar=3) == ["Am"] * 30 + ["F"] * 30 + ["Am"] * 5


def test_sections_are_told_as_often_as_they_are_played():
    heard = sounding("Am F x2; G", frames=240)
    assert heard[:200] == (["Am"] * 40 + ["F"] * 40) * 2 + ["G"] * 40
    assert heard[200:] == ["Am"] * 40


def test_chords_of_a_bar_share_it():
    assert sounding("Am | F G", frames=80) == ["Am"] * 40 + ["F"] * 20 + ["G"] * 20


def test_before_the_first_beat_and_after_what_has_passed():
    assert sounding("Am F", first=-5, frames=10, beat=Beat(60.0, 0.3)) == ["Am"] * 10
    assert sounding("Am F", frames=20, passed=3) == ["Am"] * 10 + ["F"] * 10
    assert sounding("Am F", first=-10, frames=20, passed=4) == ["Am"] * 10 + ["F"] * 10
    assert sounding("Am F", first=-60, frames=10, passed=4) == ["Am"] * 10


def test_an_adapter_that_has_learnt_nothing_adds_nothing():
    told = ChordAdapter(8, 2)(torch.randn(3, 5, FEATURES))
    assert told.shape == (2, 3, 5, 8)
    assert not told.any()


def test_each_clip_is_told_its_own_chords():
    adapter = adapter_of()
    charts = [Chart(read_progression("Am F"), BEAT), None, Chart(read_progression("G"), BEAT)]
    told = LeadSheet(adapter, charts, RATE).told(35, 10)
    assert told.shape == (2, 3, 10, 8)
    assert not told[:, 1].any()
    for row in (0, 2):
        alone = LeadSheet(adapter, [charts[row]], RATE).told(35, 10)
        assert torch.equal(told[:, row : row + 1], alone)
    assert not torch.equal(told[:, 0, 4], told[:, 0, 5])
    assert torch.equal(told[:, 2, :1].expand(-1, 10, -1), told[:, 2])


def test_a_moving_sheet_follows_the_beat_and_keeps_what_was_told():
    adapter, progression = adapter_of(), read_progression("Am F")
    metronome = MovingMetronome(beat_adapter(), BEAT, RATE)
    sheet = MovingLeadSheet(adapter, progression, 4, metronome)
    first = sheet.told(0, 100)
    assert torch.equal(first, LeadSheet(adapter, [Chart(progression, BEAT)], RATE).told(0, 100))
    metronome.move(60, 120.0)  # six beats are over; at double the tempo the bar ends at frame 70
    told = sheet.told(0, 100)
    assert torch.equal(told[:, :, :60], first[:, :, :60])
    assert torch.equal(told[:, :, 60:70], first[:, :, 60:70])
    assert torch.equal(told[:, :, 70:90], first[:, :, :20])
    assert torch.equal(told[:, :, 90:], first[:, :, 40:50])
    sheet.move(80, read_progression("G"))
    metronome.move(95, None)
    after = sheet.told(0, 100)
    assert torch.equal(after[:, :, :80], told[:, :, :80])
    only = LeadSheet(adapter, [Chart(read_progression("G"), BEAT)], RATE).told(0, 15)
    assert torch.equal(after[:, :, 80:95], only)
    assert not after[:, :, 95:].any()
    sheet.move(0, None)
    assert not sheet.told(0, 100).any()


def test_a_chart_calls_back_the_round_before_but_not_what_was_before_it():
    chart = Chart(read_progression("Am F"), BEAT)  # a bar is 4 s, 40 frames
    assert chart.lags(0, 200, RATE).tolist() == [0] * 80 + [80] * 120
    later = Chart(read_progression("Am F"), Beat(60.0, -1.0), passed=6)
    assert later.lags(-20, 120, RATE).tolist() == [0] * 30 + [80] * 90
    short = Chart(read_progression("Am"), Beat(120.0, 0.0))  # a bar is 2 s: two of them come back
    assert short.lags(30, 30, RATE).tolist() == [0] * 10 + [40] * 20


def test_a_lead_sheet_calls_back_for_each_clip():
    charts = [Chart(read_progression("Am F"), BEAT), None]
    assert LeadSheet(adapter_of(), charts, RATE).lags(75, 10).tolist() == [
        [0] * 5 + [80] * 5, [0] * 10,
    ]  # fmt: skip


def test_a_jam_calls_back_what_it_played_since_its_chords_and_its_tempo_hold():
    metronome = MovingMetronome(beat_adapter(), BEAT, RATE)
    sheet = MovingLeadSheet(adapter_of(), read_progression("Am F"), 4, metronome)
    plain = LeadSheet(adapter_of(), [Chart(read_progression("Am F"), BEAT)], RATE)
    assert torch.equal(sheet.lags(60, 200), plain.lags(60, 200))
    sheet.move(100, read_progression("C"))
    assert sheet.lags(90, 70).tolist() == [[80] * 10 + [0] * 40 + [40] * 20]
    metronome.move(150, 120.0)
    assert sheet.lags(130, 70)[0].tolist()[:20] == [0] * 10 + [40] * 10
    assert sheet.lags(150, 60)[0].tolist() == [0] * 40 + [40] * 20
    sheet.move(300, None)
    assert not sheet.lags(300, 50).any()
