import math

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from musicgen_rl.errors import ConfigError, InputError
from musicgen_rl.rewards import mel
from musicgen_rl.rewards.mel import (
    FLOOR_DB,
    N_MELS,
    check_audio,
    hearing_once,
    level_free,
    mel_bands,
    mel_levels,
    seconds_to_frames,
    windows,
)


def tones(rate: int, seconds: float = 1.2) -> Tensor:
    t = torch.arange(round(rate * seconds), dtype=torch.float64) / rate
    x = sum(0.3 / k * torch.sin(2 * math.pi * 440 * k * t) for k in (1, 2, 5))
    return (x * (1 + 0.5 * torch.sin(2 * math.pi * 3 * t))).float()[None]


def band_of(hertz: float) -> int:
    mel = [2595 * math.log10(1 + f / 700) for f in (30.0, 7600.0, hertz)]
    return round((mel[2] - mel[0]) / ((mel[1] - mel[0]) / (N_MELS + 1))) - 1


@pytest.mark.parametrize("rate", [16000, 44100, 48000])
def test_a_clip_sounds_the_same_at_any_sample_rate(rate: int) -> None:
    heard = level_free(mel_levels(tones(rate), rate))
    at_32k = level_free(mel_levels(tones(32000), 32000))
    assert heard.shape == at_32k.shape
    assert_close(heard, at_32k, atol=0.02, rtol=0)


@pytest.mark.parametrize("hertz", [220.0, 1000.0, 5000.0])
def test_a_sine_is_loudest_in_its_own_band(hertz: float) -> None:
    t = torch.arange(32000) / 32000
    levels = mel_levels(torch.sin(2 * math.pi * hertz * t)[None], 32000)
    assert int(levels[0, 5].argmax()) == band_of(hertz)
    assert -8 < float(levels[0, 5].max()) < 3


def test_frames_lie_inside_the_clip() -> None:
    assert mel_levels(torch.zeros(1, 64000), 32000).shape == (1, (64000 - 3200) // 640 + 1, N_MELS)


def test_loudness_makes_no_difference() -> None:
    x = tones(16000) + 0.01 * torch.randn(1, 19200)
    assert_close(
        level_free(mel_levels(0.1 * x, 16000)), level_free(mel_levels(x, 16000)), atol=1e-3, rtol=0
    )


def test_silence_stays_silent_and_finite() -> None:
    levels = mel_levels(torch.zeros(1, 32000), 32000)
    assert_close(levels, torch.full_like(levels, FLOOR_DB))
    frames = level_free(levels)
    assert_close(frames, torch.full_like(frames, (FLOOR_DB + 75.0) / 20.0))


def test_a_clip_does_not_depend_on_its_company() -> None:
    quiet, loud = 0.01 * tones(16000), torch.randn(1, 19200)
    both = level_free(mel_levels(torch.cat([quiet, loud]), 16000))
    assert_close(both[:1], level_free(mel_levels(quiet, 16000)))


def test_every_filter_hears_something() -> None:
    for rate in (16000, 32000):
        assert bool((mel_bands(rate).sum(0) > 0.3).all())


def test_windows_cover_a_clip_evenly() -> None:
    frames = torch.arange(10.0)[None, :, None]
    cut = windows(frames, 4)[0, :, :, 0]
    assert cut.tolist() == [[0, 1, 2, 3], [3, 4, 5, 6], [6, 7, 8, 9]]
    assert windows(frames, 10).shape == (1, 1, 10, 1)


def test_seconds_become_whole_windows() -> None:
    assert seconds_to_frames(2.0) == mel_levels(torch.zeros(1, 64000), 32000).shape[1]
    with pytest.raises(ConfigError, match=r"0\.05 s"):
        seconds_to_frames(0.05)


@pytest.mark.parametrize("rate", [8000, 22051, 0, True])
def test_a_rate_that_cannot_be_heard_is_refused(rate: int) -> None:
    with pytest.raises(InputError, match="resample it to 32000"):
        check_audio(torch.zeros(1, 64000), rate)


def test_too_short_clips_are_refused() -> None:
    with pytest.raises(InputError, match=r"1 s or more, got 0\.50 s"):
        check_audio(torch.zeros(1, 16000), 32000)


@pytest.mark.parametrize("shape", [(64000,), (1, 1, 64000), (0, 64000)])
def test_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"\[clips, samples\]"):
        check_audio(torch.zeros(shape), 32000)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_the_clip_that_holds_nan_is_named(bad: float) -> None:
    samples = torch.zeros(3, 32000)
    samples[1, 77] = bad
    with pytest.raises(InputError, match="clip 1 holds nan"):
        check_audio(samples, 32000)


def test_clips_heard_together_are_measured_once_and_give_the_same_numbers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    measured, plain = list[int](), mel._measure_levels

    def counted(samples: Tensor, sample_rate: int) -> Tensor:
        measured.append(len(samples))
        return plain(samples, sample_rate)

    monkeypatch.setattr(mel, "_measure_levels", counted)
    clips = torch.cat([tones(16000), 0.1 * tones(16000)])
    alone = mel_levels(clips, 16000)
    with hearing_once():
        for _ in range(3):
            assert torch.equal(mel_levels(clips, 16000), alone)
            assert torch.equal(mel_levels(clips[1:], 16000), alone[1:])  # other clips, other levels
        for loud in (0.5, 0.25):  # made and thrown away in turn, perhaps at one address
            assert torch.equal(mel_levels(clips * loud, 16000), plain(clips * loud, 16000))
    assert measured == [2, 2, 1, 2, 2]
    mel_levels(clips, 16000)
    assert measured[5:] == [2]
