"""Replay: tags to a recipe, the same tokens again, and what is said where they differ."""

import copy
from dataclasses import replace

import numpy as np
import pytest

from musicgen_rl.errors import CheckpointError, InputError
from musicgen_rl.pipeline import Pipeline, provenance
from musicgen_rl.pipeline.replay import check_model, check_source, compare, read_recipe, remake


@pytest.fixture(scope="module")
def pipeline(tiny_folder):
    return Pipeline.load(tiny_folder, device="cpu", dtype="fp32")


@pytest.fixture(scope="module")
def clip(pipeline):
    return pipeline.generate("slow piano", duration_s=0.6, seed=7)[0]


def edited(clip, **changes):
    """Copy a clip's settings with some changed; a__b stands for b inside a."""
    found = copy.deepcopy(clip.settings)
    for path, value in changes.items():
        *outer, name = path.split("__")
        inner = found
        for part in outer:
            inner = inner[part]
        inner[name] = value
    return found


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"guidance_scale": 3.0},
        {"guidance_scale": 3.0, "negative_prompt": "drums " * 60},  # pads the text of all rows
        {"temperature": 0.0},
        {"top_k": 3, "top_p": 0.7},
        {"duration_s": 3.0},  # beyond the window
    ],
)
def test_a_clip_is_made_again(pipeline, options):
    options = {"duration_s": 0.6} | options
    (clip,) = pipeline.generate("slow piano", seed=7, **options)
    recipe = read_recipe(clip.settings)
    again = remake(pipeline, recipe)
    verdict = compare(recipe, again.codes, pipeline)
    assert verdict.identical
    assert verdict.frames == clip.codes.shape[1]
    assert np.array_equal(again.codes, clip.codes)
    assert np.allclose(again.samples, clip.samples, atol=1e-6)


def test_every_clip_of_a_batch_is_made_again_in_its_place(pipeline):
    clips = pipeline.generate(["a", "b " * 80], duration_s=0.3, seed=3, clips_per_prompt=2)
    for position, clip in enumerate(clips):
        recipe = read_recipe(clip.settings)
        assert len(recipe.batch.prompts) == 4
        assert recipe.position == position
        again = remake(pipeline, recipe)
        assert compare(recipe, again.codes, pipeline).identical
        assert again.settings["batch"] == clip.settings["batch"]


def test_a_continuation_is_made_again_from_its_source(pipeline, clip):
    (longer,) = pipeline.generate("drums", duration_s=0.5, seed=2, continue_from=clip)
    recipe = read_recipe(longer.settings)
    with pytest.raises(InputError, match="--continue-from"):
        check_source(recipe, None)
    source = pipeline.read_source(clip)
    check_source(recipe, source)
    again = remake(pipeline, recipe, source=source)
    assert compare(recipe, again.codes, pipeline).identical
    assert np.allclose(again.samples, longer.samples, atol=1e-6)
    other = pipeline.read_source(pipeline.generate("x", duration_s=0.6, seed=99)[0])
    with pytest.raises(InputError, match="other codes"):
        check_source(recipe, other)
    with pytest.raises(InputError, match="does not go on"):
        check_source(read_recipe(clip.settings), source)


def test_a_clip_cut_short_is_made_again_as_short(pipeline):
    asked = []
    (clip,) = pipeline.generate(
        "x", duration_s=2.0, seed=1, stop=lambda: asked.append(1) or len(asked) > 33
    )
    assert clip.settings["complete"] is False
    again = remake(pipeline, read_recipe(clip.settings))
    assert np.array_equal(again.codes, clip.codes)
    assert again.num_samples == clip.num_samples
    assert again.settings["complete"] is False


def test_a_cut_is_found_where_check_bytes_stand_for_several_frames(pipeline, monkeypatch):
    monkeypatch.setattr(provenance, "_MOST_CHECKS", 20)  # 1500 in earnest, 30 s of music
    asked = []
    (clip,) = pipeline.generate(
        "x", duration_s=2.0, seed=1, stop=lambda: asked.append(1) or len(asked) > 55
    )
    frames = clip.codes.shape[1]
    every = clip.settings["codes_checks"]["every"]
    assert every == 3
    assert frames % every  # the last byte stands for fewer
    recipe = read_recipe(clip.settings)
    again = remake(pipeline, recipe)
    assert again.codes.shape[1] == frames
    assert compare(recipe, again.codes, pipeline).identical


def test_progress_and_stop(pipeline, clip):
    recipe = read_recipe(clip.settings)
    seen = []
    remake(pipeline, recipe, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (30, 30)
    assert len(seen) >= 30
    assert remake(pipeline, recipe, stop=lambda: True).num_samples == 0


@pytest.mark.parametrize("frame", [0, 11, 29])
def test_the_first_differing_frame_is_named(pipeline, clip, frame):
    other = clip.codes.copy()
    other[0, frame:] = (other[0, frame:] + 1) % 40
    verdict = compare(read_recipe(clip.settings), other, pipeline)
    assert not verdict.identical
    assert verdict.first_frame == frame
    assert verdict.at_s == pytest.approx(frame / 50)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"versions__torch": "1.0"}, "torch was 1.0, here it is 2"),
        ({"versions__python": "2.7"}, "python was 2.7"),
        ({"device": "cuda:0"}, "device was cuda:0, here it is cpu"),
        ({"dtype": "bf16"}, "dtype was bf16, here it is fp32"),
        ({}, "the tags were edited"),
    ],
)
def test_reasons_name_what_differs(pipeline, clip, changes, says):
    other = (clip.codes + 1) % 40
    verdict = compare(read_recipe(edited(clip, **changes)), other, pipeline)
    assert len(verdict.reasons) == 1
    assert says in verdict.reasons[0]


@pytest.mark.parametrize(
    "changes", [{"prompt": "drums"}, {"seed": 8}, {"index": 1}, {"sampling__temperature": 2.0}]
)
def test_an_edited_tag_is_caught(pipeline, clip, changes):
    recipe = read_recipe(edited(clip, **changes))
    assert not compare(recipe, remake(pipeline, recipe).codes, pipeline).identical


def test_an_edited_hash_is_caught_though_every_frame_agrees(pipeline, clip):
    verdict = compare(read_recipe(edited(clip, codes_sha256="0" * 64)), clip.codes, pipeline)
    assert not verdict.identical
    assert verdict.first_frame is None
    assert "edited" in verdict.reasons[0]


def test_another_model_is_refused(pipeline, clip):
    recipe = read_recipe(clip.settings)
    check_model(recipe, pipeline.info, pipeline.model_sha256)
    with pytest.raises(CheckpointError, match=r"ffffffffffff.*--model"):
        check_model(recipe, pipeline.info, "f" * 64)
    window = replace(pipeline.info.window, frames=99)
    with pytest.raises(CheckpointError, match="window"):
        check_model(recipe, replace(pipeline.info, window=window), pipeline.model_sha256)


@pytest.mark.parametrize(
    "changes",
    [
        {"format": 2}, {"prompt": ""}, {"prompt": 3}, {"seed": -1}, {"seed": "7"}, {"seed": True},
        {"index": -1}, {"duration_s": 1e9}, {"duration_s": None}, {"batch": []},
        {"batch__clips": 10**9}, {"batch__position": 1}, {"batch__text_length": -1},
        {"sampling__top_k": "x"}, {"sampling__negative_prompt": 5}, {"sampling__beam": 2},
        {"sampling": {}}, {"loudness__target_lufs": "loud"}, {"loudness__colour": 1},
        {"continued_from": 5}, {"codes_checks__every": 0}, {"codes_checks__bytes": "?"},
        {"codes_checks__bytes": ""}, {"codes_checks": {}}, {"complete": "yes"}, {"versions": 1},
    ],
)  # fmt: skip
def test_tags_that_cannot_be_are_refused(clip, changes):
    with pytest.raises(InputError):
        read_recipe(edited(clip, **changes))


def test_a_file_from_before_guidance_could_end_is_guided_throughout(pipeline, clip):
    sampling = {k: v for k, v in clip.settings["sampling"].items() if k != "guidance_s"}
    recipe = read_recipe(clip.settings | {"sampling": sampling})
    assert recipe.sampling.guidance_s == 0.0
    assert compare(recipe, remake(pipeline, recipe).codes, pipeline).identical


def test_a_clip_whose_guidance_ends_is_made_again(pipeline):
    (clip,) = pipeline.generate(
        "slow piano", duration_s=0.5, seed=3, guidance_scale=2.0, guidance_s=0.2
    )
    (whole,) = pipeline.generate("slow piano", duration_s=0.5, seed=3, guidance_scale=2.0)
    assert np.array_equal(clip.codes[0, :10], whole.codes[0, :10])
    assert not np.array_equal(clip.codes, whole.codes)
    recipe = read_recipe(clip.settings)
    assert compare(recipe, remake(pipeline, recipe).codes, pipeline).identical


def test_every_missing_field_is_refused(clip):
    free = {
        "made_by", "date", "weights_license", "continued_from", "diversity", "merge", "tempo",
        "key", "chords",
    }  # fmt: skip
    needed = set(clip.settings) - free
    for name in needed:
        short = {k: v for k, v in clip.settings.items() if k != name}
        with pytest.raises(InputError, match=name if name != "format" else "None"):
            read_recipe(short)
