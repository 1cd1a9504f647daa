"""The dial in the pipeline: which weights play, what the tags say, what a replay checks."""

import copy
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch

from musicgen_rl.checkpoint import load_state, read_info
from musicgen_rl.config import LeadConfig, SamplingConfig
from musicgen_rl.errors import CheckpointError, ConfigError, InputError
from musicgen_rl.merging.merge import merge_checkpoints
from musicgen_rl.merging.recipe import MergeConfig
from musicgen_rl.pipeline import GenerationConfig, Pipeline
from musicgen_rl.pipeline.dial import has_endpoints, require_endpoints, sampling_at
from musicgen_rl.pipeline.replay import check_endpoints, compare, read_recipe, remake


@pytest.fixture(scope="module")
def pipeline(dial_folder):
    return Pipeline.load(dial_folder, device="cpu", dtype="fp32")


def codes(pipeline, **options):
    options = {"duration_s": 0.6, "seed": 7, "guidance_scale": 1.0} | options
    return pipeline.generate("drums", **options)[0].codes


@pytest.mark.parametrize("lam", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("method", ["lerp", "slerp", "liti"])
def test_a_position_plays_what_a_merged_checkpoint_plays(dial_folder, tmp_path, lam, method):
    config = MergeConfig(lam=lam, method=method)
    merged = merge_checkpoints(
        dial_folder / "quality", dial_folder / "diversity", tmp_path / "merged", config,
        base=dial_folder, dtype=torch.float32,
    )  # fmt: skip
    dialled = Pipeline.load(dial_folder, device="cpu", dtype="fp32")
    expected = codes(Pipeline.load(merged, device="cpu", dtype="fp32"))
    assert np.array_equal(codes(dialled, diversity=lam, merge_method=method), expected)


def test_moves_go_anywhere_and_back_to_the_base_without_drift(pipeline, dial_folder):
    base = codes(pipeline)
    first = codes(pipeline, diversity=0.5)
    for lam, method in ((0.1, "slerp"), (1.0, "lerp"), (0.5, "liti"), (0.0, "lerp")):
        pipeline.move(lam, method)
    assert np.array_equal(codes(pipeline, diversity=0.5), first)
    pipeline.move(None)
    model, stored = pipeline._runners.model, load_state(read_info(dial_folder))
    assert all(torch.equal(t, stored[name]) for name, t in model.state_dict().items())
    assert np.array_equal(codes(pipeline), base)
    assert not np.array_equal(first, base)


@pytest.mark.parametrize("dtype", ["int8", "bf16"])
def test_other_precisions_come_back_to_the_base_to_the_bit(dial_folder, dtype):
    def numbers(pipeline):
        model = pipeline._runners.model
        if dtype == "int8":
            return [torch.from_numpy(a.copy()) for a in (model.numbers, model.scales, model.embed)]
        return [t.clone() for t in model.state_dict().values()]

    try:
        dialled = Pipeline.load(dial_folder, device="cpu", dtype=dtype)
    except ConfigError:
        pytest.skip(f"no {dtype} here")
    fresh = numbers(dialled)
    dialled.move(0.7)
    assert not all(torch.equal(a, b) for a, b in zip(fresh, numbers(dialled), strict=True))
    dialled.move(None)
    assert all(torch.equal(a, b) for a, b in zip(fresh, numbers(dialled), strict=True))


def test_half_precision_ends_are_held_in_float32(dial_folder, tmp_path):
    from tests.merging.pairs import tune
    from tests.models import save_tiny

    folder = save_tiny(tmp_path / "half")
    for number, end in enumerate(("quality", "diversity")):
        tune(folder, folder / end, number, dtype=torch.float16)
    halved = Pipeline.load(folder, device="cpu", dtype="fp32")
    halved.move(0.5)
    ends = halved._dial.ends()
    kinds = {t.dtype for state in (ends.quality, ends.diversity) for t in state.values()}
    assert kinds == {torch.float32}


def test_a_move_that_fails_leaves_no_false_memory(pipeline, monkeypatch):
    from musicgen_rl.merging.slider import Slider

    expected = codes(pipeline, diversity=0.25)
    pipeline.move(0.75)
    real, broken = Slider._write, []

    def tear(self, name, lam):
        real(self, name, lam)
        broken.append(name)
        if len(broken) == 3:
            raise MemoryError

    monkeypatch.setattr(Slider, "_write", tear)
    with pytest.raises(MemoryError):
        pipeline.move(0.25)
    monkeypatch.undo()
    pipeline.move(0.75)
    assert np.array_equal(codes(pipeline, diversity=0.25), expected)


def test_guidance_is_off_on_the_dial_unless_named(dial_folder):
    info = read_info(dial_folder)
    assert sampling_at(info, None).guidance_scale == 3.0
    assert sampling_at(info, 0.0).guidance_scale == 1.0
    assert sampling_at(info, 0.0, guidance_scale=2.5).guidance_scale == 2.5
    assert sampling_at(info, 1.0, top_k=3).top_k == 3
    early = sampling_at(info, 0.5, guidance_scale=2.0, guidance_s=1.0)
    assert (early.guidance_scale, early.guidance_s) == (2.0, 1.0)
    own = replace(info, sampling=replace(info.sampling, guidance_s=1.0))
    assert sampling_at(own, None).guidance_s == 1.0
    assert sampling_at(own, None, guidance_scale=2.0).guidance_s == 0.0
    assert sampling_at(own, None, guidance_scale=1.0).guidance_s == 0.0
    assert sampling_at(own, 0.5) == replace(own.sampling, guidance_scale=1.0, guidance_s=0.0)
    with pytest.raises(ConfigError, match="guidance_s needs guidance"):
        sampling_at(info, 0.5, guidance_s=1.0)
    with pytest.raises(ConfigError, match="negative_prompt"):
        sampling_at(info, 0.5, negative_prompt="drums")


def test_held_clips_on_the_dial_begin_guided_where_the_model_says_so(dial_folder):
    lead = LeadConfig(quality_scale=2.0, diversity_scale=1.0, guidance_s=0.5)
    plain = read_info(dial_folder)
    info = replace(plain, lead=lead)

    def found(diversity, info=info, **named):
        sampling = sampling_at(info, diversity, **({"holds": True} | named))
        return sampling.guidance_scale, sampling.guidance_s

    assert [found(at) for at in (0.0, 0.25, 0.5, 1.0)] == [
        (2.0, 0.5),
        (1.75, 0.5),
        (1.5, 0.5),
        (1.0, 0.0),
    ]
    assert found(0.25, holds=False) == found(0.25, info=plain) == (1.0, 0.0)
    assert found(None) == (3.0, 0.0)
    assert found(0.5, guidance_scale=1.0) == (1.0, 0.0)
    assert found(0.5, guidance_scale=4.0) == (4.0, 0.0)
    assert found(0.5, guidance_s=2.0) == (1.5, 2.0)
    assert found(0.5, temperature=0.5) == (1.5, 0.5)
    with pytest.raises(ConfigError, match="negative_prompt"):
        found(0.5, negative_prompt="drums")
    with pytest.raises(ConfigError, match="quality_scale must be between 1 and"):
        LeadConfig(quality_scale=0.5)


def test_guidance_is_taken_off_with_what_goes_with_it():
    guided = SamplingConfig(guidance_scale=2.0, guidance_s=1.0, negative_prompt="x", top_k=9)
    assert guided.unguided() == SamplingConfig(top_k=9)
    kinds = (guided, replace(guided, guidance_s=0.0), guided.unguided())
    assert [kind.rows for kind in kinds] == [3, 2, 1]
    assert [kind.guided_frames(25.0) for kind in kinds] == [25, 0, 0]
    assert replace(guided, guidance_s=0.01).guided_frames(25.0) == 1


@pytest.mark.parametrize(
    ("asked", "holds"),
    [
        ({}, False), ({"tempo_bpm": 0.0, "key": "none", "chords": "none"}, False),
        ({"tempo_bpm": 90.0}, True), ({"steady": True}, True), ({"key": "auto"}, True),
        ({"key": "D minor"}, True), ({"chords": "Am F"}, True), ({"chords": "auto"}, True),
    ],
)  # fmt: skip
def test_what_counts_as_held(asked, holds):
    assert GenerationConfig(**asked).holds is holds


def test_the_dial_is_off_unless_asked_for(pipeline):
    (plain,) = pipeline.generate("drums", duration_s=0.2, seed=1)
    assert plain.settings["sampling"]["guidance_scale"] == 3.0
    assert plain.settings["diversity"] is None
    (dialled,) = pipeline.generate("drums", duration_s=0.2, seed=1, diversity=0.4)
    assert dialled.settings["sampling"]["guidance_scale"] == 1.0
    assert dialled.settings["diversity"] == 0.4
    assert dialled.settings["merge"]["method"] == "lerp"


def test_a_stream_follows_the_dial(pipeline):
    parts = list(pipeline.stream("drums", duration_s=0.6, seed=7, diversity=1.0))
    (whole,) = pipeline.generate("drums", duration_s=0.6, seed=7, diversity=1.0)
    assert parts[-1].settings["codes_sha256"] == whole.settings["codes_sha256"]


def test_a_stream_keeps_its_position_whatever_else_is_played(pipeline):
    how = {"duration_s": 4.0, "seed": 7, "diversity": 0.0}
    whole = list(pipeline.stream("drums", **how))[-1].settings["codes_sha256"]
    for other in (1.0, None):
        stream = pipeline.stream("drums", **how)
        next(stream)
        pipeline.generate("drums", duration_s=0.2, seed=1, diversity=other)
        assert list(stream)[-1].settings["codes_sha256"] == whole


def test_two_threads_keep_their_positions(pipeline):
    how = {"duration_s": 25.0, "seed": 7}
    places = (0.0, 1.0)
    alone = [codes(pipeline, diversity=d, **how) for d in places]
    with ThreadPoolExecutor(2) as pool:
        both = list(pool.map(lambda d: codes(pipeline, diversity=d, **how), places))
    for one, other in zip(alone, both, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_model_without_ends_says_so_in_one_sentence(tiny_folder, dial_folder, tmp_path):
    plain = Pipeline.load(tiny_folder, device="cpu", dtype="fp32")
    assert not plain.has_endpoints
    assert Pipeline.load(dial_folder, device="cpu", dtype="fp32").has_endpoints
    with pytest.raises(ConfigError, match=r"tiny has no dial.*quality/ and diversity/"):
        plain.generate("drums", duration_s=0.2, diversity=0.5)
    half = tmp_path / "half"
    shutil.copytree(dial_folder, half, ignore=shutil.ignore_patterns("diversity"))
    assert not has_endpoints(half)
    with pytest.raises(ConfigError, match="lacks diversity/"):
        require_endpoints(read_info(half), 0.0)
    require_endpoints(read_info(half), None)


@pytest.mark.parametrize("bad", [-0.1, 1.5, float("nan"), True])
def test_positions_off_the_dial_are_refused(bad):
    with pytest.raises(ConfigError, match="diversity must be between 0 and 1"):
        GenerationConfig(diversity=bad)


def test_ways_that_do_not_exist_are_refused():
    with pytest.raises(ConfigError, match="nlerp"):
        GenerationConfig(diversity=0.5, merge_method="nlerp")


@pytest.mark.parametrize("options", [{}, {"merge_method": "slerp"}, {"merge_method": "liti"}])
def test_a_dialled_clip_is_made_again(pipeline, dial_folder, options):
    (clip,) = pipeline.generate("drums", duration_s=0.5, seed=3, diversity=0.4, **options)
    recipe = read_recipe(clip.settings)
    assert (recipe.request.diversity, recipe.request.merge_method) == (
        0.4, options.get("merge_method", "lerp"),
    )  # fmt: skip
    check_endpoints(recipe, pipeline.info)
    pipeline.move(None)
    assert compare(recipe, remake(pipeline, recipe).codes, pipeline).identical
    moved = copy.deepcopy(clip.settings) | {"diversity": 0.9}
    other = read_recipe(moved)
    assert not compare(other, remake(pipeline, other).codes, pipeline).identical


def test_replay_refuses_other_ends(pipeline, tiny_folder):
    (clip,) = pipeline.generate("drums", duration_s=0.2, seed=3, diversity=0.4)
    edited = copy.deepcopy(clip.settings)
    edited["merge"]["diversity_sha256"] = "0" * 64
    with pytest.raises(CheckpointError, match="diversity has sha256 000000000000"):
        check_endpoints(read_recipe(edited), pipeline.info)
    with pytest.raises(ConfigError, match="no dial"):
        check_endpoints(read_recipe(clip.settings), read_info(tiny_folder))


@pytest.mark.parametrize(
    "change",
    [{"diversity": 2.0}, {"diversity": "0.5"}, {"merge": None}, {"merge": {"method": "lerp"}}],
)
def test_edited_tags_of_the_dial_are_refused(pipeline, change):
    (clip,) = pipeline.generate("drums", duration_s=0.2, seed=3, diversity=0.4)
    with pytest.raises(InputError, match="edited"):
        read_recipe(clip.settings | change)


def test_files_from_before_the_dial_are_still_read(pipeline):
    (clip,) = pipeline.generate("drums", duration_s=0.2, seed=3)
    older = {n: v for n, v in clip.settings.items() if n not in ("diversity", "merge")}
    recipe = read_recipe(older)
    assert recipe.request.diversity is None
    check_endpoints(recipe, pipeline.info)
