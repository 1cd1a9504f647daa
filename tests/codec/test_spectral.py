import math

import pytest
import torch

from musicgen_rl.codec.spectral import (
    LOG_FLOOR,
    TONE_PERIOD,
    hann,
    log_bands,
    magnitudes,
    mel_filters,
    overlap_add_halves,
    pitch_filters,
    placed_like,
    tone_steps,
)
from tests.codec.tiny import sine


@pytest.mark.parametrize(("samples", "frames"), [(1, 1), (160, 1), (161, 2), (8000, 50)])
def test_a_frame_stands_for_each_begun_hop(samples: int, frames: int) -> None:
    assert magnitudes(torch.ones(2, samples), 640, 160).shape == (2, frames, 321)


def test_a_sine_of_amplitude_one_has_magnitude_one_at_its_bin() -> None:
    spectrum = magnitudes(sine(1000.0, 1.0, 8000, amplitude=1.0)[None], 640, 160)[0, 25]
    assert int(spectrum.argmax()) == 80  # 1000 Hz / (8000 Hz / 640)
    assert float(spectrum.max()) == pytest.approx(1.0, abs=1e-3)


def test_a_click_is_loudest_in_the_frame_whose_hop_it_lies_in() -> None:
    samples = torch.zeros(1, 1600)
    samples[0, 7 * 160 + 80] = 1.0
    assert int(magnitudes(samples, 320, 160).sum(-1).argmax()) == 7


def test_silence_is_the_floor_and_its_gradient_is_finite() -> None:
    samples = torch.zeros(1, 800, requires_grad=True)
    bands = log_bands(samples, mel_filters(24, 640, 8000), 640, 160)
    assert torch.allclose(bands, torch.full_like(bands, math.log(LOG_FLOOR)))
    bands.sum().backward()
    assert samples.grad is not None
    assert bool(torch.isfinite(samples.grad).all())


def test_no_mel_or_pitch_filter_is_empty_and_each_peaks_at_its_centre() -> None:
    mel = mel_filters(40, 256, 32000)
    assert bool((mel.sum(0) > 0).all())
    pitch = pitch_filters(144, 65.4, 2, 8192, 32000)
    assert bool((pitch.sum(0) > 0).all())
    centre_hz = 65.4 * 2 ** (100 / 24)
    assert abs(int(pitch[:, 100].argmax()) * 32000 / 8192 - centre_hz) < 32000 / 8192


def test_oscillators_lie_a_fifth_of_a_semitone_apart_up_to_the_limit() -> None:
    hz = tone_steps(32000, 640, 10000.0) * 50.0 / TONE_PERIOD
    assert float((hz - 440.0).abs().min()) < 50.0 / TONE_PERIOD / 2
    high = hz[hz > 1000]
    cents = 1200 * (high[1:] / high[:-1]).log2()
    assert float(cents.min()) > 18.0
    assert float(cents.max()) < 22.0
    assert float(hz.max()) <= 10000.0 + 50.0 / TONE_PERIOD


def test_overlapped_windows_add_to_one_inside_and_fade_at_the_ends() -> None:
    frames = hann(8).expand(1, 5, 8)
    summed = overlap_add_halves(frames[..., :4], frames[..., 4:])
    assert summed.shape == (1, 20)
    assert torch.allclose(summed[0, 2:18], torch.ones(16), atol=1e-6)
    assert float(summed[0, 0]) < 1.0


def test_frames_land_where_their_number_says() -> None:
    frames = torch.zeros(1, 4, 4)
    frames[0, 2] = torch.arange(1.0, 5.0)
    # Hop 2, so the frame is centred on samples 4 and 5 and begins a sample earlier.
    expected = [0, 0, 0, 1, 2, 3, 4, 0]
    assert overlap_add_halves(frames[..., :2], frames[..., 2:])[0].tolist() == expected
    frames[0, 2, 0] = 0.0
    expected[3] = 0
    assert overlap_add_halves(frames[..., 1:2], frames[..., 2:])[0].tolist() == expected


def test_what_overlaps_is_added_and_its_gradient_goes_to_both() -> None:
    halves = [torch.full((1, 3, 4), value, requires_grad=True) for value in (1.0, 10.0)]
    summed = overlap_add_halves(*halves)
    assert summed[0].tolist() == [1.0] * 2 + [11.0] * 8 + [10.0] * 2
    summed.sum().backward()
    assert halves[0].grad is not None
    assert halves[0].grad[0, 0].tolist() == [0, 0, 1, 1]


def test_a_constant_is_copied_to_another_kind_of_tensor_once() -> None:
    window = hann(8)
    assert placed_like(window, torch.zeros(1)) is window
    double = placed_like(window, torch.zeros(1, dtype=torch.float64))
    assert double.dtype == torch.float64
    assert torch.equal(double, window.double())
    assert placed_like(hann(8), torch.zeros(1, dtype=torch.float64)) is double
