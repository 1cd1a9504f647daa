"""What the page says and shows, held against what is known by hand; no server, no browser."""

import re

import numpy as np
import pytest

from app import words
from app.cards import held_by
from app.figures import apart
from app.picture import spectrogram
from app.playback import Playback, sample_bytes, start_after_s
from app.service import State, Update
from app.status import describe, line


def update(state=State.RUNNING, **changes):
    fields = {
        "state": state, "position": 0, "fraction": 0.0, "seconds_left": None, "parts": [],
        "files": [], "error": "",
    }  # fmt: skip
    return Update(**(fields | changes))


@pytest.mark.parametrize(
    ("shown", "clips", "more", "text"),
    [
        (update(State.WAITING, position=1, seconds_left=12.0), 1, {},
         "Waiting: 1 job is before yours, about 12 s left."),
        (update(State.WAITING, position=3), 1, {}, "Waiting: 3 jobs are before yours."),
        (update(State.WAITING), 1, {}, "Waiting to start."),
        (update(fraction=0.43, seconds_left=6.2), 4, {}, "Making 4 clips: 43 %, about 7 s left."),
        (update(fraction=0.3), 1, {"playing_later": True},
         "Making one clip: 30 %, playing starts when it will not break off."),
        (update(State.DONE), 2, {}, "Done: 2 clips."),
        (update(State.DONE), 1, {"held": "124 bpm and D minor"},
         "Done: one clip held to 124 bpm and D minor."),
        (update(fraction=0.43), 4, {"held": "A major"}, "Making 4 clips held to A major: 43 %."),
        (update(State.STOPPED), 2, {"kept": True}, "Stopped. What was heard until then is kept "
         "below."),
        (update(State.STOPPED), 2, {}, "Stopped. Nothing was heard yet."),
        (update(State.FAILED, error="no room: make it shorter"), 1, {},
         "No room: make it shorter."),
    ],
)  # fmt: skip
def test_a_jobs_standing_is_one_sentence(shown, clips, more, text):
    said = describe(shown, clips=clips, **({"playing_later": False} | more))
    (seen,) = re.findall("<p>(.*)</p>", said)
    assert re.sub("<[^>]*>", "", seen) == text


def read_aloud(update, **more):
    """What stands in the live regions of a sentence, and which they are."""
    said = describe(update, clips=4, **({"playing_later": False} | more))
    return re.findall('role="(status|alert)">([^<]*)<', said)


def test_a_screen_reader_is_told_a_jobs_states_and_no_figures():
    shares = [
        (0.0, None, False), (0.0, 9.0, False), (0.43, 6.2, False), (0.5, 2.0, True),
        (1.0, 0.0, False),
    ]  # fmt: skip
    for fraction, left, later in shares:
        running = update(fraction=fraction, seconds_left=left)
        assert read_aloud(running, playing_later=later) == [("status", "Making 4 clips")]
    for left in (None, 12.0, 9.0):
        first = update(State.WAITING, seconds_left=left)
        assert read_aloud(first) == [("status", "Waiting to start")]
        second = update(State.WAITING, position=1, seconds_left=left)
        assert read_aloud(second) == [("status", "Waiting: 1 job is before yours")]
    assert read_aloud(update(State.DONE)) == [("status", "Done: 4 clips.")]
    assert read_aloud(update(State.FAILED, error="no room")) == [("alert", "No room.")]


def test_the_bar_is_as_wide_as_the_share_and_only_there_while_it_runs():
    assert 'aria-valuenow="43"' in describe(update(fraction=0.43), clips=1, playing_later=False)
    assert "width:43%" in describe(update(fraction=0.43), clips=1, playing_later=False)
    assert "progressbar" not in describe(update(State.DONE), clips=1, playing_later=False)


def test_nothing_in_a_sentence_becomes_html():
    assert "<b>" not in line("<b>bold</b>", kind="bad")
    assert 'role="alert"' in line("x", kind="bad")


@pytest.mark.parametrize(
    ("license", "answer"),
    [
        ("Apache-2.0", "Yes, also commercially"),
        ("MIT", "Yes, also commercially"),
        ("CC0-1.0", "Yes, also commercially"),
        ("cc-by-nc-4.0", "Not commercially"),
        ("CC-BY-NC-SA-4.0", "Not commercially"),
        ("CC-BY-4.0", "Yes, with credit"),
        ("unknown", "Not known"),
        ("", "Not known"),
        ("OpenRAIL-M", "See the licence"),
    ],
)
def test_may_i_use_this_follows_the_licence(license, answer):
    short, reason = words.may_i_use_this(license)
    assert short == answer
    assert license in reason or answer == "Not known"


def test_examples_are_different_and_short():
    assert len(set(words.EXAMPLES)) == len(words.EXAMPLES) >= 6
    assert max(map(len, words.EXAMPLES)) < 40


def test_playing_waits_for_as_much_as_making_falls_behind():
    assert start_after_s(10.0, 4.0) == 0.0
    assert start_after_s(10.0, 0.575) == pytest.approx(5.0)  # half of 1.15: half of the clip first
    assert start_after_s(10.0, 0.0) == 10.0


@pytest.mark.parametrize("rate", [0.3, 0.7, 1.0, 3.0])
def test_playing_never_overtakes_making(rate):
    duration_s, part_s, sample_rate = 20.0, 0.5, 100
    playback, now, started, given = Playback(duration_s, sample_rate), 0.0, None, 0.0
    playback.push([], now)
    made = 0.0
    while made < duration_s:
        now += part_s / rate
        made += part_s
        part = np.zeros((1, int(part_s * sample_rate)), np.float32)
        piece = playback.push([part], now, last=made >= duration_s)
        if started is not None:
            assert given >= min(duration_s, now - started) - 1e-9 or made >= duration_s
        if piece is not None:
            started = now if started is None else started
            given += len(piece) / 2 / sample_rate
    assert given == pytest.approx(duration_s)
    if rate == 3.0:
        assert started < 0.5


def test_playing_waits_for_the_next_part_though_making_is_ahead():
    """At 1.5 times as fast 0.4 s last 0.6 s of making: not enough for a part of 0.8."""
    playback, part = Playback(10.0, 100), np.zeros((1, 40), np.float32)
    playback.push([], 0.0)
    assert playback.push([part], 0.4 / 1.5) is None
    assert playback.push([np.zeros((1, 80), np.float32)], 1.2 / 1.5) is not None
    fast = Playback(10.0, 100)
    fast.push([], 0.0)
    assert fast.push([part], 0.4 / 2.1) is not None


def test_what_clips_take_here_counts_where_the_first_part_was_slow():
    """The prompt is read and the weights are set before it; later parts come without that."""
    part = np.zeros((1, 40), np.float32)
    for expected_s, goes in ((0.0, False), (2.0, True), (9.0, False)):
        playback = Playback(10.0, 100, expected_s)
        playback.push([], 0.0)
        assert (playback.push([part], 0.5) is not None) == goes


def test_samples_go_out_in_16_bit_interleaved_and_keep_their_level():
    samples = np.array([[0.0, 0.25, -0.5], [0.1, 0.0, 1.0]], np.float32)
    read = np.frombuffer(sample_bytes(samples), "<i2").reshape(3, 2).T
    assert np.array_equal(read, [[0, 8192, -16384], [3277, 0, 32767]])


def test_a_low_tone_is_light_below_and_a_high_one_above():
    t = np.arange(16000) / 8000
    for hertz, row in ((80.0, 0), (3000.0, 1)):
        samples = np.sin(2 * np.pi * hertz * t).astype(np.float32)[None]
        pixels = np.asarray(spectrogram(samples, 8000, width=50, height=60), dtype=float).sum(-1)
        assert pixels.shape == (60, 50)
        brightest = int(pixels.mean(axis=1).argmax())
        expected = 59 - 60 * np.log(hertz / 40) / np.log(4000 / 40)
        assert abs(brightest - expected) <= 2, row


def test_time_runs_to_the_right_and_silence_is_dark():
    samples = np.zeros((1, 16000), np.float32)
    assert np.asarray(spectrogram(samples, 8000)).max() < 40
    samples[0, 12000:] = np.random.default_rng(0).normal(size=4000) * 0.1
    columns = np.asarray(spectrogram(samples, 8000, width=100), dtype=float).mean(axis=(0, 2))
    assert columns[90:].min() > 2 * columns[:60].max()


def test_clips_shorter_than_the_window_have_a_picture():
    image = spectrogram(np.ones((2, 10), np.float32) * 0.1, 8000)
    assert image.size == (640, 128)


def test_points_that_cover_each_other_are_moved_apart_and_others_stay():
    spots = np.array([[10.0, 10.0], [14.0, 10.0], [10.0, 90.0]])
    moved = apart(spots, 16.0)
    assert np.hypot(*(moved[0] - moved[1])) == pytest.approx(16.0, abs=0.2)
    assert moved[0].tolist() == pytest.approx([4.0, 10.0], abs=0.1)
    assert moved[2].tolist() == [10.0, 90.0]
    assert np.hypot(*np.subtract(*apart(np.zeros((2, 2)), 16.0))) == pytest.approx(16.0, abs=0.2)


def test_a_card_says_what_its_clip_was_held_to():
    tempo, key = {"bpm": 92.5}, {"name": "D minor"}
    chords = {"name": "Am F x2; C; Dm", "beats_per_bar": 4, "passed": 0}
    for told, said in (
        ({"tempo": tempo, "key": key}, "92.5 bpm, D minor"),
        ({"tempo": None, "key": key}, "D minor"), ({"moves": []}, ""),
    ):  # fmt: skip
        assert held_by(told) == said
    for seconds, passed, said in (
        (10.3, 0, "Am F"), (10.5, 0, "Am F x2; C"), (60.0, 0, "Am F x2; C; Dm"),
        (1.0, 15, "Am F x2; C"),
    ):  # fmt: skip
        told = {"tempo": tempo, "chords": chords | {"passed": passed}, "duration_s": seconds}
        assert held_by(told) == f"92.5 bpm, {said}"
    stopped = {"tempo": tempo, "chords": chords, "duration_s": 60.0}
    assert held_by(stopped, 10.3) == "92.5 bpm, Am F"  # it was stopped before the others came
