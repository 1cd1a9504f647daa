"""Clips of a batch are held to their tempo; those that name none are what they were before."""

import shutil
from dataclasses import replace

import numpy as np
import pytest

from musicgen_rl.batch import Item, make_plan
from musicgen_rl.batch.prompts import parse
from musicgen_rl.batch.work import jobs_of
from musicgen_rl.batch.worker import Setup, Worker
from musicgen_rl.checkpoint.holds import BEAT
from musicgen_rl.errors import CheckpointError, ConfigError, InputError
from musicgen_rl.pipeline import Pipeline
from musicgen_rl.pipeline.replay import read_recipe, remake
from tests.pipeline.test_tempo import write_beat


@pytest.fixture(scope="module")
def held(tiny_folder, tmp_path_factory):
    """Name a model that holds a tempo."""
    folder = tmp_path_factory.mktemp("models") / "held"
    shutil.copytree(tiny_folder, folder)
    return str(write_beat(folder))


def item(model, prompt, **changes):
    fields = {"tempo_bpm": None, "duration_s": 0.3, "seed": 7} | changes
    return Item(prompt=prompt, model=model, **fields)


def plan_of(*items, dtype="int8"):
    return make_plan(items, device="cpu", dtype=dtype)


def sounds(plan):
    jobs = jobs_of(plan.clips, frozenset(c.id for c in plan.clips))
    worker, failed = Worker(Setup.of(plan, "wav")), {}
    made = {s.planned.id: s for job in jobs for s in worker.sounds(job, failed)[0]}
    assert not failed
    return [made[id] for id in plan.ids]


def test_each_clip_is_the_one_that_generate_makes(held):
    asked = [("house, 124 bpm", None), ("house", None), ("slow, 70 bpm", None), ("house", 90),
             ("house, 124 bpm", 0)]  # fmt: skip
    plan = plan_of(*(item(held, prompt, tempo_bpm=tempo) for prompt, tempo in asked))
    pipeline = Pipeline.load(held, device="cpu", dtype="int8")
    for (prompt, tempo), sound in zip(asked, sounds(plan), strict=True):
        (clip,) = pipeline.generate(prompt, duration_s=0.3, seed=7, tempo_bpm=tempo)
        assert np.array_equal(sound.codes, clip.codes)
        assert sound.settings["tempo"] == clip.settings["tempo"]
        recipe = read_recipe(sound.settings)
        assert np.array_equal(remake(pipeline, recipe).codes, clip.codes)


def test_only_the_ids_of_clips_that_are_held_know_of_it(held, tiny_folder):
    def ids(model, prompt, tempo):
        return plan_of(item(model, prompt, tempo_bpm=tempo)).ids

    plain = str(tiny_folder)
    assert ids(held, "house", None) == ids(held, "house", 0.0) == ids(plain, "house", None)
    assert ids(held, "124 bpm", 0.0) == ids(plain, "124 bpm", 0.0) == ids(plain, "124 bpm", None)
    assert ids(held, "124 bpm", None) == ids(held, "124 bpm", 124) != ids(held, "124 bpm", 0.0)
    assert ids(held, "124 bpm", 62) == ids(held, "124 bpm", 62.0) != ids(held, "124 bpm", 124)
    assert Item(prompt="x").tempo_bpm == 0.0  # of plans that were made before


def test_a_plan_keeps_its_beat(held, tmp_path):
    folder = tmp_path / "m"
    shutil.copytree(held, folder)
    plan = plan_of(item(str(folder), "house, 124 bpm"))
    write_beat(folder, seed=1)
    with pytest.raises(CheckpointError, match="beat"):
        sounds(plan)
    (folder / BEAT.file).unlink()
    with pytest.raises(CheckpointError, match="beat"):
        sounds(plan)
    without = plan_of(item(str(folder), "house, 124 bpm"))
    (before,) = sounds(without)
    write_beat(folder)  # it got one after it was planned
    (after,) = sounds(without)
    assert np.array_equal(after.codes, before.codes)
    assert after.settings["tempo"] is None


def test_a_tempo_is_refused_where_a_model_holds_none(tiny_folder):
    with pytest.raises(ConfigError, match="tiny cannot hold a tempo, so 90 bpm"):
        plan_of(item(str(tiny_folder), "house", tempo_bpm=90))


def test_a_column_sets_the_tempo():
    rows = parse(b"prompt,tempo\nhouse,124\nslow,\n", "csv", "f")
    assert [row.values.get("tempo_bpm") for row in rows] == [124.0, None]
    with pytest.raises(InputError, match="tempo takes a number, got 'fast'"):
        parse(b"prompt,tempo\nhouse,fast\n", "csv", "f")


def test_an_item_comes_back_from_its_plan():
    for tempo in (None, 0.0, 124.0):
        one = Item(prompt="x", tempo_bpm=tempo)
        assert Item.from_json(one.to_json()) == one
    assert replace(Item(prompt="x"), tempo_bpm=None).sound() != Item(prompt="x").sound()
