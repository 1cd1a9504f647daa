"""Faults that can be told from the samples alone: silence, clipping, loops, tempo that drifts.

Each is a yes or no for a clip, so that an arm has a rate. None of them is a fault in itself: real
techno loops and real endings are silent. Read the rates beside those of real clips.
"""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

_RATE = 8000  # Hz of the spectra: enough for onsets and repetition
_HOP, _WINDOW = 200, 512  # 25 ms and 64 ms at _RATE
_FRAMES_PER_S = _RATE / _HOP
_SILENT_DB = -50.0
_SILENT_SHARE = 0.3
_FULL_SCALE, _RUN = 0.999, 4
_LOOP_LIKENESS = 0.995
_SLOWEST, _FASTEST = 40.0, 240.0  # beats a minute
_PULSE = 0.25  # height of the autocorrelation that counts as a pulse
_DRIFT = 0.08

NAMES = ("silent", "clipped", "looped", "drifting")
"""What `find_artefacts` tells, in order."""


def find_artefacts(samples: Array, sample_rate: int) -> dict[str, float]:
    """Tell which faults a clip has.

    Args:
        samples: [M], mono, full scale 1.
        sample_rate: Hz.

    Returns:
        Name -> 1 yes, 0 no, nan where it cannot be told (no pulse, too short).
    """
    silence = silent_share(samples, sample_rate)
    spectra = log_spectra(samples, sample_rate)
    likeness = loop_likeness(spectra)
    drift = tempo_drift(spectra)
    return {
        "silent": float(silence > _SILENT_SHARE),
        "clipped": float(clipped_runs(samples) > 0),
        "looped": likeness if np.isnan(likeness) else float(likeness > _LOOP_LIKENESS),
        "drifting": drift if np.isnan(drift) else float(drift > _DRIFT),
    }


def silent_share(samples: Array, sample_rate: int) -> float:
    """Return the share of 50 ms stretches below -50 dB of full scale."""
    size = max(1, sample_rate // 20)
    whole = samples[: len(samples) // size * size].astype(np.float64)
    if not len(whole):
        whole, size = samples.astype(np.float64), len(samples)
    power = np.mean(whole.reshape(-1, size) ** 2, axis=1)
    return float(np.mean(10.0 * np.log10(power + 1e-12) < _SILENT_DB))


def clipped_runs(samples: Array) -> int:
    """Count places where at least four samples in a row stand at full scale."""
    full = np.concatenate([[False], np.abs(samples) >= _FULL_SCALE, [False]])
    edges = np.flatnonzero(full[1:] != full[:-1])
    return int(np.sum(edges[1::2] - edges[::2] >= _RUN))


def log_spectra(samples: Array, sample_rate: int) -> NDArray[np.float64]:
    """Return log magnitudes of the band below 4 kHz, 40 frames a second, [T, F]."""
    low = _resampled(samples, sample_rate)
    if len(low) < _WINDOW:
        low = np.pad(low, (0, _WINDOW - len(low)))
    frames = np.lib.stride_tricks.sliding_window_view(low, _WINDOW)[::_HOP]
    spectra = np.abs(np.fft.rfft(frames * np.hanning(_WINDOW), axis=1))
    bands = spectra[:, 1:].reshape(len(spectra), -1, 4).mean(axis=2)  # [T, 64]
    return np.asarray(np.log(bands + 1e-3), dtype=np.float64)


def loop_likeness(spectra: NDArray[np.float64]) -> float:
    """Return how exactly the clip repeats itself at its best period.

    Every stretch is compared with the one a period before; a person playing a riff again comes to
    about 0.9, a model stuck in its own output to nearly 1.

    Args:
        spectra: [T, F] of `log_spectra`.

    Returns:
        Correlation in [-1, 1] at the best of periods from 0.25 s to a third of the clip; nan for
        clips under 2 s or without any sound.
    """
    T = len(spectra)
    if T < 2 * _FRAMES_PER_S or spectra.std() < 1e-6:
        return float("nan")
    moved = spectra - spectra.mean(axis=0)
    best = -1.0
    for lag in range(int(0.25 * _FRAMES_PER_S), T // 3):
        a, b = moved[lag:], moved[:-lag]
        size = np.sqrt(float(np.sum(a * a)) * float(np.sum(b * b)))
        if size > 1e-9:
            best = max(best, float(np.sum(a * b)) / size)
    return best


def tempo_drift(spectra: NDArray[np.float64]) -> float:
    """Return by how much the tempo of the second half differs from that of the first.

    Args:
        spectra: [T, F] of `log_spectra`.

    Returns:
        Share of the tempo, double and half counted as the same; nan where a half has no pulse.
    """
    half = len(spectra) // 2
    first, second = (_beat_period(s) for s in (spectra[:half], spectra[half:]))
    if np.isnan(first) or np.isnan(second):
        return float("nan")
    octaves = abs(np.log2(second / first))
    return float(2.0 ** min(octaves, abs(octaves - 1.0), abs(octaves - 2.0)) - 1.0)


def _beat_period(spectra: NDArray[np.float64]) -> float:
    """Return the strongest period of the onsets in frames, nan where there is none."""
    onsets = np.maximum(np.diff(spectra, axis=0), 0.0).mean(axis=1)
    onsets = onsets - onsets.mean()
    longest = int(60.0 / _SLOWEST * _FRAMES_PER_S)
    shortest = int(60.0 / _FASTEST * _FRAMES_PER_S)
    if len(onsets) < 1.5 * longest or onsets.std() < 1e-6:
        return float("nan")
    n = len(onsets)
    full = np.correlate(onsets, onsets, mode="full")[n - 1 :]
    curve = full / full[0] * n / np.maximum(n - np.arange(n), 1)
    peak = shortest + int(np.argmax(curve[shortest : longest + 1]))
    left, middle, right = curve[peak - 1], curve[peak], curve[peak + 1]
    if middle < _PULSE or middle < max(left, right):  # at the edge: a slope is no peak
        return float("nan")
    bend = left - 2.0 * middle + right
    return float(peak + (0.0 if abs(bend) < 1e-9 else 0.5 * (left - right) / bend))


def _resampled(samples: Array, sample_rate: int) -> NDArray[np.float64]:
    if sample_rate == _RATE:
        return samples.astype(np.float64)
    import soxr

    return np.asarray(soxr.resample(samples, sample_rate, _RATE, quality="QQ"), dtype=np.float64)
