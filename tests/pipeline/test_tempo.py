"""A tempo is held where one is asked for: by prompt, by option, after a clip, and made again."""

import copy
import shutil

import numpy as np
import pytest
import torch

from musicgen_rl.audio.clip import Clip
from musicgen_rl.audio.tempo import next_beat
from musicgen_rl.checkpoint import read_info
from musicgen_rl.checkpoint.holds import BEAT, load_beat, save_hold
from musicgen_rl.errors import CheckpointError, ConfigError, InputError
from musicgen_rl.lm.beat import FIRST_BEAT_S, BeatAdapter
from musicgen_rl.pipeline import GenerationConfig, Pipeline
from musicgen_rl.pipeline.asked import asked_tempo
from musicgen_rl.pipeline.replay import check_holds, compare, read_recipe, remake
from musicgen_rl.pipeline.tempo import beats_of, within_reach
from tests.audio.test_tempo import clicks
from tests.models import TINY_LM


def write_beat(folder, seed=0, width=TINY_LM.hidden_size):
    torch.manual_seed(seed)
    adapter = BeatAdapter(width, TINY_LM.num_layers, hidden=8)
    torch.nn.init.normal_(adapter.outer.weight, std=0.7)
    save_hold(BEAT, adapter, folder, {"seed": seed})
    return folder


@pytest.fixture(scope="module")
def folder(dial_folder, tmp_path_factory):
    target = tmp_path_factory.mktemp("models") / "held"
    shutil.copytree(dial_folder, target)
    return write_beat(target)


@pytest.fixture(scope="module", params=["fp32", "int8"])
def pipeline(folder, request):
    return Pipeline.load(folder, device="cpu", dtype=request.param)


def codes(pipeline, prompts="house, 124 bpm", **options):
    options = {"duration_s": 0.8, "seed": 7} | options
    clips = pipeline.generate(prompts, **options)
    return clips[0].codes if isinstance(prompts, str) else [clip.codes for clip in clips]


def test_the_tempo_of_the_prompt_is_held_unless_it_is_switched_off(pipeline):
    held, free = codes(pipeline), codes(pipeline, tempo_bpm=0)
    assert not np.array_equal(held, free)
    assert np.array_equal(codes(pipeline, tempo_bpm=124), held)
    assert not np.array_equal(codes(pipeline, tempo_bpm=90), held)
    assert np.array_equal(codes(pipeline, "house"), codes(pipeline, "house", tempo_bpm=0))


@pytest.mark.parametrize("diversity", [None, 0.0, 0.6])
@pytest.mark.parametrize("guidance_scale", [1.0, 3.0])
def test_a_clip_does_not_depend_on_its_company(folder, diversity, guidance_scale):
    pipeline = Pipeline.load(folder, device="cpu", dtype="int8")  # whose rows are alike to the bit
    prompts = ["house, 124 bpm", "house", "slow, 70 bpm"]
    how = {"diversity": diversity, "guidance_scale": guidance_scale}
    together = codes(pipeline, prompts, **how)
    for prompt, made in zip(prompts, together, strict=True):
        assert np.array_equal(codes(pipeline, prompt, **how), made)


def test_the_tags_say_what_was_held_and_make_it_again(pipeline):
    for prompt, bpm in (("house, 124 bpm", 124.0), ("slow, 40 bpm", 80.0), ("house", None)):
        (clip,) = pipeline.generate(prompt, duration_s=3.0, seed=7)  # longer than a window
        told = clip.settings["tempo"]
        assert (told["bpm"] if told else None) == bpm
        assert not told or told["first_beat_s"] == FIRST_BEAT_S
        recipe = read_recipe(clip.settings)
        check_holds(recipe, pipeline.info)
        assert compare(recipe, remake(pipeline, recipe).codes, pipeline).identical


def test_a_stream_holds_it_as_a_clip_does(pipeline):
    *_, last = pipeline.stream("house, 124 bpm", duration_s=0.8, seed=7)
    (clip,) = pipeline.generate("house, 124 bpm", duration_s=0.8, seed=7)
    assert last.settings["codes_sha256"] == clip.settings["codes_sha256"]
    assert last.settings["tempo"] == clip.settings["tempo"]


def test_beats_go_on_from_those_of_a_clip(pipeline):
    heard = clicks(120, 4.0)[:, : round(3.85 * 8000)]  # clicks at .1, .6, ..., 3.6; next at 4.1
    clip = pipeline.generate(
        "house, 120 bpm", duration_s=0.4, seed=7, continue_from=Clip(heard, 8000)
    )[0]
    assert clip.settings["tempo"]["first_beat_s"] == pytest.approx(0.25, abs=0.03)
    recipe = read_recipe(clip.settings)
    assert recipe.request.first_beat_s == clip.settings["tempo"]["first_beat_s"]


def test_takes_may_be_told_their_tempo(pipeline):
    (clip,) = pipeline.generate("house", duration_s=4.0, seed=7, takes=2, tempo_bpm=124)
    assert clip.settings["takes"]["named_bpm"] == 124.0
    assert clip.settings["tempo"]["bpm"] == 124.0


def test_models_without_a_beat_take_prompts_and_refuse_orders(tiny_folder, folder):
    plain = Pipeline.load(tiny_folder, device="cpu", dtype="fp32")
    (clip,) = plain.generate("house, 124 bpm", duration_s=0.4, seed=7)
    assert clip.settings["tempo"] is None
    with pytest.raises(ConfigError, match=r"tiny cannot hold a tempo, so 124 bpm .* lacks beat\."):
        plain.generate("house", duration_s=0.4, tempo_bpm=124)
    held = Pipeline.load(folder, device="cpu", dtype="fp32").generate("90 bpm", duration_s=0.4)
    with pytest.raises(ConfigError, match="cannot hold a tempo"):
        check_holds(read_recipe(held[0].settings), plain.info)


def test_another_adapter_is_no_replay(folder, tmp_path):
    pipeline = Pipeline.load(folder, device="cpu", dtype="fp32")
    (clip,) = pipeline.generate("house, 124 bpm", duration_s=0.4, seed=7)
    shutil.copytree(folder, tmp_path / "other")
    write_beat(tmp_path / "other", seed=1)
    with pytest.raises(CheckpointError, match=r"tempo was held by beat\.safetensors of sha256"):
        check_holds(read_recipe(clip.settings), read_info(tmp_path / "other"))


@pytest.mark.parametrize(
    ("field", "value"),
    [("bpm", "fast"), ("bpm", True), ("bpm", 1e9), ("first_beat_s", None), ("sha256", 3)],
)
def test_edited_tags_are_named(folder, field, value):
    pipeline = Pipeline.load(folder, device="cpu", dtype="fp32")
    settings = copy.deepcopy(pipeline.generate("90 bpm", duration_s=0.2, seed=7)[0].settings)
    settings["tempo"][field] = value
    with pytest.raises(InputError, match="edited"):
        read_recipe(settings)


def test_which_tempo_is_asked_for():
    assert asked_tempo("house, 124 bpm", GenerationConfig()) == 124.0
    assert asked_tempo("house, 124 bpm", GenerationConfig(tempo_bpm=90)) == 90.0
    assert asked_tempo("house, 124 bpm", GenerationConfig(tempo_bpm=0)) is None
    assert asked_tempo("from 90 bpm to 120 bpm", GenerationConfig()) is None


@pytest.mark.parametrize(
    ("asked", "held"), [(124, 124), (20, 80), (54.9, 109.8), (55, 55), (190, 190), (400, 100)]
)
def test_tempi_out_of_reach_are_doubled_or_halved(asked, held):
    assert within_reach(asked) == pytest.approx(held)


@pytest.mark.parametrize("value", [-1, 5, 401, float("nan"), float("inf"), "fast", True])
def test_impossible_tempi_are_refused(value):
    with pytest.raises(ConfigError, match="tempo"):
        GenerationConfig(tempo_bpm=value)


@pytest.mark.parametrize("bpm", [70, 100, 125, 180])
@pytest.mark.parametrize("cut_s", [0.0, 0.13, 0.31])
def test_the_next_beat_is_found(bpm, cut_s):
    samples = clicks(bpm, 8.0)[:, : round((8.0 - cut_s) * 8000)]
    last = np.flatnonzero(np.abs(samples[0]) > 0)[-1] / 8000 - 0.005  # near a click's middle
    since = samples.shape[1] / 8000 - last
    found, beat = next_beat(samples, 8000, bpm), 60 / bpm
    off = (found - (beat - since % beat)) % beat
    assert min(off, beat - off) < 0.02


def test_silence_and_a_moment_have_no_beat():
    assert next_beat(np.zeros((1, 32000), np.float32), 8000, 120) is None
    assert next_beat(clicks(120, 0.6), 8000, 120) is None
    assert [b.first_s for b in beats_of([90.0]) if b] == [FIRST_BEAT_S]


def test_an_adapter_comes_back_from_disk_and_another_shape_is_named(tiny_folder, tmp_path):
    shutil.copytree(tiny_folder, tmp_path / "m")
    write_beat(tmp_path / "m")
    info = read_info(tmp_path / "m")
    places, bpm = torch.rand(1, 4), torch.tensor([100.0])
    first = load_beat(info)(places, bpm)
    torch.manual_seed(0)
    learnt = BeatAdapter(TINY_LM.hidden_size, TINY_LM.num_layers, hidden=8)
    torch.nn.init.normal_(learnt.outer.weight, std=0.7)
    assert torch.allclose(first, learnt(places, bpm), atol=2e-3)  # 16 bits
    save_hold(BEAT, learnt, tmp_path / "m", {}, strength=1.5)
    assert torch.allclose(load_beat(info)(places, bpm), 1.5 * first, atol=4e-3)
    write_beat(tmp_path / "m", width=16)
    with pytest.raises(CheckpointError, match="was not trained for tiny"):
        load_beat(info)
    learnt.outer.weight.data[0, 0] = float("nan")
    save_hold(BEAT, learnt, tmp_path / "m", {})
    with pytest.raises(CheckpointError, match="not finite"):
        load_beat(info)
    (tmp_path / "m" / BEAT.file).write_bytes(b"half a file")
    with pytest.raises(CheckpointError, match=r"beat\.safetensors cannot be read"):
        load_beat(info)
