"""Level a clip to a loudness (EBU R 128 / ITU-R BS.1770) under a true-peak ceiling.

One gain for the whole clip. Where the ceiling would be passed the gain is lower and the clip
stays quieter than the target: a limiter would pump, and pumping is heard as the model's fault.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from musicgen_rl.config import require, require_number
from musicgen_rl.errors import ConfigError

BLOCK_S = 0.4
"""Length of BS.1770's gating block; nothing shorter has a loudness by the standard."""
_SILENCE = 1e-5  # -100 dB of full scale: under the last bit of 16-bit audio
_OVERSAMPLING = 4  # BS.1770-4, Annex 2
_PEAK_BLOCK = 1 << 16
_PEAK_CONTEXT = 32  # samples on each side: the interpolation filter reaches 10


@dataclass(frozen=True, kw_only=True)
class LoudnessConfig:
    """How loud a clip comes out."""

    enabled: bool = True
    """Level to target_lufs; off leaves the loudness as generated, but still never clips."""
    target_lufs: float = -16.0
    """Integrated loudness. Streaming services play at -14 to -16, broadcast at -23; at -16 most
    music still fits under the ceiling as it is, so clips come out equally loud, which a fair
    comparison by ear needs."""
    true_peak_db: float = -1.0
    """Ceiling of the waveform between its samples too, dB of full scale; -1 leaves the room that
    mp3 and ogg need (EBU R 128)."""
    max_gain_db: float = 24.0
    """Most gain given to a quiet clip, so that near silence does not become loud noise."""

    def __post_init__(self) -> None:
        """Check every field."""
        require(isinstance(self.enabled, bool), f"enabled must be a bool, got {self.enabled!r}")
        require_number("target_lufs", self.target_lufs, -70.0, 0.0, unit="LUFS")
        require_number("true_peak_db", self.true_peak_db, -60.0, 0.0, unit="dB")
        require_number("max_gain_db", self.max_gain_db, 0.0, 60.0, unit="dB")

    @property
    def ceiling(self) -> float:
        """The true-peak ceiling as a factor of full scale."""
        return float(10.0 ** (self.true_peak_db / 20.0))


def integrated_loudness(samples: NDArray[np.float32], sample_rate: int) -> float:
    """Measure gated loudness.

    A clip shorter than one gating block (0.4 s) is repeated until it fills one: its mean power is
    what the measure is made of, and repeating keeps it.

    Args:
        samples: [C, M], full scale [-1, 1].
        sample_rate: Hz.

    Returns:
        LUFS; -inf for silence.

    Source: ITU-R BS.1770-4, by pyloudnorm.
    """
    import pyloudnorm  # with scipy it takes a second to import, the settings above do not need it

    if samples.size == 0 or float(np.abs(samples).max()) < _SILENCE:
        return -math.inf
    block = math.ceil(BLOCK_S * sample_rate)
    if samples.shape[1] < block:
        samples = np.tile(samples, (1, math.ceil(block / samples.shape[1])))  # [C, >= block]
    meter = pyloudnorm.Meter(sample_rate)
    # A clip below the gate has no block left, which numpy reports as the mean of nothing.
    with np.errstate(divide="ignore", invalid="ignore"):
        loudness = float(meter.integrated_loudness(samples.T.astype(np.float64)))
    return loudness if math.isfinite(loudness) else -math.inf


def true_peak(samples: NDArray[np.float32]) -> float:
    """Measure the highest point of the waveform, between samples too.

    Args:
        samples: [C, M].

    Returns:
        Factor of full scale, at least the largest sample's magnitude; 0 for no samples.

    Source: ITU-R BS.1770-4, Annex 2 (4 times oversampled), with scipy's polyphase filter.
    """
    return float(true_peak_envelope(samples).max(initial=0.0))


def true_peak_envelope(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """Bound the waveform's magnitude around every sample.

    Args:
        samples: [C, M].

    Returns:
        [M]: over all channels, the largest magnitude of the sample itself and of the oversampled
        points between it and its neighbours.
    """
    from scipy import signal

    M = samples.shape[1]
    envelope = np.zeros(M, dtype=np.float32)
    for start in range(0, M, _PEAK_BLOCK):  # in blocks: ten minutes oversampled would be 600 MB
        left = max(0, start - _PEAK_CONTEXT)
        right = min(M, start + _PEAK_BLOCK + _PEAK_CONTEXT)
        fine = signal.resample_poly(samples[:, left:right], _OVERSAMPLING, 1, axis=1)
        between = np.abs(fine).max(axis=0).reshape(-1, _OVERSAMPLING)  # [m, 4]: sample, +1/4 ...
        ahead = between.max(axis=1)
        behind = np.concatenate([ahead[:1] * 0, between[:-1, 1:].max(axis=1)])
        stop = min(M, start + _PEAK_BLOCK)
        envelope[start:stop] = np.maximum(ahead, behind)[start - left : stop - left]
    loudest: NDArray[np.float32] = np.maximum(envelope, np.abs(samples).max(axis=0))
    return loudest


def loudness_gain(samples: NDArray[np.float32], sample_rate: int, config: LoudnessConfig) -> float:
    """Choose the one gain for a clip.

    Args:
        samples: [C, M].
        sample_rate: Hz.
        config: target, ceiling and switch.

    Returns:
        Factor above 0: to the target, at most max_gain_db, at most what the ceiling allows.
        Silence gets 1. With levelling off, 1 or what the ceiling allows if that is less.

    Raises:
        ConfigError: the samples are not finite or the rate is not positive.
    """
    if sample_rate < 1:
        raise ConfigError(f"sample_rate must be above 0 Hz, got {sample_rate!r}")
    if not np.isfinite(samples).all():
        raise ConfigError("cannot level samples that are nan or infinite")
    peak = true_peak(samples)
    gain = 1.0
    if config.enabled:
        loudness = integrated_loudness(samples, sample_rate)
        gain = gain_to_target(loudness, config)
    return min(gain, config.ceiling / peak) if peak > 0 else gain


def gain_to_target(loudness: float, config: LoudnessConfig) -> float:
    """Turn a measured loudness into a gain, ceiling aside.

    Args:
        loudness: LUFS, -inf for silence.
        config: target and largest gain.

    Returns:
        Factor above 0; 1 for silence.
    """
    if loudness == -math.inf:
        return 1.0
    return float(10.0 ** (min(config.target_lufs - loudness, config.max_gain_db) / 20.0))


def level(
    samples: NDArray[np.float32], sample_rate: int, config: LoudnessConfig
) -> NDArray[np.float32]:
    """Level a clip; see `loudness_gain`.

    Args:
        samples: [C, M].
        sample_rate: Hz.
        config: target, ceiling and switch.

    Returns:
        [C, M] float32, times one gain.
    """
    return (samples * np.float32(loudness_gain(samples, sample_rate, config))).astype(np.float32)
