"""A whole model in MusicGen's format: our greedy clips are transformers' own, codes and sound."""

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer, MusicgenForConditionalGeneration

from musicgen_rl.audio.loudness import LoudnessConfig
from musicgen_rl.pipeline import Pipeline
from tests.models import save_tiny_musicgen

FRAMES = 30
PROMPTS = ["slow sad piano", "loud drums"]


@pytest.fixture(scope="module", params=["mono", "stereo"])
def pair(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("musicgen") / request.param
    save_tiny_musicgen(folder, stereo=request.param == "stereo")
    theirs = MusicgenForConditionalGeneration.from_pretrained(
        folder, attn_implementation="eager"
    ).eval()
    return theirs, AutoTokenizer.from_pretrained(folder), Pipeline.load(
        folder, device="cpu", dtype="fp32"
    )  # fmt: skip


def generate_theirs(theirs, tokenizer, guidance):
    config = theirs.config.decoder
    delay = config.num_codebooks // config.audio_channels - 1
    seen = {}
    original = theirs.audio_encoder.decode

    def spy(audio_codes, *args, **more):
        seen.setdefault("codes", []).append(audio_codes.clone())
        return original(audio_codes, *args, **more)

    theirs.audio_encoder.decode = spy
    try:
        audio = theirs.generate(
            **tokenizer(PROMPTS, padding=True, return_tensors="pt"),
            do_sample=False,
            guidance_scale=guidance,
            max_new_tokens=FRAMES + delay,
        )
    finally:
        theirs.audio_encoder.decode = original
    return seen["codes"], audio


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_greedy_clips_equal_transformers_generate(pair, guidance):
    theirs, tokenizer, pipeline = pair
    codes, audio = generate_theirs(theirs, tokenizer, guidance)
    clips = pipeline.generate(
        PROMPTS,
        duration_s=FRAMES * 160 / 8000,
        seed=0,
        temperature=0.0,
        guidance_scale=guidance,
        loudness=LoudnessConfig(enabled=False),
    )
    channels = pipeline.info.lm.audio_channels
    for b, clip in enumerate(clips):
        for c in range(channels):  # transformers decodes left and right one after the other
            expected = codes[c][0, b]
            assert torch.equal(torch.from_numpy(clip.codes[c::channels]), expected)
        wanted = audio[b].numpy()
        peak = max(1.0, np.abs(wanted).max() / LoudnessConfig().ceiling)
        assert clip.samples.shape == wanted.shape
        assert np.corrcoef(clip.samples.ravel(), wanted.ravel())[0, 1] > 0.9999
        assert np.abs(clip.samples).max() <= np.abs(wanted).max() + 1e-5, peak


def test_variations_are_not_folded_into_one(pair):
    _, _, pipeline = pair
    clips = pipeline.generate(PROMPTS[0], duration_s=0.4, seed=1, clips_per_prompt=3)
    assert len({c.settings["codes_sha256"] for c in clips}) == 3


def test_the_checkpoints_own_guidance_is_the_default(pair):
    _, _, pipeline = pair
    (clip,) = pipeline.generate(PROMPTS[0], duration_s=0.2, seed=1)
    assert clip.settings["sampling"]["guidance_scale"] == 3.0
    assert clip.num_channels == pipeline.info.lm.audio_channels
