"""Takes: which one is kept, that it is a clip like any other, and what is refused."""

from dataclasses import replace

import numpy as np
import pytest

from musicgen_rl.audio.clip import Clip
from musicgen_rl.audio.io import read_audio, read_tags
from musicgen_rl.audio.tempo import hear_tempo, tempo_gap
from musicgen_rl.errors import ConfigError, InputError
from musicgen_rl.pipeline import GenerationConfig, Pipeline
from musicgen_rl.pipeline.files import generate_files
from musicgen_rl.pipeline.replay import compare, read_recipe, remake
from musicgen_rl.pipeline.takes import nearest
from tests.audio.test_tempo import clicks


@pytest.fixture(scope="module")
def pipeline(tiny_folder):
    return Pipeline.load(tiny_folder, device="cpu", dtype="fp32")


def without_takes(clip):
    settings = {k: v for k, v in clip.settings.items() if k not in ("takes", "date")}
    return replace(clip, settings=settings)


def test_the_nearest_of_the_variations_is_kept_and_made_again_by_its_index(pipeline):
    kept = pipeline.generate("house, 124 bpm", duration_s=4.0, seed=7, takes=3, clips_per_prompt=2)
    every = pipeline.generate("house, 124 bpm", duration_s=4.0, seed=7, clips_per_prompt=6)
    heard = [hear_tempo(clip.samples, clip.sample_rate) for clip in every]
    gaps = [tempo_gap(bpm, 124.0) for bpm in heard]
    best = [min((0, 1, 2), key=gaps.__getitem__), min((3, 4, 5), key=gaps.__getitem__)]
    assert [clip.settings["index"] for clip in kept] == best
    for clip, index in zip(kept, best, strict=True):
        assert np.array_equal(clip.codes, every[index].codes)
        told = {"of": 3, "named_bpm": 124.0, "heard_bpm": round(heard[index], 1)}
        assert clip.settings["takes"] == told
        recipe = read_recipe(clip.settings)
        assert compare(recipe, remake(pipeline, recipe).codes, pipeline).identical


def test_takes_go_on_from_a_clip_and_are_drawn_as_asked(pipeline):
    t = np.arange(8000) / 8000
    source = Clip((0.3 * np.sin(2000 * t)).astype(np.float32), 8000)
    how = {"duration_s": 4.0, "seed": 7, "continue_from": source, "temperature": 0.5}
    (kept,) = pipeline.generate("house, 124 bpm", takes=2, **how)
    every = pipeline.generate("house, 124 bpm", clips_per_prompt=2, **how)
    same = [np.array_equal(clip.codes, kept.codes) for clip in every]
    assert same.index(True) == kept.settings["index"]
    assert kept.num_samples == 5 * 8000
    assert kept.settings["continued_from"] is not None
    assert kept.settings["sampling"]["temperature"] == 0.5


def test_one_take_is_no_takes(pipeline):
    (clip,) = pipeline.generate("house, 124 bpm", duration_s=0.3, seed=7, takes=1)
    assert "takes" not in clip.settings


def takes(*tempi, complete=None):
    """Make clips of clicks, all of them played to the end unless told otherwise."""
    whole = complete or [True] * len(tempi)
    return [
        Clip(clicks(bpm), 8000, {"complete": done, "index": i})
        for i, (bpm, done) in enumerate(zip(tempi, whole, strict=True))
    ]


def test_the_take_at_the_tempo_named_is_kept():
    assert nearest(takes(80, 150, 125, 100), 126.0, 8.0).settings["index"] == 2
    assert nearest(takes(80, 150, 110), 40.0, 8.0).settings["index"] == 0  # its double
    assert nearest(takes(100, 100), 100.0, 8.0).settings["index"] == 0
    kept = nearest(takes(125, 100, complete=[False, True]), 126.0, 8.0)
    assert (kept.settings["index"], kept.settings["takes"]["of"]) == (1, 2)
    stopped = nearest(takes(100, 125, complete=[False, False]), 126.0, 8.0)
    assert stopped.settings["index"] == 1


def test_what_a_clip_goes_on_from_is_not_counted():
    begun = [
        replace(clip, samples=np.concatenate([clicks(126), clip.samples], axis=1))
        for clip in takes(90, 125)
    ]
    assert nearest(begun, 126.0, 8.0).settings["index"] == 1


def test_progress_counts_all_takes_and_a_stop_keeps_what_there_is(pipeline):
    seen = []
    pipeline.generate(
        ["a, 90 bpm", "b, 120 bpm"], duration_s=4.0, seed=1, takes=2,
        progress=lambda done, total: seen.append((done, total)),
    )  # fmt: skip
    frames = pipeline.frames_of(GenerationConfig(duration_s=4.0))
    assert {total for _, total in seen} == {4 * frames}
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert seen[-1][0] == 4 * frames
    asked = []

    def stop():
        asked.append(1)
        return len(asked) > frames

    found = pipeline.generate(["a, 90 bpm"] * 3, duration_s=4.0, seed=1, takes=2, stop=stop)
    assert len(found) == 1
    assert not found[0].settings["complete"]


def test_files_are_named_by_the_take_that_is_kept(pipeline, tmp_path):
    request = GenerationConfig(duration_s=4.0, seed=7, takes=3, clips_per_prompt=2)
    how = {"folder": tmp_path, "format": "flac"}
    prompts = ["house, 124 bpm"]
    paths = list(generate_files(pipeline, prompts, request, pipeline.info.sampling, **how))
    kept = pipeline.generate(prompts, duration_s=4.0, seed=7, takes=3, clips_per_prompt=2)
    indices = [clip.settings["index"] for clip in kept]
    assert [p.name for p in paths] == [f"house-124-bpm-s7-{i}.flac" for i in indices]
    assert sorted(tmp_path.iterdir()) == sorted(paths)  # the other takes leave nothing behind
    for path, clip in zip(paths, kept, strict=True):
        assert read_tags(path)["takes"] == clip.settings["takes"]
        assert np.abs(read_audio(path).samples - clip.samples).max() < 1e-3


@pytest.mark.parametrize(
    ("prompts", "options", "error", "says"),
    [
        (["house, 124 bpm", "slow piano"], {}, InputError, "'slow piano' does not name one"),
        (["90 bpm, then 120 bpm"], {}, InputError, "does not name one"),
        (["124 bpm"], {"duration_s": 3.9}, ConfigError, "at least 4 s"),
        (["124 bpm"], {"takes": 65}, ConfigError, "takes must be a whole number from 1 to 64"),
        (["124 bpm"], {"takes": 0}, ConfigError, "takes must be"),
        (["124 bpm"] * 500, {}, ConfigError, "at most 1000"),
    ],
)
def test_takes_of_which_none_could_be_chosen_are_refused(
    pipeline, tmp_path, prompts, options, error, says
):
    given = {"duration_s": 4.0, "takes": 3} | options
    with pytest.raises(error, match=says):
        pipeline.generate(prompts, **given)

    def make_files():
        how = {"folder": tmp_path / "new", "format": "wav"}
        list(generate_files(
            pipeline, prompts, GenerationConfig(**given), pipeline.info.sampling, **how
        ))  # fmt: skip

    with pytest.raises(error, match=says):
        make_files()
    assert not (tmp_path / "new").exists()
