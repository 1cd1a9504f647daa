import random
from dataclasses import replace

import numpy as np
import pyloudnorm
import pytest

from musicgen_rl.data.pocket.production import PEAK, Mix, draw_mix, level, produce, without_tail
from musicgen_rl.data.pocket.style import Sound

RATE = 32000
DRY = Mix(
    room_s=0.5, wet=0.0, lowpass_hz=15500.0, highpass_hz=28.0, drive=0.0, noise_db=None,
    wobble=0.0, crush=False, pump=0.0, echo=0.0, loudness_lufs=-18.0,
)  # fmt: skip


def tone(hz: float = 440.0, seconds: float = 2.0) -> np.ndarray:
    t = np.arange(round(seconds * RATE)) / RATE
    return (0.2 * np.sin(2 * np.pi * hz * t)).astype(np.float32)


def burst() -> np.ndarray:
    x = np.zeros(2 * RATE, dtype=np.float32)
    x[: RATE // 20] = tone(1000.0, 0.05)
    x[-RATE // 20 :] = tone(1000.0, 0.05)
    return x


def finish(x: np.ndarray, mix: Mix = DRY, **changes: object) -> np.ndarray:
    options: dict[str, object] = {
        "sample_rate": RATE,
        "seed": 0,
        "kicks_s": [],
        "beat_s": 0.5,
        "fade_s": 0.0,
    }
    return produce(x, mix, **{**options, **changes})  # type: ignore[arg-type]


def rms(x: np.ndarray) -> float:
    return float(np.sqrt((x.astype(np.float64) ** 2).mean()))


def band(x: np.ndarray, low: float, high: float) -> float:
    power = np.abs(np.fft.rfft(x)) ** 2
    hz = np.fft.rfftfreq(len(x), 1 / RATE)
    return float(power[(hz >= low) & (hz < high)].sum())


@pytest.mark.parametrize("loudness", [-24.0, -17.0])
def test_the_loudness_is_met(loudness: float) -> None:
    y = level(tone(1000.0, 3.0).astype(np.float64), RATE, loudness)
    assert pyloudnorm.Meter(RATE).integrated_loudness(y) == pytest.approx(loudness, abs=0.3)


def test_no_sample_passes_the_ceiling() -> None:
    x = tone(100.0, 2.0).astype(np.float64)
    x[1000] = 40.0
    assert np.abs(level(x, RATE, -12.0)).max() <= PEAK + 1e-6


def test_silence_stays_silence() -> None:
    assert not level(np.zeros(RATE), RATE, -18.0).any()


def test_a_room_rings_between_sounds() -> None:
    gap = slice(RATE // 4, RATE // 2)
    dry, wet = finish(burst()), finish(burst(), replace(DRY, wet=0.4, room_s=1.5))
    assert rms(wet[gap]) > 10 * rms(dry[gap])


def test_a_longer_room_rings_longer() -> None:
    late = slice(RATE, RATE + RATE // 4)
    short = finish(burst(), replace(DRY, wet=0.4, room_s=0.5))
    long = finish(burst(), replace(DRY, wet=0.4, room_s=3.0))
    assert rms(long[late]) > 5 * rms(short[late])


def test_the_low_pass_darkens() -> None:
    noise = np.random.default_rng(0).standard_normal(2 * RATE).astype(np.float32)
    bright, dark = finish(noise), finish(noise, replace(DRY, lowpass_hz=4000.0))
    assert band(dark, 9000, 15000) / band(dark, 200, 3000) < 0.1 * (
        band(bright, 9000, 15000) / band(bright, 200, 3000)
    )


def test_drive_adds_harmonics() -> None:
    driven = finish(tone(), replace(DRY, drive=0.8))
    assert band(driven, 1300, 1340) > 1e3 * band(finish(tone()), 1300, 1340)


def test_the_kick_ducks_the_rest() -> None:
    y = finish(tone(440.0, 2.0), replace(DRY, pump=0.8), kicks_s=[1.0])
    ducked = rms(y[round(1.07 * RATE) : round(1.12 * RATE)])
    before = rms(y[round(0.9 * RATE) : round(0.95 * RATE)])
    assert ducked < 0.7 * before
    assert rms(finish(tone(), replace(DRY, pump=0.8))[RATE:]) == pytest.approx(
        rms(finish(tone())[RATE:])
    )


def test_the_echo_comes_after_a_dotted_eighth() -> None:
    y = finish(burst(), replace(DRY, echo=0.4), beat_s=0.8)
    at = round(0.6 * RATE)
    assert rms(y[at : at + RATE // 20]) > 50 * rms(y[at - RATE // 10 : at - RATE // 50])


def test_vinyl_noise_fills_the_gaps() -> None:
    gap = slice(RATE // 2, RATE)
    assert rms(finish(burst(), replace(DRY, noise_db=-45.0))[gap]) > 1e-4
    assert rms(finish(burst())[gap]) < 1e-5


def test_wobble_moves_the_pitch_and_crush_the_samples() -> None:
    plain = finish(tone())
    assert np.abs(finish(tone(), replace(DRY, wobble=15.0))[:RATE] - plain[:RATE]).max() > 0.01
    assert np.abs(finish(tone(), replace(DRY, crush=True))[:RATE] - plain[:RATE]).max() > 0.001


def test_a_fade_ends_in_silence() -> None:
    y = finish(tone(440.0, 4.0), fade_s=2.0)
    assert rms(y[-RATE // 10 :]) < 0.05 * rms(y[:RATE])
    assert rms(y[-round(1.2 * RATE) : -RATE]) < 0.7 * rms(y[:RATE])


def test_the_same_seed_gives_the_same_samples() -> None:
    mix = replace(DRY, wet=0.3, noise_db=-50.0, wobble=5.0)
    assert np.array_equal(finish(tone(), mix, seed=3), finish(tone(), mix, seed=3))
    assert not np.array_equal(finish(tone(), mix, seed=3), finish(tone(), mix, seed=4))


def test_a_dead_tail_is_cut() -> None:
    x = np.concatenate([tone(seconds=1.0), np.zeros(3 * RATE)]).astype(np.float64)
    assert len(without_tail(x, RATE)) == pytest.approx(1.5 * RATE, abs=RATE * 0.01)


def test_a_mix_is_drawn_from_the_ranges() -> None:
    sound = Sound(room_s=(1.0, 2.0), wet=(0.1, 0.2), lowpass_hz=(4000, 5000), drive=(0.3, 0.4))
    for i in range(20):
        mix = draw_mix(sound, random.Random(i), 0.5)
        assert 1.0 <= mix.room_s <= 2.0
        assert 0.1 <= mix.wet <= 0.2
        assert 4000 <= mix.lowpass_hz <= 5000
        assert 0.3 <= mix.drive <= 0.4
        assert mix.noise_db is None
    calm, busy = (draw_mix(sound, random.Random(0), e).loudness_lufs for e in (0.0, 1.0))
    assert busy - calm == pytest.approx(4.0)
