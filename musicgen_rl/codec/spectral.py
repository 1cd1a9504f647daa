"""Fixed transforms of the frame codec: what it hears with, and what it sounds with.

Frame t stands for samples [t * hop, (t + 1) * hop) and is analysed around their middle, so M
samples make ceil(M / hop) frames. Nothing here is learnt.
"""

import math
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

LOG_FLOOR = 1e-5
"""Magnitudes below this (-100 dB of full scale) count as silence."""
SEMITONE = 2.0 ** (1.0 / 12.0)
TONE_PERIOD = 64
"""Parts of 20 ms after which every oscillator is back at its phase: a pitch grid of 0.8 Hz."""
PERIOD = 512
"""Parts of 20 ms after which the noise repeats."""
TONE_LOW_HZ = 32.0
TONES_PER_SEMITONE = 5


@lru_cache(maxsize=32)
def mel_filters(n_mels: int, n_fft: int, sample_rate: int) -> Tensor:
    """Build triangular mel filters, HTK's scale, each of peak 1.

    Args:
        n_mels: filters, from 0 Hz to half the sample rate.
        n_fft: length of the STFT they apply to.
        sample_rate: Hz.

    Returns:
        [n_fft // 2 + 1, n_mels], float32. A filter narrower than a bin takes its nearest bin.
    """
    # A tensor made in inference mode could not be kept for training, so that mode is left.
    with torch.inference_mode(False):
        return _mel_filters(n_mels, n_fft, sample_rate)


def _mel_filters(n_mels: int, n_fft: int, sample_rate: int) -> Tensor:
    mel_top = 2595.0 * math.log10(1.0 + sample_rate / 2 / 700.0)
    mels = torch.linspace(0.0, mel_top, n_mels + 2, dtype=torch.float64)
    return _triangles(700.0 * (10.0 ** (mels / 2595.0) - 1.0), n_fft, sample_rate)


@lru_cache(maxsize=32)
def pitch_filters(n_pitches: int, low_hz: float, steps: int, n_fft: int, rate: int) -> Tensor:
    """Build triangular filters on a ladder of pitches.

    Args:
        n_pitches: filters.
        low_hz: centre of the first.
        steps: filters a semitone.
        n_fft: length of the STFT they apply to.
        rate: sample rate, Hz.

    Returns:
        [n_fft // 2 + 1, n_pitches], float32.
    """
    with torch.inference_mode(False):
        ladder = torch.arange(-1, n_pitches + 1, dtype=torch.float64) / steps
        return _triangles(low_hz * SEMITONE**ladder, n_fft, rate)


def _triangles(edges: Tensor, n_fft: int, sample_rate: int) -> Tensor:
    bins = torch.arange(n_fft // 2 + 1, dtype=torch.float64) * sample_rate / n_fft
    width = sample_rate / n_fft
    low, centre, high = edges[:-2], edges[1:-1], edges[2:]
    rising = (bins[:, None] - low) / (centre - low).clamp(min=width)
    falling = (high - bins[:, None]) / (high - centre).clamp(min=width)
    # Where filters are narrower than a bin, the clamp makes them one bin wide instead of empty.
    rising = torch.where(centre - low < width, 1 - (centre - bins[:, None]) / width, rising)
    falling = torch.where(high - centre < width, 1 - (bins[:, None] - centre) / width, falling)
    return torch.minimum(rising, falling).clamp(min=0.0).float()


@lru_cache(maxsize=16)
def hann(length: int) -> Tensor:
    """The periodic Hann window, [length]."""
    with torch.inference_mode(False):
        return torch.hann_window(length)


_PLACED: dict[tuple[int, torch.device, torch.dtype], tuple[Tensor, Tensor]] = {}


def placed_like(constant: Tensor, example: Tensor) -> Tensor:
    """Return a constant of this module where `example` lives, copied there once and kept.

    Args:
        constant: what `mel_filters`, `pitch_filters` or `hann` returned.
        example: of the device and the dtype asked for.
    """
    if constant.device == example.device and constant.dtype == example.dtype:
        return constant
    key = (id(constant), example.device, example.dtype)
    if key not in _PLACED:  # the constant is kept beside its copy, so that its id stays its own
        with torch.inference_mode(False):
            _PLACED[key] = constant, constant.to(example.device, example.dtype)
    return _PLACED[key][1]


def magnitudes(samples: Tensor, n_fft: int, hop_length: int) -> Tensor:
    """Take STFT magnitudes of frames centred on the middle of each hop.

    Args:
        samples: [B, M]; zeros are taken to surround it.
        n_fft: window length, Hann; a sine of amplitude 1 has magnitude about 1.
        hop_length: samples between frames.

    Returns:
        [B, T, n_fft // 2 + 1], T = ceil(M / hop_length).
    """
    M = samples.shape[-1]
    T = -(-M // hop_length)
    before = (n_fft - hop_length) // 2
    after = (T - 1) * hop_length + n_fft - before - M
    padded = F.pad(samples, (before, after))
    window = placed_like(hann(n_fft), samples)
    spectrum = torch.stft(
        padded, n_fft, hop_length, window=window * (4.0 / n_fft), center=False, return_complex=True
    )
    # The offset keeps the gradient of the square root finite at silence.
    power = spectrum.real.square() + spectrum.imag.square()
    return (power + LOG_FLOOR**2 * 1e-6).sqrt().mT


def log_bands(samples: Tensor, filters: Tensor, n_fft: int, hop_length: int) -> Tensor:
    """Take natural-log band magnitudes.

    Args:
        samples: [B, M].
        filters: [n_fft // 2 + 1, bands].
        n_fft: window length.
        hop_length: samples between frames.

    Returns:
        [B, T, bands], at least log(1e-5).
    """
    bands = magnitudes(samples, n_fft, hop_length) @ placed_like(filters, samples)
    return bands.clamp(min=LOG_FLOOR).log()


def tone_steps(sample_rate: int, hop_length: int, high_hz: float) -> Tensor:
    """Choose the oscillators' pitches: a fifth of a semitone apart, on the grid that repeats.

    Args:
        sample_rate: Hz.
        hop_length: samples a part.
        high_hz: no oscillator above this.

    Returns:
        Frequencies in units of sample_rate / (hop_length * TONE_PERIOD), [N], whole and rising.
    """
    unit = sample_rate / hop_length / TONE_PERIOD
    first = math.ceil(12 * TONES_PER_SEMITONE * math.log2(TONE_LOW_HZ / 440.0))
    last = math.floor(12 * TONES_PER_SEMITONE * math.log2(high_hz / 440.0))
    ladder = torch.arange(first, last + 1, dtype=torch.float64) / TONES_PER_SEMITONE
    steps = (440.0 * SEMITONE**ladder / unit).round().long().tolist()
    return torch.tensor(sorted(set(steps)))


def overlap_add_halves(rising: Tensor, falling: Tensor) -> Tensor:
    """Add windowed frames of two hops, each centred on its hop.

    Args:
        rising: first half of each frame, up to its middle, [B, T, hop]; or [B, T, hop - 1] where
            the first sample is 0.
        falling: second half, [B, T, hop].

    Returns:
        [B, T * hop]: the overlap before the first and after the last frame is dropped.
    """
    T, hop = falling.shape[-2:]
    # Row h holds the second half of frame h - 1 and the first of frame h.
    halves = F.pad(falling, (0, 0, 1, 0))  # [B, T + 1, hop]
    halves[:, :-1, hop - rising.shape[-1] :] += rising
    return halves.flatten(1)[:, hop // 2 : hop // 2 + T * hop]
