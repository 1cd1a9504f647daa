"""Planted faults are found, sound ones are not blamed."""

import numpy as np
import pytest

from musicgen_rl.evaluation.artefacts import (
    NAMES,
    clipped_runs,
    find_artefacts,
    log_spectra,
    loop_likeness,
    silent_share,
    tempo_drift,
)

RATE = 16_000


def noise(seconds: float, seed: int = 0) -> np.ndarray:
    size = round(seconds * RATE)
    return (0.1 * np.random.default_rng(seed).normal(size=size)).astype(np.float32)


def clicks(periods: list[float], seed: int = 0) -> np.ndarray:
    """Short bursts of noise, each `period` seconds after the one before."""
    out = 1e-4 * noise(sum(periods) + 0.2, seed)
    at = 0.0
    for number, period in enumerate(periods):
        start = round(at * RATE)
        out[start : start + 400] += noise(0.025, seed + number)
        at += period
    return out


def test_silence_is_a_share_of_the_clip() -> None:
    half = np.concatenate([noise(1), np.zeros(RATE, dtype=np.float32)])
    assert silent_share(half, RATE) == pytest.approx(0.5)
    assert silent_share(noise(1), RATE) == 0.0
    assert find_artefacts(half, RATE)["silent"] == 1.0
    assert silent_share(np.zeros(10, dtype=np.float32), RATE) == 1.0


def test_only_runs_at_full_scale_are_clipping() -> None:
    clip = np.zeros(100, dtype=np.float32)
    clip[10] = clip[20:23] = 1.0
    assert clipped_runs(clip) == 0
    clip[30:34], clip[96:100] = -1.0, 1.0
    assert clipped_runs(clip) == 2


def test_an_exact_loop_is_found_and_noise_is_not() -> None:
    loop = np.tile(noise(0.8), 6)
    assert loop_likeness(log_spectra(loop, RATE)) > 0.999
    assert find_artefacts(loop, RATE)["looped"] == 1.0
    assert loop_likeness(log_spectra(noise(4.8), RATE)) < 0.5
    varied = loop + 0.5 * noise(4.8, seed=9)
    assert loop_likeness(log_spectra(varied, RATE)) < 0.99
    assert np.isnan(loop_likeness(log_spectra(noise(1), RATE)))
    assert np.isnan(loop_likeness(log_spectra(np.zeros(5 * RATE, dtype=np.float32), RATE)))


def test_tempo_that_changes_halfway_is_told_from_one_that_stays() -> None:
    steady, faster = clicks([0.5] * 20), clicks([0.5] * 10 + [0.4] * 13)
    assert tempo_drift(log_spectra(steady, RATE)) < 0.02
    assert tempo_drift(log_spectra(faster, RATE)) == pytest.approx(0.25, abs=0.04)
    assert find_artefacts(faster, RATE)["drifting"] == 1.0
    assert find_artefacts(steady, RATE)["drifting"] == 0.0


def test_double_time_is_no_drift_and_no_pulse_is_no_answer() -> None:
    double = clicks([0.5] * 10 + [0.25] * 20)
    assert tempo_drift(log_spectra(double, RATE)) < 0.03
    assert np.isnan(tempo_drift(log_spectra(noise(8), RATE)))
    assert np.isnan(tempo_drift(log_spectra(noise(1), RATE)))


@pytest.mark.parametrize("seed", range(8))
def test_what_only_swells_has_no_pulse(seed: int) -> None:
    """The likeness of its onsets falls all the way, so the shortest beat looks likeliest."""
    walk = np.cumsum(np.random.default_rng(seed).normal(size=400))
    slow = np.convolve(walk, np.ones(9) / 9, "same")
    spectra = np.cumsum(slow - slow.min())[:, None] * np.ones((1, 3))
    with np.errstate(all="raise"):
        drift = tempo_drift(spectra)
    assert np.isnan(drift) or 0.0 <= drift < 0.5


def test_the_sample_rate_does_not_change_the_answer() -> None:
    import soxr

    clip = clicks([0.5] * 10 + [0.4] * 13)
    higher = soxr.resample(clip, RATE, 32_000)
    assert find_artefacts(higher, 32_000) == find_artefacts(clip, RATE)
    assert tuple(find_artefacts(clip, RATE)) == NAMES
