"""Every way of making music on a GPU, with a pretended one, and with a real one where there is one.

In fp32 the pretended GPU computes what the CPU does, so the codes are the CPU's.
"""

import json
import shutil
from contextlib import nullcontext

import numpy as np
import pytest

from musicgen_rl.audio.loudness import LoudnessConfig
from musicgen_rl.config import SamplingConfig
from musicgen_rl.pipeline import GenerationConfig, Pipeline
from musicgen_rl.pipeline.dial import sampling_at
from musicgen_rl.pipeline.files import generate_files
from musicgen_rl.pipeline.jam import Jam
from musicgen_rl.pipeline.moves import Move
from musicgen_rl.pipeline.provenance import describe_codes
from musicgen_rl.pipeline.replay import compare, read_recipe, remake
from tests.models import save_tiny_musicgen
from tests.pipeline.test_key import write_key
from tests.pipeline.test_tempo import write_beat
from tests.pretended_gpu import pretended_gpus

KINDS = ("dial", "musicgen", "stereo")


def on_gpus(*kinds):
    """Name models, dtypes and whether the GPU is real."""
    return [
        pytest.param((kind, dtype, real), id=f"{kind}-{dtype}{'-real' * real}", marks=marks)
        for kind in kinds
        for dtype in ("fp32", "bf16")
        for real, marks in ((False, ()), (True, pytest.mark.gpu))
    ]


@pytest.fixture(scope="module")
def folders(dial_folder, tiny_musicgen_folder, tmp_path_factory):
    stereo = save_tiny_musicgen(tmp_path_factory.mktemp("models") / "stereo", stereo=True)
    return dict(zip(KINDS, (dial_folder, tiny_musicgen_folder, stereo), strict=True))


@pytest.fixture(scope="module", params=on_gpus(*KINDS))
def pair(request, folders):
    """Load one model on the GPU, and on the CPU too where it computes the same there."""
    kind, dtype, real = request.param
    with nullcontext() if real else pretended_gpus():
        there, here = Pipeline.load(folders[kind], device="cuda", dtype=dtype), None
        if dtype == "fp32" and not real:
            here = Pipeline.load(folders[kind], device="cpu", dtype=dtype)
        yield there, here


def made_alike(pair, **options):
    """Make a clip on the GPU, and hold its codes against the CPU's where they must agree."""
    there, here = pair
    options = {"duration_s": 0.16, "seed": 1} | options
    (clip,) = there.generate("drums", **options)
    assert np.isfinite(clip.samples).all()
    if here is not None:
        assert np.array_equal(clip.codes, here.generate("drums", **options)[0].codes)
    return clip


def test_clips_are_made_with_and_without_guidance(pair):
    clip = made_alike(pair, guidance_scale=1.0, top_p=0.9)
    assert clip.settings["device"] == "cuda"
    guided = made_alike(pair, guidance_scale=4.0)
    steered = made_alike(pair, guidance_scale=4.0, negative_prompt="slow sad piano jazz")
    assert not np.array_equal(guided.codes, steered.codes)


def test_guidance_ends_between_two_captured_steps_and_both_are_kept(pair):
    how = {"duration_s": 0.3, "guidance_scale": 4.0}
    early, whole = made_alike(pair, guidance_s=0.1, **how), made_alike(pair, **how)
    assert np.array_equal(early.codes[0, :5], whole.codes[0, :5])
    assert not np.array_equal(early.codes, whole.codes)
    again = made_alike(pair, guidance_s=0.1, **how)
    assert np.array_equal(again.codes, early.codes)
    there, _ = pair
    assert len(there._runners._kept) == 2


def test_a_clip_goes_on_from_another_and_is_replayed(pair):
    first = made_alike(pair, guidance_scale=3.0)
    there, _ = pair
    made_alike(pair, guidance_scale=3.0, continue_from=first)
    recipe = read_recipe(json.loads(json.dumps(first.settings)))
    assert compare(recipe, remake(there, recipe).codes, there).identical


def test_a_streamed_clip_is_the_clip(pair):
    there, _ = pair
    options = {"duration_s": 0.25, "seed": 2, "guidance_scale": 3.0}
    parts = list(there.stream("drums", **options))
    (whole,) = there.generate("drums", **options)
    assert sum(p.num_samples for p in parts) == whole.num_samples
    assert parts[-1].settings["codes_sha256"] == whole.settings["codes_sha256"]


def test_clips_of_several_prompts_go_to_files(pair, tmp_path):
    there, _ = pair
    request = GenerationConfig(duration_s=0.2, seed=1)
    sampling = SamplingConfig(guidance_scale=3.0)
    files = list(generate_files(there, ["drums", "piano"], request, sampling, folder=tmp_path))
    assert len(files) == 2


def test_a_jam_is_steered_and_made_again(pair):
    there, _ = pair
    lam = 0.3 if there.has_endpoints else None
    first = Move(frame=0, prompt="drums", sampling=sampling_at(there.info, lam), diversity=lam)
    jam = Jam(there, first, 3)
    guided = SamplingConfig(guidance_scale=2.0)
    changes = [{"prompt": "piano"}, {"sampling": guided}, {"diversity": lam and 0.7}]
    changes += [{"sampling": SamplingConfig(guidance_scale=2.0, negative_prompt="loud")}]
    for change in changes:
        jam.advance(4)
        jam.change(**change)
    jam.advance(4)
    settings = jam.settings(LoudnessConfig()) | describe_codes(jam.joined(), jam.frames)
    jam.close()
    recipe = read_recipe(json.loads(json.dumps(settings)))
    assert compare(recipe, remake(there, recipe).codes, there).identical


@pytest.mark.parametrize("pair", on_gpus("dial"), indirect=True)
def test_the_dial_moves_and_comes_back_and_a_twin_has_its_own(pair):
    there, here = pair
    base = made_alike(pair, guidance_scale=1.0)
    for merge_method in ("slerp", "liti", "lerp"):
        moved = made_alike(pair, diversity=0.4, merge_method=merge_method)
    twin = there.twin()
    assert np.array_equal(made_alike(pair, guidance_scale=1.0).codes, base.codes)
    assert np.array_equal(made_alike((twin, here), diversity=0.4).codes, moved.codes)


@pytest.mark.parametrize("kind", KINDS)
def test_the_second_gpu_plays_too(folders, kind):
    options = {"duration_s": 0.3, "seed": 1, "guidance_scale": 3.0}
    with pretended_gpus(count=2):
        there = Pipeline.load(folders[kind], device="cuda:1", dtype="fp32")
        (clip,) = there.generate("drums", **options)
    here = Pipeline.load(folders[kind], device="cpu", dtype="fp32")
    assert np.array_equal(clip.codes, here.generate("drums", **options)[0].codes)
    assert clip.settings["device"] == "cuda:1"


def test_a_clip_longer_than_the_window_slides(folders):
    with pretended_gpus():
        there = Pipeline.load(folders["dial"], device="cuda", dtype="fp32")
        here = Pipeline.load(folders["dial"], device="cpu", dtype="fp32")
        made_alike((there, here), duration_s=2.4, guidance_scale=1.0)  # the window is 2 s


@pytest.mark.parametrize("guidance_scale", [1.0, 3.0])
def test_a_tempo_and_a_key_are_held_and_let_go_on_a_gpu(folders, tmp_path, guidance_scale):
    shutil.copytree(folders["dial"], tmp_path / "held")
    write_key(write_beat(tmp_path / "held"))
    with pretended_gpus():
        there = Pipeline.load(tmp_path / "held", device="cuda", dtype="fp32")
        here = Pipeline.load(tmp_path / "held", device="cpu", dtype="fp32")
        how = {"duration_s": 0.3, "guidance_scale": guidance_scale}
        free = made_alike((there, here), **how)
        held = made_alike((there, here), tempo_bpm=124, key="D minor", diversity=0.3, **how)
        assert held.settings["tempo"]["bpm"] == 124.0
        assert held.settings["key"]["name"] == "D minor"
        again = made_alike((there, here), **how)  # by the runner that has held one
        assert np.array_equal(again.codes, free.codes)
        made_alike((there, here), **(how | {"duration_s": 2.4}), tempo_bpm=70)  # two windows
