"""Level a clip to a loudness (EBU R 128 / ITU-R BS.1770) under a true-peak ceiling.

One gain for the whole clip. Where the ceiling would be passed the gain is lower and the clip
stays quieter than the target: a limiter would pump, and pumping is heard as the model's fault.
"""

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from musicgen_rl.config import require, require_number
from musicgen_rl.errors import ConfigError

BLOCK_S = 0.4
"""Length of BS.1770's gating block; nothing shorter has a loudness by the standard."""
STEPS_PER_BLOCK = 4
"""Gating blocks overlap by 75 %."""
_ABSOLUTE_GATE, _RELATIVE_GATE = -70.0, -10.0  # LUFS, and LU from the mean of what passes the first
_SILENCE = 1e-5  # -100 dB of full scale: under the last bit of 16-bit audio
_OVERSAMPLING = 4  # BS.1770-4, Annex 2
_REACH = 10  # samples on each side that the interpolation filter hears
_PEAK_STEP = 16  # samples that one row of a product interpolates
_PEAK_ROWS = 64  # of one product: larger ones numpy hands to threads that wait for each other
_PEAK_BLOCK = 1 << 16  # samples at once: ten minutes oversampled would be 600 MB


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

    Source: ITU-R BS.1770-4, blocks as in pyloudnorm: the last may be a little short.
    """
    from scipy import signal  # takes a second to import, the settings above do not need it

    if samples.size == 0 or float(np.abs(samples).max()) < _SILENCE:
        return -math.inf
    block = math.ceil(BLOCK_S * sample_rate)
    if samples.shape[1] < block:
        samples = np.tile(samples, (1, math.ceil(block / samples.shape[1])))  # [C, >= block]
    weighted = signal.sosfilt(k_weighting(sample_rate), samples.astype(np.float64), axis=1)
    power = np.append(np.square(weighted).sum(axis=0), 0.0)  # [M + 1]: the last is where sums end
    length, step = BLOCK_S * sample_rate, BLOCK_S * sample_rate / STEPS_PER_BLOCK
    count = round((samples.shape[1] - length) / step) + 1
    starts = (np.arange(count) * step).astype(np.int64)
    stops = np.minimum((np.arange(count) * step + length).astype(np.int64), samples.shape[1])
    sums = np.add.reduceat(power, np.stack([starts, stops], axis=1).ravel())[::2]
    return gated_loudness(sums / length)


def gated_loudness(powers: NDArray[np.float64]) -> float:
    """Average what is loud enough to count.

    Args:
        powers: mean K-weighted power of each gating block, summed over channels, [N].

    Returns:
        LUFS; -inf where no block counts.

    Source: ITU-R BS.1770-4, both gates.
    """
    powers = powers[powers > 0]
    powers = powers[_lufs(powers) >= _ABSOLUTE_GATE]
    if powers.size == 0:
        return -math.inf
    relative = float(_lufs(powers.mean())) + _RELATIVE_GATE
    return float(_lufs(powers[_lufs(powers) > relative].mean()))


@cache
def k_weighting(sample_rate: int) -> NDArray[np.float64]:
    """Make the two stages of K-weighting as second-order sections, [2, 6], by pyloudnorm."""
    from pyloudnorm import IIRfilter

    stages = (
        IIRfilter(4.0, 1 / math.sqrt(2), 1500.0, sample_rate, "high_shelf"),
        IIRfilter(0.0, 0.5, 38.0, sample_rate, "high_pass"),
    )
    return np.array([[*stage.b, *stage.a] for stage in stages])


def _lufs(power: NDArray[np.float64] | np.float64) -> NDArray[np.float64]:
    return np.asarray(-0.691 + 10.0 * np.log10(power))


def true_peak(samples: NDArray[np.float32]) -> float:
    """Measure the highest point of the waveform, between samples too.

    Args:
        samples: [C, M].

    Returns:
        Factor of full scale, at least the largest sample's magnitude; 0 for no samples.

    Source: ITU-R BS.1770-4, Annex 2 (4 times oversampled).
    """
    peak = float(np.abs(samples).max(initial=0.0))
    for start in range(0, samples.shape[1], _PEAK_BLOCK):
        fine = _oversampled(samples, start)
        peak = max(peak, float(fine.max()), -float(fine.min()))
    return peak


def true_peak_envelope(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """Bound the waveform's magnitude around every sample.

    Args:
        samples: [C, M].

    Returns:
        [M]: over all channels, the largest magnitude of the sample itself and of the oversampled
        points between it and its neighbours.
    """
    M = samples.shape[1]
    envelope = np.zeros(M + 1, dtype=np.float32)
    for start in range(0, M, _PEAK_BLOCK):
        fine = np.abs(_oversampled(samples, start)).max(axis=0)  # [m, 4]: sample, +1/4, ...
        # Point by point: numpy takes five times as long for the largest of a short last axis.
        between = np.maximum(np.maximum(fine[:, 1], fine[:, 2]), fine[:, 3])
        around = envelope[start : start + len(fine) + 1]
        around[:-1] = np.maximum(around[:-1], np.maximum(fine[:, 0], between))
        around[1:] = np.maximum(around[1:], between)
    loudest: NDArray[np.float32] = np.maximum(envelope[:M], np.abs(samples).max(axis=0))
    return loudest


def _oversampled(samples: NDArray[np.float32], start: int) -> NDArray[np.float32]:
    """Interpolate up to _PEAK_BLOCK samples from `start` on, [C, m, 4]; zeros surround [C, M]."""
    C, M = samples.shape
    m = min(_PEAK_BLOCK, M - start)
    rows = -(-m // _PEAK_STEP)
    row_count = min(_PEAK_ROWS, rows)
    products = -(-rows // row_count)
    padded = np.zeros((C, products * row_count * _PEAK_STEP + 2 * _REACH), dtype=np.float32)
    left, right = max(0, start - _REACH), min(M, start + m + _REACH)
    padded[:, left - start + _REACH : right - start + _REACH] = samples[:, left:right]
    matrix = _interpolation()
    heard = sliding_window_view(padded, len(matrix), axis=1)[:, ::_PEAK_STEP]
    fine = heard.reshape(C * products, row_count, -1) @ matrix  # [C * products, rows, 16 * 4]
    return fine.reshape(C, -1, _OVERSAMPLING)[:, :m]


@cache
def _interpolation() -> NDArray[np.float32]:
    """The filter as a matrix: _PEAK_STEP samples and their surroundings to 4 points a sample.

    A windowed sinc with a Kaiser window of 5, 20 samples long: what scipy's resample_poly takes.
    """
    taps = np.arange(-_REACH * _OVERSAMPLING, _REACH * _OVERSAMPLING + 1)
    filter = np.kaiser(len(taps), 5.0) * np.sinc(taps / _OVERSAMPLING)
    filter *= _OVERSAMPLING / filter.sum()
    matrix = np.zeros((_PEAK_STEP + 2 * _REACH, _PEAK_STEP * _OVERSAMPLING), dtype=np.float32)
    for point in range(matrix.shape[1]):
        first = -(-point // _OVERSAMPLING)  # the earliest sample that reaches this point
        heard = np.arange(first, (point // _OVERSAMPLING) + 2 * _REACH + 1)
        matrix[heard, point] = filter[point + (2 * _REACH - heard) * _OVERSAMPLING]
    return matrix


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
