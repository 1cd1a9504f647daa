"""Clips of a batch find the tempo that `generate` finds; those that do not are what they were."""

import shutil

import numpy as np
import pytest

from musicgen_rl.batch.expand import Defaults, expand
from musicgen_rl.batch.prompts import parse
from musicgen_rl.checkpoint.holds import TEMPO_SENSE
from musicgen_rl.errors import CheckpointError, ConfigError, InputError
from musicgen_rl.pipeline import Pipeline
from tests.batch.test_tempo import item, plan_of, sounds
from tests.pipeline.test_steady import write_sense
from tests.pipeline.test_tempo import write_beat


@pytest.fixture(scope="module")
def steady(tiny_folder, tmp_path_factory):
    """Name a model that finds a tempo."""
    folder = tmp_path_factory.mktemp("models") / "steady"
    shutil.copytree(tiny_folder, folder)
    return str(write_sense(write_beat(folder)))


def test_each_clip_is_the_one_that_generate_makes(steady):
    asked = [("house", 0, True), ("house", 1, True), ("house, 124 bpm", 0, True),
             ("sad piano", 2, True), ("bells", 0, False), ("bells", 0, True)]  # fmt: skip
    plan = plan_of(*(item(steady, prompt, index=i, steady=on) for prompt, i, on in asked))
    pipeline = Pipeline.load(steady, device="cpu", dtype="int8")
    for (prompt, index, on), sound in zip(asked, sounds(plan), strict=True):
        clip = pipeline.generate(
            prompt, duration_s=0.3, seed=7, steady=on, clips_per_prompt=index + 1
        )[index]
        assert np.array_equal(sound.codes, clip.codes)
        assert sound.settings["tempo"] == clip.settings["tempo"]
        assert (sound.settings["tempo"] is not None) == on


def test_only_the_ids_of_clips_that_find_one_know_of_it(steady, tmp_path):
    def ids(model, prompt="house", **how):
        return plan_of(item(model, prompt, **how)).ids

    assert ids(steady, steady=True) != ids(steady)
    assert ids(steady, "124 bpm", steady=True) == ids(steady, "124 bpm")
    shutil.copytree(steady, tmp_path / "other")
    write_sense(tmp_path / "other", seed=1)
    other = str(tmp_path / "other")
    assert ids(other, steady=True) != ids(steady, steady=True)
    assert ids(other) == ids(steady)
    with pytest.raises(ConfigError, match="a tempo of 0 holds none"):
        item(steady, "house", steady=True, tempo_bpm=0.0)


def test_a_plan_keeps_what_finds_its_tempi(steady, tmp_path):
    folder = tmp_path / "m"
    shutil.copytree(steady, folder)
    plan = plan_of(item(str(folder), "house", steady=True))
    write_sense(folder, seed=1)
    with pytest.raises(CheckpointError, match="tempo"):
        sounds(plan)
    (folder / TEMPO_SENSE.file).unlink()
    with pytest.raises(ConfigError, match=r"lacks tempo\."):
        plan_of(item(str(folder), "house", steady=True))


def test_a_column_says_it_and_a_tempo_of_none_stands_above():
    text = b"prompt,steady,tempo\na,yes,\nb,no,\nc,,\nd,,0\ne,1,90\n"
    items = expand(parse(text, "csv", "f"), Defaults(values={"steady": True, "tempo_bpm": None}))
    assert [i.steady for i in items] == [True, False, True, False, True]
    assert [i.tempo_bpm for i in items] == [None, None, None, 0.0, 90.0]
    with pytest.raises(InputError, match="steady takes yes or no, got 'maybe'"):
        parse(b"prompt,steady\na,maybe\n", "csv", "f")


def test_words_that_leave_no_room_for_a_beat_stop_no_batch(steady):
    plan = plan_of(item(steady, "a slow waltz", steady=True))
    pipeline = Pipeline.load(steady, device="cpu", dtype="int8")
    (clip,) = pipeline.generate("a slow waltz", duration_s=0.3, seed=7, steady=True)
    (sound,) = sounds(plan)
    assert np.array_equal(sound.codes, clip.codes)
    assert sound.settings["tempo"] is None


def test_a_column_stands_above_the_tempo_of_none_of_all_others():
    text = b"prompt,steady\na,yes\nb,no\nc,\n"
    items = expand(parse(text, "csv", "f"), Defaults(values={"tempo_bpm": 0.0}))
    assert [(i.steady, i.tempo_bpm) for i in items] == [(True, None), (False, 0.0), (False, 0.0)]


@pytest.mark.parametrize("steady", [False, True])
def test_a_row_that_contradicts_itself_is_refused_with_its_line(steady):
    rows = parse(b"prompt,steady,tempo\na,no,0\nb,yes,0\n", "csv", "f")
    with pytest.raises(ConfigError, match="f, line 3: steady holds a tempo"):
        expand(rows, Defaults(values={"tempo_bpm": None, "steady": steady}))


def test_a_command_line_that_contradicts_itself_is_refused():
    values = {"tempo_bpm": 0.0, "steady": True}
    with pytest.raises(ConfigError, match="steady holds a tempo, and a tempo of 0 holds none"):
        expand(parse(b"prompt\na\n", "csv", "f"), Defaults(values=values))
