"""A steady beat: where words name no tempo one is found that goes with them, clip by clip."""

import json
import shutil

import numpy as np
import pytest
import torch

from musicgen_rl.audio.clip import Clip
from musicgen_rl.audio.loudness import LoudnessConfig
from musicgen_rl.audio.tempo import tempo_fits
from musicgen_rl.checkpoint import read_info
from musicgen_rl.checkpoint.holds import BEAT, CHORD_SENSE, KEY_SENSE, TEMPO_SENSE, save_hold
from musicgen_rl.errors import CheckpointError, ConfigError, InputError
from musicgen_rl.merging.merge import merge_checkpoints
from musicgen_rl.merging.recipe import MergeConfig
from musicgen_rl.pipeline import GenerationConfig, Pipeline
from musicgen_rl.pipeline.holds import held_to
from musicgen_rl.pipeline.moves import Begins
from musicgen_rl.pipeline.provenance import describe_codes
from musicgen_rl.pipeline.replay import check_holds, compare, read_recipe, remake
from musicgen_rl.text.key import KeySense
from musicgen_rl.text.progression import ProgressionSense
from musicgen_rl.text.sense import load_sense
from musicgen_rl.text.tempo import TEMPI, TempoSense
from tests.audio.test_tempo import clicks
from tests.pipeline.test_jam import begin, played
from tests.pipeline.test_tempo import codes, write_beat


def write_sense(folder, seed=0, width=384, hold=TEMPO_SENSE):
    """Write a sense of tempo, key or chords that knows nothing but has its likings."""
    torch.manual_seed(seed)
    kinds = {TEMPO_SENSE: TempoSense, KEY_SENSE: KeySense, CHORD_SENSE: ProgressionSense}
    sense = kinds[hold](width)
    torch.nn.init.normal_(sense.layer.weight, std=3.0)
    save_hold(hold, sense, folder, {"seed": seed})
    return folder


@pytest.fixture(scope="module")
def folder(dial_folder, tmp_path_factory):
    target = tmp_path_factory.mktemp("models") / "steady"
    shutil.copytree(dial_folder, target)
    return write_sense(write_beat(target))


@pytest.fixture(scope="module", params=["fp32", "int8"])
def pipeline(folder, request):
    return Pipeline.load(folder, device="cpu", dtype=request.param)


def tempi(pipeline, prompts="house", **options):
    options = {"duration_s": 0.2, "seed": 7, "steady": True} | options
    held = [clip.settings["tempo"] for clip in pipeline.generate(prompts, **options)]
    return [tempo and tempo["bpm"] for tempo in held]


def test_a_clip_is_held_to_the_tempo_it_finds(pipeline):
    (bpm,) = tempi(pipeline)
    assert bpm in TEMPI
    found = codes(pipeline, "house", steady=True)
    assert np.array_equal(found, codes(pipeline, "house", tempo_bpm=bpm))
    assert not np.array_equal(found, codes(pipeline, "house"))


def test_variations_find_their_own_and_none_depends_on_its_company(folder):
    pipeline = Pipeline.load(folder, device="cpu", dtype="int8")
    alone = [tempi(pipeline, p, clips_per_prompt=6) for p in ("house", "sad piano")]
    assert len(set(alone[0])) > 1
    assert tempi(pipeline, ["house", "sad piano"], clips_per_prompt=6) == alone[0] + alone[1]
    assert tempi(pipeline, "house", seed=8, clips_per_prompt=6) != alone[0]
    one = codes(pipeline, ["house", "sad piano"], steady=True)
    assert np.array_equal(one[1], codes(pipeline, "sad piano", steady=True))


def test_what_is_named_or_ordered_stands_above_it(pipeline):
    assert tempi(pipeline, ["house, 124 bpm", "90 bpm"]) == [124.0, 90.0]
    assert tempi(pipeline, "house, 124 bpm", tempo_bpm=99.0) == [99.0]
    assert tempi(pipeline, "house", steady=False) == [None]
    assert tempi(pipeline, ["pads, no beat", "no beat, 90 bpm"]) == [None, 90.0]
    waltzes = ["viennese waltz", "piano in 3/4", "waltz, 150 bpm", "piano in 4/4"]
    assert tempi(pipeline, waltzes)[:3] == [None, None, 150.0]
    assert tempi(pipeline, waltzes)[3] in TEMPI
    with pytest.raises(ConfigError, match="a tempo of 0 holds none"):
        tempi(pipeline, tempo_bpm=0.0)
    with pytest.raises(ConfigError, match="steady must be True or False, got 'yes'"):
        GenerationConfig(steady="yes")
    with pytest.raises(InputError, match="does not name one"):
        tempi(pipeline, takes=2, duration_s=4.0)


def test_a_clip_is_made_again_without_what_found_its_tempo(folder, tmp_path):
    pipeline = Pipeline.load(folder, device="cpu", dtype="int8")
    (clip,) = pipeline.generate("house", duration_s=0.4, seed=7, diversity=0.5, steady=True)
    shutil.copytree(folder, tmp_path / "other")
    write_sense(tmp_path / "other", seed=1)
    other = Pipeline.load(tmp_path / "other", device="cpu", dtype="int8")
    recipe = read_recipe(clip.settings)
    check_holds(recipe, other.info)
    assert remake(other, recipe).codes.tolist() == clip.codes.tolist()
    parts = list(pipeline.stream("house", duration_s=0.4, seed=7, diversity=0.5, steady=True))
    assert parts[-1].settings["tempo"] == clip.settings["tempo"]


def test_an_end_alone_and_a_merge_find_it_too(folder, tmp_path):
    on_dial = tempi(Pipeline.load(folder, device="cpu", dtype="fp32"), diversity=0.0)
    assert tempi(Pipeline.load(folder / "quality", device="cpu", dtype="fp32")) == on_dial
    merge_checkpoints(
        folder / "quality", folder / "diversity", tmp_path / "merged", MergeConfig(lam=0.4)
    )
    assert tempi(Pipeline.load(tmp_path / "merged", device="cpu", dtype="fp32")) == on_dial


def test_models_that_cannot_are_named(dial_folder, folder, tmp_path):
    plain = Pipeline.load(dial_folder, device="cpu", dtype="fp32")
    with pytest.raises(ConfigError, match=r"a steady beat cannot be set: .* lacks tempo\."):
        tempi(plain)
    shutil.copytree(dial_folder, tmp_path / "senses")
    write_sense(tmp_path / "senses")
    with pytest.raises(ConfigError, match=r"a steady beat cannot be set: .* lacks beat\."):
        tempi(Pipeline.load(tmp_path / "senses", device="cpu", dtype="fp32"))
    write_sense(tmp_path / "senses", width=5)
    info = read_info(tmp_path / "senses")
    (tmp_path / "senses" / TEMPO_SENSE.file).write_bytes(b"x")
    with pytest.raises(CheckpointError):
        load_sense(info, BEAT, TempoSense)
    save_hold(TEMPO_SENSE, torch.nn.Linear(2, 2), tmp_path / "senses", {})
    with pytest.raises(CheckpointError, match="is not a sense of tempo of this version"):
        load_sense(info, BEAT, TempoSense)


def test_it_is_said_in_words(folder, dial_folder):
    steady, able = GenerationConfig(steady=True), read_info(folder)
    assert held_to(able, "house", steady) == "a steady beat"
    assert held_to(able, "house, 124 bpm", steady) == "124 bpm"
    assert held_to(able, "pads, no beat", steady) == ""
    assert held_to(able, "house", GenerationConfig()) == ""


def test_a_jam_keeps_its_beat_until_another_is_named_and_is_made_again(folder):
    pipeline = Pipeline.load(folder, device="cpu", dtype="fp32")
    bpm = pipeline.holds.tempo.find("drums", 7)
    steady = begin(pipeline, begins=Begins(bpm=bpm))
    moves = (20, {"prompt": "bells"}, 20, {"prompt": "house, 90 bpm"}, 20)
    played(steady, *moves, {"prompt": "house"}, 20)
    named = begin(pipeline, prompt=f"drums, {bpm:g} bpm")
    played(named, 20, {"prompt": f"bells, {bpm:g} bpm"}, *moves[2:], 20)
    assert np.array_equal(steady.joined(), named.joined())
    free = begin(pipeline)
    played(free, *moves)
    assert not np.array_equal(steady.joined()[:, :20], free.joined()[:, :20])
    settings = steady.settings(LoudnessConfig()) | describe_codes(steady.joined(), steady.frames)
    assert (settings["steady_bpm"], free.settings(LoudnessConfig())["steady_bpm"]) == (bpm, None)
    recipe = read_recipe(json.loads(json.dumps(settings)))
    check_holds(recipe, pipeline.info)
    assert compare(recipe, remake(pipeline, recipe).codes, pipeline).identical
    for wrong in ("fast", 1e9, True):
        with pytest.raises(InputError, match="steady_bpm"):
            read_recipe(settings | {"steady_bpm": wrong})


def test_what_goes_on_from_a_clip_goes_on_at_its_tempo(folder, tmp_path):
    pipeline = Pipeline.load(folder, device="cpu", dtype="fp32")
    (clip,) = pipeline.generate("house", duration_s=0.4, seed=7, tempo_bpm=99.0)
    path = clip.save(tmp_path / "a.wav")
    for source in (clip, path):
        assert tempi(pipeline, "bells", continue_from=source, clips_per_prompt=2) == [99.0, 99.0]
    assert tempi(pipeline, "bells, 90 bpm", continue_from=clip) == [90.0]
    heard = Clip(clicks(120.0), 8000)
    (bpm,) = tempi(pipeline, "bells", continue_from=heard)
    assert tempo_fits(bpm, 120.0)
    silence = Clip(np.zeros((1, 8000), np.float32), 8000)
    assert tempi(pipeline, "bells", continue_from=silence) == tempi(pipeline, "bells")
    edited = Clip(clip.samples, clip.sample_rate, {"tempo": {"bpm": "fast"}})
    assert tempi(pipeline, "bells", continue_from=edited) == tempi(pipeline, "bells")
