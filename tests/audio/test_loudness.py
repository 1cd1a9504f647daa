import math

import numpy as np
import pytest

from musicgen_rl.audio.loudness import (
    LoudnessConfig,
    gain_to_target,
    integrated_loudness,
    level,
    loudness_gain,
    true_peak,
    true_peak_envelope,
)
from musicgen_rl.config import field_help
from musicgen_rl.errors import ConfigError

RATE = 48000


def tone(
    frequency: float = 997.0, duration_s: float = 2.0, peak: float = 0.1, phase: float = 0.0
) -> np.ndarray:
    """[1, M] of a sine."""
    t = np.arange(round(duration_s * RATE)) / RATE
    return (peak * np.sin(2 * np.pi * frequency * t + phase)).astype(np.float32)[None]


def decibels(factor: float) -> float:
    return 20 * math.log10(factor)


def test_the_standards_tone_has_the_standards_loudness():
    # BS.1770: a 997 Hz sine at full scale in one channel reads -3.01 LKFS, in two 0.0.
    assert integrated_loudness(tone(peak=1.0), RATE) == pytest.approx(-3.01, abs=0.05)
    both = np.repeat(tone(peak=1.0), 2, axis=0)
    assert integrated_loudness(both, RATE) == pytest.approx(0.0, abs=0.05)


def test_a_clip_shorter_than_a_block_reads_as_loud_as_a_long_one():
    for duration_s in (0.05, 0.2, 0.399):
        short = integrated_loudness(tone(duration_s=duration_s), RATE)
        assert short == pytest.approx(integrated_loudness(tone(), RATE), abs=0.5)


@pytest.mark.parametrize("samples", [np.zeros((1, RATE)), np.zeros((2, 10)), np.zeros((1, 0))])
def test_silence_has_no_loudness_and_stays_as_it_is(samples):
    samples = samples.astype(np.float32)
    assert integrated_loudness(samples, RATE) == -math.inf
    np.testing.assert_array_equal(level(samples, RATE, LoudnessConfig()), samples)


@pytest.mark.parametrize("rate", [8000, 32000, 44100])
@pytest.mark.parametrize("duration_s", [0.4, 0.44, 0.47, 1.0, 3.33])
def test_the_loudness_is_pyloudnorms_at_any_length(rate, duration_s):
    import pyloudnorm

    random = np.random.default_rng(rate)
    count = round(duration_s * rate)
    swell = np.geomspace(1e-4, 0.3, count)  # some blocks under either gate
    wave = (random.standard_normal((2, count)) * swell).astype(np.float32)
    wanted = pyloudnorm.Meter(rate).integrated_loudness(wave.T.astype(np.float64))
    assert integrated_loudness(wave, rate) == pytest.approx(wanted, abs=1e-6)


def test_sound_below_the_gate_counts_as_silence():
    assert integrated_loudness(tone(peak=1e-4), RATE) == -math.inf  # about -83 LUFS


def test_the_true_peak_is_seen_between_samples():
    # A quarter of the sample rate, sampled 45 degrees off its crests: samples reach 0.7071 only.
    wave = tone(RATE / 4, 0.1, peak=1.0, phase=math.pi / 4)
    assert np.abs(wave).max() == pytest.approx(math.sqrt(0.5), abs=1e-4)
    assert true_peak(wave[:, 100:-100]) == pytest.approx(1.0, abs=0.03)


def test_the_true_peak_is_the_loudest_channels():
    wave = np.concatenate([tone(peak=0.1), tone(peak=0.3)])
    assert true_peak(wave) == pytest.approx(0.3, abs=1e-3)


def test_true_peaks_are_the_same_in_blocks_as_at_once(monkeypatch):
    from musicgen_rl.audio import loudness

    wave = np.random.default_rng(0).standard_normal((2, 5000)).astype(np.float32)
    whole = true_peak_envelope(wave)
    monkeypatch.setattr(loudness, "_PEAK_BLOCK", 700)
    np.testing.assert_allclose(true_peak_envelope(wave), whole, atol=1e-5)
    assert np.all(whole >= np.abs(wave).max(axis=0))


@pytest.mark.parametrize("count", [1, 15, 17, 1000, 70_000])
def test_the_waveform_between_samples_is_scipys(count):
    from scipy import signal

    wave = np.random.default_rng(count).standard_normal((2, count)).astype(np.float32)
    fine = np.abs(signal.resample_poly(wave, 4, 1, axis=1)).max(axis=0)  # [4 M]
    assert true_peak(wave) == pytest.approx(max(fine.max(), np.abs(wave).max()), rel=1e-6)
    around = np.concatenate([np.zeros(3), fine, np.zeros(1)]).astype(np.float32)
    wanted = np.max([around[i : i + 4 * count : 4] for i in range(7)], axis=0)
    envelope = np.maximum(wanted, np.abs(wave).max(axis=0))
    np.testing.assert_allclose(true_peak_envelope(wave), envelope, rtol=1e-5)


def test_one_peak_shows_at_its_place_and_beside_it():
    wave = np.zeros((1, 200), dtype=np.float32)
    wave[0, 100] = 0.5
    envelope = true_peak_envelope(wave)
    assert envelope[100] == pytest.approx(0.5, abs=1e-3)
    assert envelope[99] > 0.4  # the crest's flank reaches halfway to its neighbours
    assert envelope[101] > 0.4
    assert envelope[:80].max() < 1e-6


@pytest.mark.parametrize("target", [-14.0, -16.0, -23.0])
def test_a_clip_comes_out_at_the_target(target):
    levelled = level(tone(peak=0.02), RATE, LoudnessConfig(target_lufs=target))
    assert integrated_loudness(levelled, RATE) == pytest.approx(target, abs=0.01)
    assert levelled.dtype == np.float32


@pytest.mark.parametrize("ceiling_db", [-1.0, -6.0])
def test_the_ceiling_wins_over_the_target_and_nothing_is_squeezed(ceiling_db):
    sparse = tone(duration_s=4.0, peak=0.001)
    sparse[0, 1000:1100] = tone(peak=0.9)[0, :100]  # a click far above the rest
    levelled = level(sparse, RATE, LoudnessConfig(true_peak_db=ceiling_db))
    assert decibels(true_peak(levelled)) == pytest.approx(ceiling_db, abs=1e-3)
    np.testing.assert_allclose(levelled / levelled.max(), sparse / sparse.max(), atol=1e-6)


def test_a_quiet_clip_gets_no_more_than_the_largest_gain():
    quiet = tone(peak=0.001)  # about -63 LUFS
    assert decibels(loudness_gain(quiet, RATE, LoudnessConfig())) == pytest.approx(24.0)
    config = LoudnessConfig(max_gain_db=10.0)
    assert decibels(loudness_gain(quiet, RATE, config)) == pytest.approx(10.0)


def test_off_leaves_the_loudness_but_never_clips():
    off = LoudnessConfig(enabled=False)
    wave = tone(peak=0.1)
    np.testing.assert_array_equal(level(wave, RATE, off), wave)
    assert decibels(true_peak(level(tone(peak=3.0), RATE, off))) == pytest.approx(-1.0, abs=1e-3)


def test_gain_to_target_by_hand():
    assert gain_to_target(-36.0, LoudnessConfig()) == pytest.approx(10.0)  # 20 dB
    assert gain_to_target(4.0, LoudnessConfig()) == pytest.approx(0.1)
    assert gain_to_target(-math.inf, LoudnessConfig()) == 1.0


@pytest.mark.parametrize(
    "wrong",
    [
        {"target_lufs": 1.0},
        {"target_lufs": math.nan},
        {"true_peak_db": 0.5},
        {"max_gain_db": -1.0},
        {"enabled": "yes"},
    ],
)
def test_settings_that_cannot_work_are_refused(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        LoudnessConfig(**wrong)


def test_samples_that_cannot_be_levelled_are_refused():
    with pytest.raises(ConfigError, match="nan or infinite"):
        level(np.full((1, 100), np.nan, dtype=np.float32), RATE, LoudnessConfig())
    with pytest.raises(ConfigError, match="above 0 Hz, got 0"):
        level(tone(), 0, LoudnessConfig())


def test_every_setting_has_its_help():
    assert set(field_help(LoudnessConfig)) == set(LoudnessConfig.__dataclass_fields__)
