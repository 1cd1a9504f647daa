"""Clips of a batch are held to the chords that `generate` holds; others are what they were."""

import shutil

import numpy as np
import pytest

from musicgen_rl.batch.expand import Defaults, expand
from musicgen_rl.batch.prompts import parse
from musicgen_rl.checkpoint.holds import CHORD_SENSE, CHORDS, KEY_SENSE
from musicgen_rl.errors import CheckpointError, ConfigError, InputError
from musicgen_rl.pipeline import Pipeline
from tests.batch.test_tempo import item, plan_of, sounds
from tests.pipeline.test_chords import write_chords
from tests.pipeline.test_steady import write_sense
from tests.pipeline.test_tempo import write_beat


@pytest.fixture(scope="module")
def model(tiny_folder, tmp_path_factory):
    """Name a model that holds and finds chords."""
    folder = tmp_path_factory.mktemp("models") / "chords"
    shutil.copytree(tiny_folder, folder)
    write_sense(write_sense(write_beat(folder)), hold=KEY_SENSE)
    return str(write_sense(write_chords(folder), hold=CHORD_SENSE))


def chorded(model, prompt="house", chords="auto", **how):
    return item(model, prompt, **({"tempo_bpm": None, "chords": chords} | how))


def test_each_clip_is_the_one_that_generate_makes(model):
    asked = [("house", 0, "auto"), ("house", 1, "auto"), ("a waltz", 0, "Em C G D"),
             ("bells, chords Am F", 2, None), ("bells", 0, "none")]  # fmt: skip
    plan = plan_of(*(chorded(model, p, chords, index=i) for p, i, chords in asked))
    pipeline = Pipeline.load(model, device="cpu", dtype="int8")
    for (prompt, index, chords), sound in zip(asked, sounds(plan), strict=True):
        clip = pipeline.generate(
            prompt, duration_s=0.3, seed=7, chords=chords, clips_per_prompt=index + 1
        )[index]
        assert np.array_equal(sound.codes, clip.codes)
        assert sound.settings["chords"] == clip.settings["chords"]
        assert (sound.settings["chords"] is not None) == (chords != "none")


def test_only_the_ids_of_clips_that_hold_some_know_of_it(model, tmp_path):
    def ids(where, prompt="house", **how):
        return plan_of(chorded(where, prompt, **how)).ids

    assert ids(model) != ids(model, chords="none")
    assert ids(model, "chords Am F") == ids(model, "chords Am F", chords=None)
    assert ids(model, chords="Am F") == ids(model, chords="Am | F")
    assert ids(model, chords="Am F") != ids(model, chords="Am F", beats_per_bar=3)
    assert ids(model, chords="Am F") != ids(model, chords="Am F", returning=0.0)
    assert ids(model) != ids(model, returning=0.0)
    assert ids(model, chords="none") == ids(model, chords="none", returning=0.0)
    assert ids(model, "90 bpm", chords="none") == ids(
        model, "90 bpm", chords="none", beats_per_bar=3
    )
    other = str(shutil.copytree(model, tmp_path / "other"))
    write_sense(tmp_path / "other", seed=1, hold=CHORD_SENSE)
    assert ids(other) != ids(model)
    assert ids(other, chords="Am F") == ids(model, chords="Am F")
    write_chords(tmp_path / "other", seed=1)
    assert ids(other, chords="Am F") != ids(model, chords="Am F")
    assert ids(other, "90 bpm", chords="none") == ids(model, "90 bpm", chords="none")


def test_a_plan_keeps_what_holds_and_finds_its_chords(model, tmp_path):
    folder = shutil.copytree(model, tmp_path / "m")
    plan = plan_of(chorded(str(folder)))
    write_sense(folder, seed=1, hold=CHORD_SENSE)
    with pytest.raises(CheckpointError, match="progression"):
        sounds(plan)
    (folder / CHORDS.file).unlink()
    with pytest.raises(ConfigError, match=r"lacks chords\."):
        plan_of(chorded(str(folder)))


def test_words_that_leave_no_room_for_a_beat_stop_no_batch(model):
    plan = plan_of(chorded(model, "ambient without a beat", key=None))
    pipeline = Pipeline.load(model, device="cpu", dtype="int8")
    (clip,) = pipeline.generate("ambient without a beat", duration_s=0.3, seed=7, chords="auto")
    (sound,) = sounds(plan)
    assert np.array_equal(sound.codes, clip.codes)
    assert sound.settings["chords"] is None


def test_chords_that_a_model_got_after_it_was_planned_are_not_held(model, tmp_path):
    folder = shutil.copytree(model, tmp_path / "m")
    (folder / CHORDS.file).unlink()
    asked = ("house, chords Am F", "house, 124 bpm, chords Am F")
    plan = plan_of(*(chorded(str(folder), prompt, chords=None) for prompt in asked))
    before = sounds(plan)
    write_chords(folder)
    for one, other in zip(sounds(plan), before, strict=True):
        assert np.array_equal(one.codes, other.codes)
        assert one.settings["chords"] is None
        assert one.settings["tempo"] is not None  # found for the chords, or named


def test_columns_say_it():
    text = b"prompt,chords,beats_per_bar,tempo\na,Am F,3,\nb,none,,\nc,,,\nd,,,0\n"
    items = expand(parse(text, "csv", "f"), Defaults(values={"tempo_bpm": None, "chords": "auto"}))
    assert [(i.chords, i.beats_per_bar) for i in items] == [
        ("Am F", 3), ("none", None), ("auto", None), ("none", None),
    ]  # fmt: skip
    with pytest.raises(ConfigError, match=r"line 2: chords \(Am F\) change on beats"):
        expand(parse(b"prompt,chords,tempo\na,Am F,0\n", "csv", "f"), Defaults())
    over = expand(
        parse(b"prompt,chords\na,Am F\nb,none\nc,\n", "csv", "f"),
        Defaults(values={"tempo_bpm": 0.0}),
    )
    assert [(i.chords, i.tempo_bpm) for i in over] == [
        ("Am F", None), ("none", 0.0), ("none", 0.0),
    ]  # fmt: skip
    given = expand(
        parse(b"prompt,returning\na,0\nb,\n", "csv", "f"), Defaults(values={"returning": 2.0})
    )
    assert [i.request().returning for i in given] == [0.0, 2.0]
    with pytest.raises(ConfigError, match="line 2: returning must be between 0 and 4"):
        expand(parse(b"prompt,returning\na,5\n", "csv", "f"), Defaults())
    with pytest.raises(InputError, match="beats_per_bar takes a whole number"):
        parse(b"prompt,beats_per_bar\na,x\n", "csv", "f")
