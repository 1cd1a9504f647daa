"""A key of the model's own finding: where words name none one is found that goes with them."""

import json
import shutil

import numpy as np
import pytest

from musicgen_rl.audio.clip import Clip
from musicgen_rl.audio.loudness import LoudnessConfig
from musicgen_rl.checkpoint import read_info
from musicgen_rl.checkpoint.holds import KEY_SENSE
from musicgen_rl.data.keys import read_key
from musicgen_rl.errors import CheckpointError, ConfigError, InputError
from musicgen_rl.merging.merge import merge_checkpoints
from musicgen_rl.merging.recipe import MergeConfig
from musicgen_rl.pipeline import GenerationConfig, Pipeline
from musicgen_rl.pipeline.holds import begins_with, held_to
from musicgen_rl.pipeline.moves import Begins
from musicgen_rl.pipeline.provenance import describe_codes
from musicgen_rl.pipeline.replay import check_holds, compare, read_recipe, remake
from musicgen_rl.text.key import SCALES
from tests.pipeline.test_jam import begin, played
from tests.pipeline.test_key import write_key
from tests.pipeline.test_steady import write_sense
from tests.pipeline.test_tempo import codes, write_beat


@pytest.fixture(scope="module")
def folder(dial_folder, tmp_path_factory):
    target = tmp_path_factory.mktemp("models") / "keyed"
    shutil.copytree(dial_folder, target)
    return write_sense(write_sense(write_key(write_beat(target))), hold=KEY_SENSE)


@pytest.fixture(scope="module", params=["fp32", "int8"])
def pipeline(folder, request):
    return Pipeline.load(folder, device="cpu", dtype=request.param)


@pytest.fixture(scope="module")
def quick(folder):
    return Pipeline.load(folder, device="cpu", dtype="int8")  # whose rows are alike to the bit


def keys(pipeline, prompts="house", **options):
    options = {"duration_s": 0.2, "seed": 7, "key": "auto"} | options
    held = [clip.settings["key"] for clip in pipeline.generate(prompts, **options)]
    return [key and key["name"] for key in held]


def test_a_clip_is_held_to_the_key_it_finds(pipeline):
    (name,) = keys(pipeline)
    assert read_key(name).scale in SCALES
    found = codes(pipeline, "house", key="auto")
    assert np.array_equal(found, codes(pipeline, "house", key=name))
    assert not np.array_equal(found, codes(pipeline, "house"))


def test_variations_find_their_own_and_none_depends_on_its_company(quick):
    alone = [keys(quick, p, clips_per_prompt=6) for p in ("house", "sad piano")]
    assert len(set(alone[0])) > 2
    assert keys(quick, ["house", "sad piano"], clips_per_prompt=6) == alone[0] + alone[1]
    assert keys(quick, "house", seed=8, clips_per_prompt=6) != alone[0]


def test_what_is_named_or_ordered_stands_above_it(quick):
    assert keys(quick, ["house in D minor", "in F#m"]) == ["D minor", "F# minor"]
    assert keys(quick, "house", key="A major") == ["A major"]
    assert keys(quick, "house", key=None) == [None]
    assert keys(quick, "house in D minor", key="none") == [None]


def test_a_key_and_a_tempo_are_found_side_by_side(quick):
    (clip,) = quick.generate("house", duration_s=0.2, seed=7, key="auto", steady=True)
    assert [clip.settings["key"]["name"]] == keys(quick)
    (steady,) = quick.generate("house", duration_s=0.2, seed=7, steady=True)
    assert clip.settings["tempo"] == steady.settings["tempo"]
    assert not np.array_equal(clip.codes, steady.codes)


def test_a_clip_is_made_again_without_what_found_its_key(folder, quick, tmp_path):
    (clip,) = quick.generate("house", duration_s=0.4, seed=7, diversity=0.5, key="auto")
    shutil.copytree(folder, tmp_path / "other")
    write_sense(tmp_path / "other", seed=1, hold=KEY_SENSE)
    other = Pipeline.load(tmp_path / "other", device="cpu", dtype="int8")
    recipe = read_recipe(clip.settings)
    check_holds(recipe, other.info)
    assert remake(other, recipe).codes.tolist() == clip.codes.tolist()
    parts = list(quick.stream("house", duration_s=0.4, seed=7, diversity=0.5, key="auto"))
    assert parts[-1].settings["key"] == clip.settings["key"]


def test_an_end_alone_and_a_merge_find_it_too(folder, tmp_path):
    on_dial = keys(Pipeline.load(folder, device="cpu", dtype="fp32"), diversity=0.0)
    assert keys(Pipeline.load(folder / "quality", device="cpu", dtype="fp32")) == on_dial
    merge_checkpoints(
        folder / "quality", folder / "diversity", tmp_path / "merged", MergeConfig(lam=0.4)
    )
    assert keys(Pipeline.load(tmp_path / "merged", device="cpu", dtype="fp32")) == on_dial


def test_models_that_cannot_are_named(dial_folder, tmp_path):
    plain = Pipeline.load(dial_folder, device="cpu", dtype="fp32")
    with pytest.raises(ConfigError, match=r"a key of 'auto' cannot be set: .* lacks scale"):
        keys(plain)
    shutil.copytree(dial_folder, tmp_path / "m")
    write_sense(tmp_path / "m", hold=KEY_SENSE)
    with pytest.raises(ConfigError, match=r"a key of 'auto' cannot be set: .* lacks key\."):
        keys(Pipeline.load(tmp_path / "m", device="cpu", dtype="fp32"))
    (tmp_path / "m" / KEY_SENSE.file).write_bytes(b"x")
    with pytest.raises(CheckpointError):
        Pipeline.load(tmp_path / "m", device="cpu", dtype="fp32")


def test_it_is_said_in_words(folder):
    auto, able = GenerationConfig(key="AUTO"), read_info(folder)
    assert held_to(able, "house", auto) == "one key"
    assert held_to(able, "house in D minor", auto) == "D minor"
    assert held_to(able, "house in D minor", auto, goes_on=True) == "D minor"
    assert held_to(able, "house", auto, goes_on=True) == ""
    both = GenerationConfig(key="auto", steady=True)
    assert held_to(able, "house", both) == "a steady beat and one key"


def test_a_jam_keeps_its_key_until_another_is_named_and_is_made_again(folder):
    pipeline = Pipeline.load(folder, device="cpu", dtype="fp32")
    key = pipeline.holds.key.find("drums", 7)
    kept = begin(pipeline, begins=Begins(key=key))
    moves = (20, {"prompt": "bells"}, 20, {"prompt": "house in D minor"}, 20)
    played(kept, *moves, {"prompt": "house"}, 20)
    named = begin(pipeline, begins=Begins(key=read_key("D minor")))
    played(named, *moves, {"prompt": "house"}, 20)
    free = begin(pipeline)
    played(free, *moves, {"prompt": "house"}, 20)
    made = [jam.joined() for jam in (kept, named, free)]
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert not np.array_equal(made[one][:, :20], made[other][:, :20])
    settings = kept.settings(LoudnessConfig()) | describe_codes(made[0], kept.frames)
    assert settings["steady_key"] == key.name
    assert settings["key_sha256"] == pipeline.holds.key.sha256
    assert free.settings(LoudnessConfig())["steady_key"] is None
    recipe = read_recipe(json.loads(json.dumps(settings)))
    check_holds(recipe, pipeline.info)
    assert compare(recipe, remake(pipeline, recipe).codes, pipeline).identical
    for wrong in ("sad", 3, True):
        with pytest.raises(InputError, match="steady_key"):
            read_recipe(settings | {"steady_key": wrong})


def test_orders_are_what_a_jam_begins_with(quick):
    def begun(prompt="house", **orders):
        return begins_with(quick.holds, prompt, 7, GenerationConfig(**orders))

    assert begun() == Begins(which=[*Begins().which])
    ordered = begun(tempo_bpm=124.0, key="Dm")
    assert (ordered.bpm, ordered.key) == (124.0, read_key("D minor"))
    found = begun(steady=True, key="auto")
    assert (found.bpm, found.key) == (
        quick.holds.tempo.find("house", 7), quick.holds.key.find("house", 7),
    )  # fmt: skip
    assert begun("pads, no beat", steady=True).bpm is None
    free = begun("house in D minor, 124 bpm", tempo_bpm=0.0, key="none")
    assert free == Begins(which=[])


def test_a_jam_that_is_to_hold_nothing_holds_nothing(folder, dial_folder):
    pipeline = Pipeline.load(folder, device="cpu", dtype="fp32")
    named = {"prompt": "house in D minor, 124 bpm"}
    free = begin(pipeline, begins=Begins(which=[]))
    played(free, 20, named, 20)
    plain = begin(Pipeline.load(dial_folder, device="cpu", dtype="fp32"))
    played(plain, 20, named, 20)
    assert np.array_equal(free.joined(), plain.joined())
    assert free.settings(LoudnessConfig())["key_sha256"] == ""


def test_what_goes_on_from_a_clip_goes_on_in_its_key(folder, quick, tmp_path):
    (clip,) = quick.generate("house", duration_s=0.4, seed=7, key="B minor")
    path = clip.save(tmp_path / "a.wav")
    for source in (clip, path):
        assert keys(quick, "bells", continue_from=source, clips_per_prompt=2) == ["B minor"] * 2
    assert keys(quick, "bells in F major", continue_from=clip) == ["F major"]
    for told in ({}, {"key": {"name": "sad"}}, {"key": {}}, {"key": None}):  # nothing is known
        other = Clip(clip.samples, clip.sample_rate, told)
        assert keys(quick, "bells", continue_from=other) == [None]
