"""The shipped model plays in the key and at the tempo that a prompt names."""

import pytest
import soxr

from musicgen_rl.audio.tempo import hear_tempo, tempo_fits
from musicgen_rl.data.keys import named_key
from musicgen_rl.data.pocket.listen import ANALYSIS_RATE, harmonic_chroma
from musicgen_rl.pipeline import Pipeline


@pytest.fixture(scope="module")
def pocket():
    return Pipeline.load("pocket", device="cpu")


def share_of_notes(clip, key):
    chroma = harmonic_chroma(
        soxr.resample(clip.samples.mean(axis=0), clip.sample_rate, ANALYSIS_RATE)
    )
    return chroma[list(key.notes)].sum() / chroma.sum()


def test_the_key_that_is_named_is_played(pocket):
    prompts = [f"pop in {key}" for key in ("C major", "F# major", "Eb minor", "A minor")]

    def shares(**how):
        clips = pocket.generate(prompts, duration_s=6.0, seed=3, diversity=0.0, **how)
        keys = [named_key(prompt) for prompt in prompts]
        return [share_of_notes(c, k) for c, k in zip(clips, keys, strict=True)]

    held, free = shares(), shares(key="none")
    assert sum(held) / 4 > 0.8
    assert sum(held) / 4 > sum(free) / 4 + 0.1


def test_the_tempo_that_is_named_is_played(pocket):
    tempi = [96, 124, 140, 84, 132, 110]
    clips = pocket.generate(
        [f"pop, {bpm} bpm" for bpm in tempi], duration_s=10.0, seed=3, diversity=0.0
    )
    heard = [hear_tempo(clip.samples, clip.sample_rate) for clip in clips]
    met = [tempo_fits(found, bpm) for found, bpm in zip(heard, tempi, strict=True)]
    assert sum(met) >= 4, heard
