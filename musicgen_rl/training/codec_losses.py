"""Spectral distances between two sounds: what the codec learns from and is judged by.

All compare log magnitudes, so they do not ask for the phase of the original, which the codes do
not carry; the short windows still punish frames whose phases do not fit together.
"""

import torch
from torch import Tensor

from musicgen_rl.codec.spectral import SEMITONE, log_bands, mel_filters, pitch_filters

DISTANCE_SCALES = ((512, 40), (1024, 80), (2048, 128), (4096, 160))
"""(window in samples, mel bins) of `log_mel_distance`; hops are a quarter of the window."""
EXTRA_SCALES = ((256, 24),)
"""A shorter window for training only."""
PITCH_WINDOW = 8192
PITCH_LOW_HZ = 440.0 * SEMITONE**-33
PITCH_BANDS = 144


def log_mel_distances(made: Tensor, real: Tensor, sample_rate: int) -> Tensor:
    """Compare two batches at four window lengths.

    Args:
        made: samples [B, M].
        real: samples [B, M].
        sample_rate: Hz.

    Returns:
        Mean absolute difference of natural-log mel magnitudes (floor -100 dB of full scale), one a
        window of `DISTANCE_SCALES`, [4]. Their sum is the "multi-scale log-mel distance": 0 is
        equal, 0.46 a scale is 4 dB.
    """
    return torch.stack([_mel(made, real, n, m, sample_rate) for n, m in DISTANCE_SCALES])


def log_mel_distance(made: Tensor, real: Tensor, sample_rate: int) -> Tensor:
    """Sum `log_mel_distances` of samples [B, M] over the four windows, a scalar."""
    return log_mel_distances(made, real, sample_rate).sum()


def training_distances(made: Tensor, real: Tensor, sample_rate: int) -> dict[str, Tensor]:
    """Compare two batches in every way training uses.

    Args:
        made: samples [B, M].
        real: samples [B, M].
        sample_rate: Hz.

    Returns:
        mel_WINDOW for each mel scale, and pitch: half-semitone bands of a long window, which
        hears mistuned and smeared tones that mel bands are too wide for.
    """
    found = {
        f"mel_{n}": _mel(made, real, n, m, sample_rate) for n, m in EXTRA_SCALES + DISTANCE_SCALES
    }
    filters = pitch_filters(PITCH_BANDS, PITCH_LOW_HZ, 2, PITCH_WINDOW, sample_rate)
    found["pitch"] = _bands(made, real, filters, PITCH_WINDOW)
    return found


def _mel(made: Tensor, real: Tensor, window: int, n_mels: int, sample_rate: int) -> Tensor:
    return _bands(made, real, mel_filters(n_mels, window, sample_rate), window)


def _bands(made: Tensor, real: Tensor, filters: Tensor, window: int) -> Tensor:
    with torch.no_grad():
        target = log_bands(real, filters, window, window // 4)
    return (log_bands(made, filters, window, window // 4) - target).abs().mean()
