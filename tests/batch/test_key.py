"""Clips of a batch are held to their key; those that name none are what they were before."""

import shutil

import numpy as np
import pytest

from musicgen_rl.batch import Item
from musicgen_rl.batch.prompts import parse
from musicgen_rl.checkpoint.holds import KEY
from musicgen_rl.errors import CheckpointError, ConfigError
from musicgen_rl.pipeline import Pipeline
from musicgen_rl.pipeline.replay import read_recipe, remake
from tests.batch.test_tempo import item, plan_of, sounds
from tests.pipeline.test_key import write_key
from tests.pipeline.test_tempo import write_beat


@pytest.fixture(scope="module")
def held(tiny_folder, tmp_path_factory):
    """Name a model that holds a tempo and a key."""
    folder = tmp_path_factory.mktemp("models") / "held"
    shutil.copytree(tiny_folder, folder)
    return str(write_key(write_beat(folder)))


def test_each_clip_is_the_one_that_generate_makes(held):
    asked = [("house in D minor", None), ("house", None), ("in F major, 70 bpm", None),
             ("house", "dm"), ("house in D minor", "none")]  # fmt: skip
    plan = plan_of(*(item(held, prompt, key=key) for prompt, key in asked))
    pipeline = Pipeline.load(held, device="cpu", dtype="int8")
    for (prompt, key), sound in zip(asked, sounds(plan), strict=True):
        (clip,) = pipeline.generate(prompt, duration_s=0.3, seed=7, key=key)
        assert np.array_equal(sound.codes, clip.codes)
        assert sound.settings["key"] == clip.settings["key"]
        assert np.array_equal(remake(pipeline, read_recipe(sound.settings)).codes, clip.codes)


def test_only_the_ids_of_clips_that_are_held_know_of_it(held, tiny_folder):
    def ids(model, prompt, key):
        return plan_of(item(model, prompt, key=key)).ids

    plain = str(tiny_folder)
    assert ids(held, "house", None) == ids(held, "house", "none") == ids(plain, "house", None)
    assert ids(held, "in Dm", "none") == ids(plain, "in Dm", "none") == ids(plain, "in Dm", None)
    assert ids(held, "in Dm", None) == ids(held, "in Dm", "D minor") != ids(held, "in Dm", "none")
    assert Item(prompt="x").key == "none"  # of plans that were made before


def test_a_plan_keeps_its_key(held, tmp_path):
    folder = tmp_path / "m"
    shutil.copytree(held, folder)
    plan = plan_of(item(str(folder), "house", key="D minor"))
    write_beat(folder, seed=1)  # no clip is held to a tempo
    sounds(plan)
    write_key(folder, seed=1)
    with pytest.raises(CheckpointError, match="key"):
        sounds(plan)
    (folder / KEY.file).unlink()
    with pytest.raises(CheckpointError, match="key"):
        sounds(plan)
    without = plan_of(item(str(folder), "house in D minor", key=None))
    (before,) = sounds(without)
    write_key(folder)  # it got one after it was planned
    (after,) = sounds(without)
    assert np.array_equal(after.codes, before.codes)
    assert after.settings["key"] is None


def test_a_key_is_refused_where_a_model_holds_none(tiny_folder):
    with pytest.raises(ConfigError, match="tiny cannot hold a key, so D minor"):
        plan_of(item(str(tiny_folder), "house", key="D minor"))


def test_a_column_sets_the_key():
    rows = parse(b"prompt,key\nhouse,D minor\nslow,\nany,none\n", "csv", "f")
    assert [row.values.get("key") for row in rows] == ["D minor", None, "none"]


def test_an_item_comes_back_from_its_plan():
    for key in (None, "none", "D minor"):
        one = Item(prompt="x", key=key)
        assert Item.from_json(one.to_json()) == one
    assert Item(prompt="x", key="dm") == Item(prompt="x", key="D minor")
    with pytest.raises(ConfigError, match="key must be a note and a scale"):
        Item(prompt="x", key="sad")
