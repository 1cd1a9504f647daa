"""A key is held where one is asked for: by prompt, by order, beside a tempo, and made again."""

import copy
import json
import shutil

import numpy as np
import pytest
import torch

from musicgen_rl.audio.loudness import LoudnessConfig
from musicgen_rl.checkpoint import read_info
from musicgen_rl.checkpoint.holds import KEY, load_key, save_hold
from musicgen_rl.errors import CheckpointError, ConfigError, InputError
from musicgen_rl.lm.key import KeyAdapter
from musicgen_rl.pipeline import GenerationConfig, Pipeline
from musicgen_rl.pipeline.asked import asked_key
from musicgen_rl.pipeline.provenance import describe_codes
from musicgen_rl.pipeline.replay import check_holds, compare, read_recipe, remake
from tests.models import TINY_LM
from tests.pipeline.test_jam import begin, played
from tests.pipeline.test_tempo import codes, write_beat


def write_key(folder, seed=0, width=TINY_LM.hidden_size):
    torch.manual_seed(seed)
    adapter = KeyAdapter(width, TINY_LM.num_layers)
    torch.nn.init.normal_(adapter.outer.weight, std=0.7)
    save_hold(KEY, adapter, folder, {"seed": seed})
    return folder


@pytest.fixture(scope="module")
def folder(dial_folder, tmp_path_factory):
    target = tmp_path_factory.mktemp("models") / "held"
    shutil.copytree(dial_folder, target)
    return write_key(write_beat(target))


@pytest.fixture(scope="module", params=["fp32", "int8"])
def pipeline(folder, request):
    return Pipeline.load(folder, device="cpu", dtype=request.param)


def test_the_key_of_the_prompt_is_held_unless_it_is_switched_off(pipeline):
    prompt = "house in D minor"
    held = codes(pipeline, prompt)
    assert not np.array_equal(held, codes(pipeline, prompt, key="none"))
    assert np.array_equal(held, codes(pipeline, prompt, key="Dm"))
    assert not np.array_equal(held, codes(pipeline, prompt, key="D major"))
    assert np.array_equal(codes(pipeline, "house"), codes(pipeline, "house", key="none"))


@pytest.mark.parametrize("diversity", [None, 0.6])
@pytest.mark.parametrize("guidance_scale", [1.0, 3.0])
def test_a_clip_does_not_depend_on_its_company(folder, diversity, guidance_scale):
    pipeline = Pipeline.load(folder, device="cpu", dtype="int8")  # whose rows are alike to the bit
    prompts = ["house in D minor", "house", "70 bpm", "in F#, G major, 90 bpm"]
    how = {"diversity": diversity, "guidance_scale": guidance_scale}
    together = codes(pipeline, prompts, **how)
    for prompt, made in zip(prompts, together, strict=True):
        assert np.array_equal(codes(pipeline, prompt, **how), made)


def test_the_tags_say_what_was_held_and_make_it_again(pipeline):
    for prompt, name, bpm in (
        ("house in Db minor", "C# minor", None), ("house in A dorian, 124 bpm", "A dorian", 124.0),
        ("house", None, None),
    ):  # fmt: skip
        (clip,) = pipeline.generate(prompt, duration_s=3.0, seed=7)  # longer than a window
        key, tempo = clip.settings["key"], clip.settings["tempo"]
        assert (key and key["name"], tempo and tempo["bpm"]) == (name, bpm)
        recipe = read_recipe(clip.settings)
        check_holds(recipe, pipeline.info)
        assert compare(recipe, remake(pipeline, recipe).codes, pipeline).identical


def test_clips_from_before_there_were_keys_are_made_again(pipeline):
    (clip,) = pipeline.generate("house in D minor, 124 bpm", duration_s=0.4, seed=7, key="none")
    settings = {name: value for name, value in clip.settings.items() if name != "key"}
    recipe = read_recipe(settings)
    assert compare(recipe, remake(pipeline, recipe).codes, pipeline).identical


def test_a_stream_holds_it_as_a_clip_does(pipeline):
    *_, last = pipeline.stream("house in D minor", duration_s=0.8, seed=7)
    (clip,) = pipeline.generate("house in D minor", duration_s=0.8, seed=7)
    assert last.settings["codes_sha256"] == clip.settings["codes_sha256"]
    assert last.settings["key"] == clip.settings["key"]
    *_, told = pipeline.stream("house", duration_s=0.8, seed=7, key="d minor")
    assert told.settings["key"] == clip.settings["key"]


def test_models_without_a_key_take_prompts_and_refuse_orders(tiny_folder, folder):
    plain = Pipeline.load(tiny_folder, device="cpu", dtype="fp32")
    (clip,) = plain.generate("house in D minor", duration_s=0.4, seed=7)
    assert clip.settings["key"] is None
    with pytest.raises(ConfigError, match=r"tiny cannot hold a key, so D minor .* lacks key\.safe"):
        plain.generate("house", duration_s=0.4, key="dm")
    plain.generate("house", duration_s=0.4, key="none")
    held = Pipeline.load(folder, device="cpu", dtype="fp32").generate("D minor", duration_s=0.4)
    with pytest.raises(ConfigError, match="cannot hold a key"):
        check_holds(read_recipe(held[0].settings), plain.info)


def test_another_adapter_is_no_replay(folder, tmp_path):
    pipeline = Pipeline.load(folder, device="cpu", dtype="fp32")
    (clip,) = pipeline.generate("house in D minor", duration_s=0.4, seed=7)
    shutil.copytree(folder, tmp_path / "other")
    write_beat(tmp_path / "other", seed=1)
    check_holds(read_recipe(clip.settings), read_info(tmp_path / "other"))  # it held no tempo
    write_key(tmp_path / "other", seed=1)
    with pytest.raises(CheckpointError, match=r"clip's key was held by key\.safetensors of sha256"):
        check_holds(read_recipe(clip.settings), read_info(tmp_path / "other"))


@pytest.mark.parametrize(("field", "value"), [("name", "sad"), ("name", 3), ("sha256", None)])
def test_edited_tags_are_named(folder, field, value):
    pipeline = Pipeline.load(folder, device="cpu", dtype="fp32")
    settings = copy.deepcopy(pipeline.generate("D minor", duration_s=0.2, seed=7)[0].settings)
    settings["key"][field] = value
    with pytest.raises(InputError, match="edited"):
        read_recipe(settings)


def test_which_key_is_asked_for():
    assert asked_key("house in D minor", GenerationConfig()).name == "D minor"
    assert asked_key("house in D minor", GenerationConfig(key="C major")).name == "C major"
    assert asked_key("house in D minor", GenerationConfig(key="None")) is None
    assert asked_key("from D minor to F major", GenerationConfig()) is None
    assert GenerationConfig(key="dm") == GenerationConfig(key="D minor")


def test_a_jam_holds_the_key_of_the_moment_and_is_made_again(folder, dial_folder):
    pipeline = Pipeline.load(folder, device="cpu", dtype="fp32")
    moves = (
        20, {"prompt": "house in D minor"}, 50, {"diversity": 0.9}, 45,
        {"prompt": "house in F major, 90 bpm"}, 20, {"prompt": "house"}, 20,
    )  # fmt: skip
    jam = begin(pipeline)
    played(jam, *moves)  # longer than a window
    free = begin(Pipeline.load(dial_folder, device="cpu", dtype="fp32"))
    played(free, *moves)
    assert np.array_equal(jam.joined()[:, :20], free.joined()[:, :20])
    assert not np.array_equal(jam.joined()[:, 20:70], free.joined()[:, 20:70])
    settings = jam.settings(LoudnessConfig()) | describe_codes(jam.joined(), jam.frames)
    assert settings["key_sha256"] == pipeline.holds.key.sha256
    assert settings["beat_sha256"] == pipeline.holds.tempo.sha256
    recipe = read_recipe(json.loads(json.dumps(settings)))
    check_holds(recipe, pipeline.info)
    assert compare(recipe, remake(pipeline, recipe).codes, pipeline).identical
    assert free.settings(LoudnessConfig())["key_sha256"] == ""


def test_a_jam_from_before_there_were_keys_is_made_again(folder, dial_folder, tmp_path):
    shutil.copytree(dial_folder, tmp_path / "before")
    write_beat(tmp_path / "before")
    old = begin(Pipeline.load(tmp_path / "before", device="cpu", dtype="fp32"))
    played(old, 20, {"prompt": "house in D minor, 124 bpm"}, 30)
    settings = old.settings(LoudnessConfig()) | describe_codes(old.joined(), old.frames)
    del settings["key_sha256"]
    pipeline = Pipeline.load(folder, device="cpu", dtype="fp32")
    recipe = read_recipe(settings)
    assert compare(recipe, remake(pipeline, recipe).codes, pipeline).identical


def test_an_adapter_comes_back_from_disk_and_another_shape_is_named(tiny_folder, tmp_path):
    shutil.copytree(tiny_folder, tmp_path / "m")
    write_key(tmp_path / "m")
    info = read_info(tmp_path / "m")
    torch.manual_seed(0)
    learnt = KeyAdapter(TINY_LM.hidden_size, TINY_LM.num_layers)
    torch.nn.init.normal_(learnt.outer.weight, std=0.7)
    keys = [asked_key("D minor", GenerationConfig())]
    assert torch.allclose(load_key(info)(keys), learnt(keys), atol=4e-3)  # 16 bits
    save_hold(KEY, learnt, tmp_path / "m", {}, strength=2.5)
    assert torch.allclose(load_key(info)(keys), 2.5 * learnt(keys), atol=8e-3)
    write_key(tmp_path / "m", width=16)
    with pytest.raises(CheckpointError, match="was not trained for tiny"):
        load_key(info)
    (tmp_path / "m" / KEY.file).write_bytes(b"half a file")
    with pytest.raises(CheckpointError, match=r"key\.safetensors cannot be read"):
        load_key(info)
