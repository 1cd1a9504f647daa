import math

import pytest
import torch

from musicgen_rl.training.codec_losses import (
    DISTANCE_SCALES,
    log_mel_distance,
    log_mel_distances,
    training_distances,
)
from tests.codec.tiny import sine

RATE = 32000


def test_a_sound_is_at_distance_zero_from_itself() -> None:
    sound = torch.randn(2, 8000) * 0.1
    assert float(log_mel_distance(sound, sound, RATE)) == 0.0
    assert all(float(v) == 0.0 for v in training_distances(sound, sound, RATE).values())


def test_a_gain_is_its_logarithm_at_each_scale() -> None:
    sound = torch.randn(1, 32000) * 0.05
    found = log_mel_distances(sound * 2.0, sound, RATE)
    assert found.tolist() == pytest.approx([math.log(2.0)] * len(DISTANCE_SCALES), rel=1e-3)


def test_phase_and_sign_do_not_matter_but_pitch_does() -> None:
    tone = sine(440.0, 1.0, RATE)[None]
    assert float(log_mel_distance(-tone, tone, RATE)) == pytest.approx(0.0, abs=1e-4)
    semitone = sine(466.2, 1.0, RATE)[None]
    near = training_distances(tone, tone * 0.9, RATE)["pitch"]
    assert float(training_distances(semitone, tone, RATE)["pitch"]) > 3 * float(near)


def test_a_click_moves_short_windows_more_than_long_ones() -> None:
    sound = torch.randn(1, 32000, generator=torch.Generator().manual_seed(0)) * 0.01
    clicked = sound.clone()
    clicked[0, 16000] += 0.5
    found = log_mel_distances(clicked, sound, RATE)
    share = [
        float(d) * 32000 / window for d, (window, _) in zip(found, DISTANCE_SCALES, strict=True)
    ]
    assert share[0] > share[-1]


def test_the_gradient_reaches_the_made_sound_only_and_is_finite_at_silence() -> None:
    made = torch.zeros(1, 8000, requires_grad=True)
    real = torch.randn(1, 8000) * 0.1
    total = torch.stack(list(training_distances(made, real, RATE).values())).sum()
    total.backward()
    assert made.grad is not None
    assert bool(torch.isfinite(made.grad).all())
