"""The shipped pocket model makes music: audible, unclipped, and different for different prompts."""

import numpy as np
import pytest

from musicgen_rl.audio.loudness import LoudnessConfig, true_peak
from musicgen_rl.pipeline import Pipeline

PROMPTS = [
    "slow sad solo piano",
    "fast techno, pounding kick drum and synth bass",
    "gentle string quartet in a minor key",
    "heavy metal with distorted guitars and drums",
]


@pytest.fixture(scope="module")
def clips():
    pipeline = Pipeline.load("pocket", device="cpu")
    return pipeline.generate(PROMPTS, duration_s=6.0, seed=0, clips_per_prompt=3)


def spectra(samples: np.ndarray) -> np.ndarray:
    """Average a clip's loudness in 40 bands, level removed."""
    frames = np.lib.stride_tricks.sliding_window_view(samples, 2048)[::1024] * np.hanning(2048)
    power = np.abs(np.fft.rfft(frames)) ** 2  # [frames, 1025]
    edges = np.unique(np.geomspace(3, 1024, 41).astype(int))
    bands = np.log(np.add.reduceat(power, edges[:-1], axis=1) + 1e-9)
    mean, move = bands.mean(0), bands.std(0)
    return np.concatenate([mean - mean.mean(), move])


def test_nothing_is_silent_or_clipped(clips):
    for clip in clips:
        assert np.sqrt((clip.samples**2).mean()) > 0.01
        assert true_peak(clip.samples) <= LoudnessConfig().ceiling + 1e-3
        seconds = clip.samples.reshape(6, -1)
        assert (np.abs(seconds).max(axis=1) > 1e-3).all()  # sound in every second


def test_different_prompts_sound_different(clips):
    x = np.stack([spectra(c.samples[0]) for c in clips]).reshape(len(PROMPTS), 3, -1)
    within = np.mean(
        [np.linalg.norm(x[p, i] - x[p, j]) for p in range(4) for i in range(3) for j in range(i)]
    )
    between = np.mean(
        [
            np.linalg.norm(x[p, i] - x[q, j])
            for p in range(4) for q in range(p) for i in range(3) for j in range(3)
        ]
    )  # fmt: skip
    assert between > 1.3 * within


def test_variations_of_a_prompt_differ(clips):
    assert len({c.settings["codes_sha256"] for c in clips}) == len(clips)


def test_no_frame_is_held_for_long(clips):
    for clip in clips:
        same = (clip.codes[:, 1:] == clip.codes[:, :-1]).all(axis=0)
        longest = max(
            (len(run) for run in "".join("x" if s else " " for s in same).split()), default=0
        )
        assert longest < 50  # a second of one frame over and over
