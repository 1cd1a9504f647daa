import numpy as np
import pytest

from musicgen_rl.audio.tempo import (
    has_no_beat,
    hear_tempo,
    named_tempo,
    tempo_fits,
    tempo_gap,
    without_tempo,
)


def clicks(bpm, seconds=8.0, rate=8000):
    """Play a click on every beat, [1, M]."""
    samples = np.zeros((1, round(seconds * rate)), np.float32)
    tick = np.hanning(80).astype(np.float32) * np.sin(np.arange(80)).astype(np.float32)
    for at in np.arange(0.1, seconds - 0.1, 60 / bpm):
        start = round(at * rate)
        samples[0, start : start + 80] = tick
    return samples


@pytest.mark.parametrize(
    ("text", "bpm"),
    [
        ("house, 124 bpm", 124.0),
        ("House at 124BPM, four on the floor", 124.0),
        ("a 96.5 bpm groove", 96.5),
        ("120-bpm march", 120.0),
        ("120 bpm drums, still 120 bpm", 120.0),
        ("from 90 bpm to 120 bpm", None),
        ("an 80s song", None),
        ("9 bpm", None),
        ("999 bpm", None),
        ("1240 bpm", None),
        ("bpm", None),
        ("120 bpmx", None),
    ],
)
def test_a_tempo_is_read_where_one_is_named(text, bpm):
    assert named_tempo(text) == bpm


@pytest.mark.parametrize("bpm", [80, 100, 125, 150])
def test_clicks_are_heard_at_their_tempo(bpm):
    heard = hear_tempo(clicks(bpm), 8000)
    assert tempo_fits(heard, bpm)
    stereo = np.concatenate([clicks(bpm), clicks(bpm) * 0.5])
    assert hear_tempo(stereo, 8000) == heard


@pytest.mark.filterwarnings("error")
def test_silence_and_what_is_too_short_have_no_tempo():
    assert hear_tempo(clicks(100)[:, :800], 8000) == 0.0
    assert hear_tempo(np.zeros((1, 8000), np.float32), 8000) == 0.0
    assert not tempo_fits(0.0, 100.0)


@pytest.mark.parametrize(
    ("heard", "gap"), [(100, 0.0), (50, 0.0), (200, 0.0), (103, 0.03), (47, 0.06), (150, 0.25)]
)
def test_half_and_double_a_tempo_are_as_near(heard, gap):
    assert tempo_gap(heard, 100.0) == pytest.approx(gap)
    assert tempo_fits(heard, 100.0) == (gap <= 0.04)


@pytest.mark.parametrize(
    ("text", "rest"),
    [
        ("house, 124 bpm", "house"),
        ("124 bpm house", "house"),
        ("house at 124BPM, four on the floor", "house, four on the floor"),
        ("A waltz. It runs at 90 bpm.", "A waltz. It runs."),
        ("calm, around 70 bpm, solo piano", "calm, solo piano"),
        ("funk, 105 bpm, slap bass; 105 bpm", "funk, slap bass"),
        ("a 96.5 bpm groove", "a groove"),
        ("124 bpm", "124 bpm"),
        ("an 80s song, 999 bpmx", "an 80s song, 999 bpmx"),
        ("slow sad piano", "slow sad piano"),
    ],
)
def test_a_tempo_is_taken_out_of_a_text(text, rest):
    assert without_tempo(text) == rest


@pytest.mark.parametrize(
    ("text", "none"),
    [
        ("ambient pads, floating, no beat", True), ("Beatless drone", True),
        ("strings without a steady pulse", True), ("piano, rubato", True),
        ("a flute in free time", True), ("no beats, no drums", True), ("without rhythm", True),
        ("calm ambient pad with kalimba", True), ("a dark soundscape", True), ("low drones", True),
        ("ambient techno", False), ("Ambient house, warm", False), ("drone metal", False),
        ("no drums", False), ("off-beat organ, no voices", False), ("no rhythm guitar", False),
        ("a free spirit", False), ("beats to study to", False), ("", False),
    ],
)  # fmt: skip
def test_words_may_say_that_there_is_no_beat(text, none):
    assert has_no_beat(text) == none
