"""Clips of a batch find the key that `generate` finds; those that do not are what they were."""

import shutil

import numpy as np
import pytest

from musicgen_rl.batch.expand import Defaults, expand
from musicgen_rl.batch.prompts import parse
from musicgen_rl.checkpoint.holds import KEY_SENSE
from musicgen_rl.errors import CheckpointError, ConfigError
from musicgen_rl.pipeline import Pipeline
from tests.batch.test_tempo import item, plan_of, sounds
from tests.pipeline.test_key import write_key
from tests.pipeline.test_steady import write_sense


@pytest.fixture(scope="module")
def keyed(tiny_folder, tmp_path_factory):
    """Name a model that finds a key."""
    folder = tmp_path_factory.mktemp("models") / "keyed"
    shutil.copytree(tiny_folder, folder)
    return str(write_sense(write_key(folder), hold=KEY_SENSE))


def test_each_clip_is_the_one_that_generate_makes(keyed):
    asked = [("house", 0, "auto"), ("house", 1, "auto"), ("house in D minor", 0, "auto"),
             ("sad piano", 2, "auto"), ("bells", 0, "none"), ("bells", 0, "auto")]  # fmt: skip
    plan = plan_of(*(item(keyed, prompt, index=i, key=key) for prompt, i, key in asked))
    pipeline = Pipeline.load(keyed, device="cpu", dtype="int8")
    for (prompt, index, key), sound in zip(asked, sounds(plan), strict=True):
        clip = pipeline.generate(
            prompt, duration_s=0.3, seed=7, key=key, clips_per_prompt=index + 1
        )[index]
        assert np.array_equal(sound.codes, clip.codes)
        assert sound.settings["key"] == clip.settings["key"]
        assert (sound.settings["key"] is not None) == (key == "auto")


def test_only_the_ids_of_clips_that_find_one_know_of_it(keyed, tmp_path):
    def ids(model, prompt="house", **how):
        return plan_of(item(model, prompt, **how)).ids

    assert ids(keyed, key="auto") != ids(keyed)
    assert ids(keyed, "in D minor", key="auto") == ids(keyed, "in D minor", key=None)
    shutil.copytree(keyed, tmp_path / "other")
    write_sense(tmp_path / "other", seed=1, hold=KEY_SENSE)
    other = str(tmp_path / "other")
    assert ids(other, key="auto") != ids(keyed, key="auto")
    assert ids(other) == ids(keyed)


def test_a_plan_keeps_what_finds_its_keys(keyed, tmp_path):
    folder = tmp_path / "m"
    shutil.copytree(keyed, folder)
    plan = plan_of(item(str(folder), "house", key="auto"))
    write_sense(folder, seed=1, hold=KEY_SENSE)
    with pytest.raises(CheckpointError, match="scale"):
        sounds(plan)
    (folder / KEY_SENSE.file).unlink()
    with pytest.raises(ConfigError, match=r"lacks scale\."):
        plan_of(item(str(folder), "house", key="auto"))


def test_a_column_says_it():
    text = b"prompt,key\na,auto\nb,none\nc,\nd,D minor\n"
    items = expand(parse(text, "csv", "f"), Defaults(values={"key": "auto"}))
    assert [i.key for i in items] == ["auto", "none", "auto", "D minor"]
