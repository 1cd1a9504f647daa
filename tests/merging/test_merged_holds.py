"""The ends of a dial and what is merged of them are held to a tempo and a key as their base is."""

import json
import shutil

import numpy as np
import pytest

from musicgen_rl.checkpoint import read_info
from musicgen_rl.checkpoint.holds import BEAT, KEY, find_hold, hold_hash
from musicgen_rl.merging.merge import merge_checkpoints
from musicgen_rl.merging.recipe import MergeConfig
from musicgen_rl.pipeline import Pipeline
from tests.pipeline.test_key import write_key
from tests.pipeline.test_tempo import codes, write_beat


@pytest.fixture(scope="module")
def folder(dial_folder, tmp_path_factory):
    target = tmp_path_factory.mktemp("models") / "held"
    shutil.copytree(dial_folder, target)
    return write_key(write_beat(target))


def played(folder, **how):
    pipeline = Pipeline.load(folder, device="cpu", dtype="fp32")
    return codes(pipeline, "house in D minor, 124 bpm", guidance_scale=1.0, **how)


@pytest.mark.parametrize("end", ["quality", "diversity"])
def test_an_end_alone_is_held_as_on_the_dial(folder, end):
    on_dial = played(folder, diversity=float(end == "diversity"))
    assert np.array_equal(played(folder / end), on_dial)
    assert not np.array_equal(played(folder / end, key="none", tempo_bpm=0.0), on_dial)


def test_an_end_that_lies_in_another_model_is_not(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "other")
    card = tmp_path / "other" / "quality" / "musicgen_rl.json"
    told = json.loads(card.read_text())
    told["notes"]["base"]["sha256"] = "0" * 64
    card.write_text(json.dumps(told))
    assert find_hold(read_info(tmp_path / "other" / "quality"), BEAT) is None
    assert find_hold(read_info(tmp_path / "other" / "diversity"), BEAT) is not None
    for path in (tmp_path / "other").glob("model*"):
        path.unlink()
    assert find_hold(read_info(tmp_path / "other" / "diversity"), BEAT) is None  # no model is there


def test_a_merge_of_the_ends_plays_what_the_dial_plays(folder, tmp_path):
    config = MergeConfig(lam=0.4)
    merge_checkpoints(folder / "quality", folder / "diversity", tmp_path / "m", config)
    info = read_info(tmp_path / "m")
    for hold in (BEAT, KEY):
        assert hold_hash(info, hold) == hold_hash(read_info(folder), hold)
        assert (tmp_path / "m" / hold.card).is_file()
    assert np.array_equal(played(tmp_path / "m"), played(folder, diversity=0.4))


def test_a_merge_of_models_without_has_none(dial_folder, tmp_path):
    config = MergeConfig(lam=0.4)
    merge_checkpoints(dial_folder / "quality", dial_folder / "diversity", tmp_path / "m", config)
    assert not hold_hash(read_info(tmp_path / "m"), BEAT)
    assert not list((tmp_path / "m").glob("key*"))
