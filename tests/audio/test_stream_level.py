import math

import numpy as np
import pytest

from musicgen_rl.audio.loudness import LoudnessConfig, integrated_loudness, true_peak
from musicgen_rl.audio.stream_level import RunningLoudness, StreamLeveller
from musicgen_rl.errors import ConfigError

RATE = 32000
CONFIG = LoudnessConfig()


def noise(duration_s: float, scale: float = 0.05, channels: int = 1) -> np.ndarray:
    rng = np.random.default_rng(1)
    return (scale * rng.standard_normal((channels, round(duration_s * RATE)))).astype(np.float32)


def run(samples: np.ndarray, chunk: int, config: LoudnessConfig = CONFIG) -> np.ndarray:
    leveller = StreamLeveller(RATE, len(samples), config)
    parts = [leveller.push(samples[:, i : i + chunk]) for i in range(0, samples.shape[1], chunk)]
    return np.concatenate(parts, axis=1)


def gain_of(out: np.ndarray, samples: np.ndarray) -> np.ndarray:
    """Gain in dB where the samples are large enough to tell."""
    clear = np.abs(samples[0]) > 1e-3
    return 20 * np.log10(out[0, clear] / samples[0, clear])


@pytest.mark.parametrize("chunk", [3000, 12800, 32000])
def test_running_loudness_is_the_wholes(chunk):
    samples = noise(3.0, channels=2)
    samples[:, 40000:60000] *= 0.01  # so that the gates have something to do
    running = RunningLoudness(RATE, 2)
    for start in range(0, samples.shape[1], chunk):
        running.push(samples[:, start : start + chunk])
    assert running.loudness() == pytest.approx(integrated_loudness(samples, RATE), abs=1e-6)


def test_running_loudness_needs_one_block():
    running = RunningLoudness(RATE, 1)
    running.push(noise(0.39))
    assert running.loudness() == -math.inf
    running.push(noise(0.01))
    assert running.loudness() > -40


@pytest.mark.parametrize("target", [-16.0, -23.0])
@pytest.mark.parametrize("chunk", [1600, 16000])
def test_steady_sound_comes_out_at_the_target_from_the_start(target, chunk):
    samples = noise(4.0)
    out = run(samples, chunk, LoudnessConfig(target_lufs=target))
    assert out.shape == samples.shape
    assert integrated_loudness(out, RATE) == pytest.approx(target, abs=0.3)
    assert integrated_loudness(out[:, :RATE], RATE) == pytest.approx(target, abs=0.7)


def test_after_settling_the_gain_creeps():
    samples = noise(8.0, 0.02)
    samples[:, 4 * RATE :] *= 2.0  # 6 dB louder, and with this target far below the ceiling
    out = run(samples, 3200, LoudnessConfig(target_lufs=-30.0))
    gain = gain_of(out, samples)
    per_second = (gain.max() - gain.min()) / 4.0
    assert gain[-1] < gain[len(gain) // 4] - 1.0  # it does follow
    assert per_second <= 0.5 + 0.1
    assert np.abs(np.diff(gain)).max() < 0.01  # and without a step


def test_the_first_two_seconds_settle_by_six_decibels_a_second():
    samples = noise(4.0, 0.02)
    samples[:, RATE // 2 :] *= 10.0  # 20 dB louder: more than the gain may follow
    leveller = StreamLeveller(RATE, 1, LoudnessConfig(target_lufs=-40.0))
    gains = []
    for start in range(0, samples.shape[1], 3200):  # a tenth of a second
        leveller.push(samples[:, start : start + 3200])
        gains.append(leveller.gain_db)
    steps = -np.diff(gains)
    assert steps[6:19] == pytest.approx(np.full(13, 0.6), abs=1e-6)
    assert steps[19:25] == pytest.approx(np.full(6, 0.05), abs=1e-6)


def test_no_sample_and_hardly_a_crest_passes_the_ceiling():
    samples = noise(4.0, 0.02, channels=2)
    samples[:, 2 * RATE :] *= 30.0  # 30 dB louder all at once
    out = run(samples, 3200)
    assert 20 * math.log10(np.abs(out).max()) <= -1.0
    assert 20 * math.log10(true_peak(out)) <= -1.0 + 0.3
    # a peak the guard knows of is brought to the ceiling, not to silence
    assert 20 * math.log10(true_peak(out)) > -1.5


def test_the_gain_comes_down_over_milliseconds_before_a_peak():
    samples = noise(4.0, 0.02)
    peak_at = 3 * RATE + 1600  # in the middle of a chunk of 3200
    samples[0, peak_at] = 0.99
    out = run(samples, 3200)
    gain = out[0] / np.where(samples[0] == 0, 1, samples[0])
    before, at = gain[peak_at - 400], gain[peak_at]
    assert at < before * 0.6
    halfway = gain[peak_at - 80]  # 2.5 ms before
    assert at * 1.05 < halfway < before * 0.98
    # it stays down: no pumping back within half a second
    assert gain[peak_at + RATE // 2] < at * 1.05


def test_a_stream_may_begin_with_silence():
    samples = np.concatenate([np.zeros((1, RATE), dtype=np.float32), noise(3.0)], axis=1)
    leveller = StreamLeveller(RATE, 1, CONFIG)
    assert not leveller.push(samples[:, :RATE]).any()
    assert leveller.gain_db == 0.0
    out = leveller.push(samples[:, RATE : 2 * RATE])
    # Blocks half in the silence count as quiet sound, as they do in the measure of a whole file.
    assert integrated_loudness(out, RATE) == pytest.approx(-16.0, abs=1.0)


def test_silence_all_through_stays_silence():
    assert not run(np.zeros((2, RATE), dtype=np.float32), 1000).any()


def test_silence_in_between_leaves_the_gain():
    samples = noise(6.0)
    samples[:, 3 * RATE : 4 * RATE] = 0
    gain = gain_of(run(samples, 3200), samples)
    assert abs(gain[-1] - gain[len(gain) // 3]) < 0.3


def test_off_only_guards_the_ceiling():
    off = LoudnessConfig(enabled=False)
    samples = noise(2.0)
    np.testing.assert_array_equal(run(samples, 3200, off), samples)
    assert np.abs(run(samples * 40, 3200, off)).max() <= off.ceiling


def test_chunks_that_do_not_fit_are_refused():
    leveller = StreamLeveller(RATE, 2, CONFIG)
    with pytest.raises(ConfigError, match=r"chunks \[2, samples\], got shape \[1, 5\]"):
        leveller.push(np.zeros((1, 5), dtype=np.float32))
    with pytest.raises(ConfigError, match="nan or infinite"):
        leveller.push(np.full((2, 5), np.inf, dtype=np.float32))
    assert leveller.push(np.zeros((2, 0), dtype=np.float32)).shape == (2, 0)
