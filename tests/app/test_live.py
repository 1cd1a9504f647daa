"""Jams: paced, steered, kept, and never in the way of others."""

import json
import shutil
import time
from contextlib import closing

import numpy as np
import pytest

from app.service import Limits, QueueFullError, Service, ServiceClosedError
from app.service.jam import GONE_S, LEAD_S, PLAYS_ON_S, JamRequest
from app.service.live import SLICE_S
from musicgen_rl.audio.io import read_audio, read_tags
from musicgen_rl.audio.loudness import LoudnessConfig
from musicgen_rl.errors import ConfigError, InputError
from musicgen_rl.pipeline import Pipeline
from musicgen_rl.pipeline.replay import check_endpoints, compare, read_recipe, remake

REQUEST = JamRequest(prompt="drums", diversity=0.2, seed=7, sampling={"top_k": 20})
FRAME_S = 0.02


@pytest.fixture(scope="module")
def dialled(dial_folder):
    return Pipeline.load(dial_folder, device="cpu", dtype="fp32")


@pytest.fixture
def begin(dialled):
    services = []

    def start(**options):
        services.append(Service(dialled, **({"warm_up": False} | options)))
        return services[-1]

    yield start
    for service in services:
        service.close()


def settle(jam, played_s=0.0, seconds=30.0):
    """Listen until the jam makes no more; its sound and what was moved."""
    sound, moved, quiet, end = [], [], 0, time.monotonic() + seconds
    while quiet < 8:
        assert time.monotonic() < end
        assert not jam.error
        data, news = jam.hear(played_s)
        sound.append(np.frombuffer(data, "<i2"))
        moved += news
        quiet = quiet + 1 if not data and sound and jam.jam is not None else 0
        time.sleep(0.03)
    return np.concatenate(sound), moved


def test_making_stays_about_two_seconds_ahead_of_what_is_heard(begin):
    now = [0.0]
    jam = begin(clock=lambda: now[0]).live.open(REQUEST)
    settle(jam)
    assert LEAD_S <= (jam.jam.frames + 2) * FRAME_S < LEAD_S + SLICE_S
    first = jam.jam.frames
    time.sleep(0.2)
    assert jam.jam.frames == first  # nobody listened on
    settle(jam, played_s=1.0)
    assert LEAD_S + 1.0 <= (jam.jam.frames + 2) * FRAME_S < LEAD_S + 1.0 + SLICE_S


def test_a_jam_is_made_on_while_its_listener_waits_for_sound(begin):
    now = [0.0]
    jam = begin(clock=lambda: now[0]).live.open(REQUEST)
    settle(jam)
    settle(jam, played_s=0.5)
    now[0] += 0.6
    settle(jam, played_s=0.5)  # a request that waits tells what it told before
    assert LEAD_S + 1.1 <= (jam.jam.frames + 2) * FRAME_S < LEAD_S + 1.1 + SLICE_S
    now[0] += 10.0  # the page sleeps
    settle(jam, played_s=0.5)
    assert (jam.jam.frames + 2) * FRAME_S < LEAD_S + 0.5 + PLAYS_ON_S + SLICE_S


def test_a_wrong_playhead_does_not_make_the_machine_run(begin):
    now = [0.0]
    jam = begin(clock=lambda: now[0]).live.open(REQUEST)
    settle(jam)
    settle(jam, played_s=1e9)
    assert (jam.jam.frames + 2) * FRAME_S < LEAD_S + 1.0 + SLICE_S


def test_a_move_is_heard_within_three_seconds_and_leaves_no_click(begin):
    jam = begin().live.open(REQUEST)
    before, _ = settle(jam)
    number = jam.change(diversity=0.9)
    after, moved = settle(jam, played_s=0.4)
    (report,) = moved
    assert report.number == number == 1
    assert 0 < report.heard_at_s - 0.4 < 3.0
    assert report.weights_ms > 0
    assert [(m.diversity, m.frame) for m in jam.jam.moves] == [
        (0.2, 0), (0.9, round(report.heard_at_s / FRAME_S) - 2),
    ]  # fmt: skip
    joined = np.concatenate([before, after]).astype(float)
    seam = len(before)
    steps = np.abs(np.diff(joined))
    assert steps[seam - 1] <= steps.max() * 0.9 or steps[seam - 1] <= np.percentile(steps, 99)


def test_what_was_played_is_kept_with_its_moves_and_replays(begin, dialled):
    now = [0.0]
    jam = begin(clock=lambda: now[0]).live.open(REQUEST)
    with pytest.raises(ConfigError, match="nothing has been heard"):
        jam.keep()
    settle(jam)
    jam.change(diversity=0.9, prompt="flute")
    settle(jam, played_s=0.6)
    jam.change(sampling={"guidance_scale": 3.0})
    settle(jam, played_s=1.0)
    now[0] += 2.0  # the jam believes no playhead that is ahead of time
    settle(jam, played_s=2.9)
    path = jam.keep("flac")
    assert read_audio(path).duration_s == pytest.approx(2.9, abs=FRAME_S)
    tags = read_tags(path)
    assert [m["prompt"] for m in tags["moves"]] == ["drums", "flute", "flute"]
    assert [m["sampling"]["guidance_scale"] for m in tags["moves"]] == [1.0, 1.0, 3.0]
    recipe = read_recipe(tags)
    check_endpoints(recipe, dialled.info)
    assert compare(recipe, remake(dialled.twin(), recipe).codes, dialled).identical


def test_a_jam_that_is_held_begins_guided_where_the_model_says_so(hearing_folder, tmp_path):
    folder = shutil.copytree(hearing_folder, tmp_path / "m")
    card = json.loads((folder / "musicgen_rl.json").read_text())
    card["lead"] = {"quality_scale": 2.0, "diversity_scale": 1.0, "guidance_s": 0.2}
    (folder / "musicgen_rl.json").write_text(json.dumps(card))
    held = {"prompt": "house", "diversity": 0.5, "chords": "auto", "seed": 7}
    now, pipeline = [0.0], Pipeline.load(folder, device="cpu")
    with closing(Service(pipeline, warm_up=False, clock=lambda: now[0])) as service:

        def begins(**asked):
            jam = service.live.open(JamRequest(**(held | asked)), "a")
            settle(jam)
            return jam, [(m.sampling.guidance_scale, m.sampling.guidance_s) for m in jam.jam.moves]

        assert begins(chords="none")[1] == [(1.0, 0.0)]
        assert begins(sampling={"guidance_scale": 1.0})[1] == [(1.0, 0.0)]
        jam, drawn = begins()
        assert drawn == [(1.5, 0.2)]
        now[0] += 2.0
        jam.change(diversity=1.0, prompt="folk")
        settle(jam, played_s=0.5)
        jam.change(sampling={"guidance_scale": 3.0})
        settle(jam, played_s=1.0)
        told = [(m.sampling.guidance_scale, m.sampling.guidance_s) for m in jam.jam.moves]
        assert told == [(1.5, 0.2), (1.5, 0.2), (3.0, 0.0)]


def test_guidance_that_ends_is_switched_on_and_off_in_a_jam_and_replays(begin, dialled):
    now = [0.0]
    jam = begin(clock=lambda: now[0]).live.open(REQUEST)
    settle(jam)
    for seconds, sampling in ((0.6, {"guidance_scale": 3.0, "guidance_s": 0.2}),
                              (1.2, {"guidance_scale": 1.0})):  # fmt: skip
        jam.change(sampling=sampling)
        settle(jam, played_s=seconds)
    now[0] += 2.0
    settle(jam, played_s=2.9)
    tags = read_tags(jam.keep("flac"))
    drawn = [(m["sampling"]["guidance_scale"], m["sampling"]["guidance_s"]) for m in tags["moves"]]
    assert drawn == [(1.0, 0.0), (3.0, 0.2), (1.0, 0.0)]
    recipe = read_recipe(tags)
    assert compare(recipe, remake(dialled.twin(), recipe).codes, dialled).identical


def test_a_job_of_the_queue_plays_its_own_weights_while_a_jam_moves(begin, dialled):
    from app.service import JobRequest, State
    from tests.app.conftest import finish

    service = begin()
    expected = dialled.generate("horn", duration_s=2.0, seed=3, diversity=0.1)[0]
    jam = service.live.open(REQUEST)
    job = service.submit(JobRequest(prompt="horn", duration_s=2.0, seed=3, diversity=0.1))
    for step in range(8):
        jam.change(diversity=step / 8)
        jam.hear(step * 0.1)
        time.sleep(0.02)
    assert finish(service, job)[-1].state is State.DONE
    assert read_tags(job.files[0])["codes_sha256"] == expected.settings["codes_sha256"]
    assert service.live.playing == 1
    assert "musicgen_rl_jams 1" in service.rendered_metrics()


def test_two_jams_take_turns_and_a_third_is_told_to_wait(begin):
    service = begin(limits=Limits(max_jams=2))
    one, two = service.live.open(REQUEST, "a"), service.live.open(REQUEST, "b")
    first, second = settle(one)[0], settle(two)[0]
    shared = min(len(first), len(second))
    assert shared
    assert np.array_equal(first[:shared], second[:shared])  # same seed, same moves
    with pytest.raises(QueueFullError, match="2 jams play"):
        service.live.open(REQUEST, "c")
    again = service.live.open(REQUEST, "a")  # one visitor has one
    assert one.ended
    assert not two.ended
    again.stop()
    with pytest.raises(ConfigError, match="has ended"):
        again.change(diversity=1.0)
    assert service.live.find(again.id) is again
    assert service.live.find("guess") is None


def test_a_jam_nobody_listens_to_ends(begin):
    now = [0.0]
    service = begin(clock=lambda: now[0])
    jam = service.live.open(REQUEST)
    settle(jam)
    now[0] += GONE_S + 1
    service.live.wake()
    end = time.monotonic() + 10
    while not jam.ended:
        assert time.monotonic() < end
        time.sleep(0.01)
    assert service.live.playing == 0


def test_what_cannot_be_changed_is_said_and_the_jam_goes_on(begin):
    service = begin(limits=Limits(max_prompt_characters=20))
    jam = service.live.open(REQUEST)
    for error, what in (
        (InputError, {"prompt": " "}), (InputError, {"prompt": "x" * 21}),
        (ConfigError, {"diversity": 1.1}), (ConfigError, {"sampling": {"tempo": 1}}),
    ):  # fmt: skip
        with pytest.raises(error):
            jam.change(**what)
    settle(jam)
    assert not jam.ended
    with pytest.raises(InputError):
        service.live.open(JamRequest(prompt=""))
    for orders, said in (
        ({"key": "Dm"}, "cannot hold a key, so D minor"), ({"steady": True}, "a steady beat"),
        ({"tempo_bpm": 5.0}, "tempo must be"), ({"key": "H"}, "key must be a note"),
        ({"chords": "Am F"}, "cannot hold chords"), ({"chords": "Am H"}, "'H' is not a chord"),
        ({"chords": "Am", "tempo_bpm": 0.0}, "change on beats"),
    ):  # fmt: skip
        with pytest.raises(ConfigError, match=said):
            service.live.open(JamRequest(prompt="drums", **orders))


def test_a_jam_begins_with_what_is_ordered_or_found(hearing_folder):
    pipeline = Pipeline.load(hearing_folder, device="cpu", dtype="int8")
    with closing(Service(pipeline, warm_up=False)) as service:
        found, key = pipeline.holds.tempo.find("drums", 7), pipeline.holds.key.find("drums", 7)
        fitting = pipeline.holds.chords.find("drums", 7, key).name
        for orders, begun in (
            ({"tempo_bpm": 124.0, "key": "Am"}, (124.0, "A minor", None)),
            ({"tempo_bpm": 0.0, "key": "none"}, (None, None, None)),
            ({"steady": True, "key": "auto"}, (found, key.name, None)),
            ({"steady": True, "key": "auto", "chords": "auto"}, (found, None, fitting)),
            ({"chords": "Am | F G"}, (found, None, "Am | F G")),
        ):
            jam = service.live.open(JamRequest(prompt="drums", seed=7, **orders))
            settle(jam)
            settings = jam.jam.settings(LoudnessConfig())
            names = ("steady_bpm", "steady_key", "steady_chords")
            assert tuple(settings[name] for name in names) == begun
            jam.stop()


def test_an_error_in_the_making_ends_one_jam_with_a_sentence(begin, monkeypatch, caplog):
    from musicgen_rl.pipeline.jam import Jam

    jam = begin().live.open(REQUEST)
    settle(jam)

    def broken(self, frames):
        raise RuntimeError("a bug")

    monkeypatch.setattr(Jam, "advance", broken)
    jam.hear(1.0)
    end = time.monotonic() + 10
    while not jam.ended:
        jam.hear(1.0)
        assert time.monotonic() < end
        time.sleep(0.01)
    assert "unexpected" in jam.error
    assert "a bug" in caplog.text


def test_a_jam_for_which_there_is_no_room_ends_with_a_sentence_and_the_next_plays(
    begin, monkeypatch
):
    service, real, failed = begin(), Pipeline.twin, []

    def twin(self):
        if not failed:
            failed.append(self)
            raise MemoryError
        return real(self)

    monkeypatch.setattr(Pipeline, "twin", twin)
    first, end = service.live.open(REQUEST), time.monotonic() + 30
    while not first.ended:
        assert time.monotonic() < end
        time.sleep(0.01)
    assert "not enough memory" in first.error
    settle(service.live.open(REQUEST))


def test_a_closed_service_ends_its_jams_and_removes_their_files(begin):
    service = begin()
    jam = service.live.open(REQUEST)
    settle(jam)
    time.sleep(0.3)
    settle(jam, played_s=0.3)
    path = jam.keep()
    service.close()
    assert jam.ended
    assert not path.exists()
    with pytest.raises(ServiceClosedError):
        service.live.open(REQUEST)
