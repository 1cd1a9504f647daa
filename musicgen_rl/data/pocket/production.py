"""Light production: room, filters, tape, saturation, ducking, echo, level."""

import random
from dataclasses import dataclass

import numpy as np
import pyloudnorm
from numpy.typing import NDArray
from scipy import signal

from musicgen_rl.data.pocket.style import Sound

Samples = NDArray[np.float32]
PEAK = 0.89
"""Ceiling of the finished samples, -1 dBFS."""


@dataclass(frozen=True)
class Mix:
    """The production of one piece, drawn from its style's ranges."""

    room_s: float
    wet: float
    lowpass_hz: float
    highpass_hz: float
    drive: float
    noise_db: float | None
    wobble: float
    crush: bool
    pump: float
    echo: float
    loudness_lufs: float


def draw_mix(sound: Sound, rng: random.Random, energy: float) -> Mix:
    """Draw a mix; calm pieces are a little quieter than busy ones."""
    return Mix(
        room_s=rng.uniform(*sound.room_s),
        wet=rng.uniform(*sound.wet),
        lowpass_hz=rng.uniform(*sound.lowpass_hz),
        highpass_hz=sound.highpass_hz,
        drive=rng.uniform(*sound.drive),
        noise_db=None if sound.noise_db is None else sound.noise_db + rng.uniform(-5, 4),
        wobble=sound.wobble * rng.uniform(0.4, 1.2),
        crush=sound.crush,
        pump=sound.pump * rng.uniform(0.5, 1.2),
        echo=sound.echo * rng.uniform(0.0, 1.2),
        loudness_lufs=-20.0 + 4.0 * energy + rng.uniform(-0.7, 0.7),
    )


def produce(
    samples: Samples,
    mix: Mix,
    *,
    sample_rate: int,
    seed: int,
    kicks_s: list[float],
    beat_s: float,
    fade_s: float,
) -> Samples:
    """Turn a dry render into a finished recording.

    Args:
        samples: dry mono samples, [M].
        mix: settings.
        sample_rate: Hz.
        seed: of the room's and the noise's chance.
        kicks_s: times of the kick drum, for ducking.
        beat_s: length of a beat, for the echo.
        fade_s: length of a fade-out at the end, 0 for none.

    Returns:
        Mono samples, [M], levelled, no sample above PEAK.
    """
    generator = np.random.default_rng(seed)
    x = samples.astype(np.float64)
    peak = float(np.abs(x).max())
    x = x / max(peak, 1e-9) * 0.7
    if mix.crush:
        x = _crush(x, sample_rate)
    if mix.drive > 0:
        gain = 1 + 3 * mix.drive
        x = np.tanh(gain * x) / np.tanh(gain)
    if mix.pump > 0 and kicks_s:
        x *= _ducking(len(x), kicks_s, mix.pump, sample_rate)
    if mix.echo > 0.02:
        x = _with_echo(x, mix.echo, round(0.75 * beat_s * sample_rate))
    if mix.wet > 0:
        x = x + mix.wet * _room(x, mix.room_s, sample_rate, generator)
    if mix.wobble > 0:
        x = _wow(x, mix.wobble, sample_rate, generator)
    if mix.lowpass_hz < 15000:
        low = signal.butter(2, mix.lowpass_hz, "lowpass", fs=sample_rate, output="sos")
        x = signal.sosfilt(low, x)
    high = signal.butter(2, mix.highpass_hz, "highpass", fs=sample_rate, output="sos")
    x = signal.sosfilt(high, x)
    x = without_tail(x, sample_rate)
    if mix.noise_db is not None:
        x = x + _vinyl(len(x), mix.noise_db, sample_rate, generator) * float(np.abs(x).max())
    if fade_s > 0:
        n = min(len(x), round(fade_s * sample_rate))
        x[-n:] *= np.linspace(1, 0, n) ** 1.5
    else:
        n = min(len(x), round(0.3 * sample_rate))
        x[-n:] *= np.linspace(1, 0, n)
    return level(x, sample_rate, mix.loudness_lufs)


def without_tail(x: NDArray[np.float64], sample_rate: int) -> NDArray[np.float64]:
    """Cut what comes half a second after the last sound within 48 dB of the peak."""
    loud = np.flatnonzero(np.abs(x) > np.abs(x).max() * 10 ** (-48 / 20))
    end = int(loud[-1]) + sample_rate // 2 if len(loud) else len(x)
    return x[:end]


def level(x: NDArray[np.float64], sample_rate: int, loudness_lufs: float) -> Samples:
    """Bring samples to a loudness, rounding off what would pass the ceiling.

    Args:
        x: samples, [M].
        sample_rate: Hz.
        loudness_lufs: integrated loudness aimed at (ITU-R BS.1770).
    """
    meter = pyloudnorm.Meter(sample_rate)
    measured = float(meter.integrated_loudness(x))
    gain = 10 ** ((loudness_lufs - measured) / 20) if np.isfinite(measured) else 1.0
    y = x * gain
    knee = 0.7 * PEAK
    over = np.abs(y) > knee
    room = PEAK - knee
    y[over] = np.sign(y[over]) * (knee + room * np.tanh((np.abs(y[over]) - knee) / room))
    return np.asarray(y, dtype=np.float32)


def _room(
    x: NDArray[np.float64], room_s: float, sample_rate: int, generator: np.random.Generator
) -> NDArray[np.float64]:
    """Convolve with decaying noise whose highs die first."""
    n = round(room_s * sample_rate)
    t = np.arange(n) / sample_rate
    noise = generator.standard_normal(n)
    dark = signal.lfilter([0.25], [1, -0.75], noise)
    fast, slow = np.exp(-6.9 * t / (0.45 * room_s)), np.exp(-6.9 * t / room_s)
    impulse = noise * fast * 0.5 + dark * slow
    start = round(0.012 * sample_rate)
    impulse = np.concatenate([np.zeros(start), impulse])
    impulse /= np.sqrt((impulse**2).sum())
    return np.asarray(signal.oaconvolve(x, impulse)[: len(x)])


def _with_echo(x: NDArray[np.float64], amount: float, delay: int) -> NDArray[np.float64]:
    y = x.copy()
    for k in (1, 2, 3):
        if delay * k < len(x):
            y[delay * k :] += x[: len(x) - delay * k] * amount**k * 1.2
    return y


def _ducking(n: int, kicks_s: list[float], depth: float, sample_rate: int) -> NDArray[np.float64]:
    """Gain that dips after every kick and recovers in a quarter of a second."""
    gain = np.ones(n)
    length = round(0.26 * sample_rate)
    start = round(0.03 * sample_rate)  # the kick's own attack passes
    dip = 1 - depth * np.exp(-3.0 * np.arange(length) / length)
    dip[: length // 12] = np.linspace(1, dip[length // 12], length // 12)
    for time in kicks_s:
        a = round(time * sample_rate) + start
        b = min(n, a + length)
        if a < n:
            gain[a:b] = np.minimum(gain[a:b], dip[: b - a])
    return gain


def _wow(
    x: NDArray[np.float64], cents: float, sample_rate: int, generator: np.random.Generator
) -> NDArray[np.float64]:
    """Slow pitch drift of a tape machine, at most `cents`."""
    t = np.arange(len(x)) / sample_rate
    rate = generator.uniform(0.3, 0.8)
    depth_s = (2 ** (cents / 1200) - 1) / (2 * np.pi * rate)
    at = t + depth_s * np.sin(2 * np.pi * rate * t + generator.uniform(0, 6))
    return np.asarray(np.interp(at * sample_rate, np.arange(len(x)), x))


def _vinyl(
    n: int, noise_db: float, sample_rate: int, generator: np.random.Generator
) -> NDArray[np.float64]:
    """Hiss and crackle relative to full scale."""
    hiss = generator.standard_normal(n)
    band = signal.butter(1, [400, 6000], "bandpass", fs=sample_rate, output="sos")
    hiss = signal.sosfilt(band, hiss)
    clicks = np.zeros(n)
    count = generator.poisson(6 * n / sample_rate)
    clicks[generator.integers(0, n, count)] = generator.exponential(6.0, count)
    clicks = signal.sosfilt(band, clicks)
    return np.asarray((hiss + clicks) * 10 ** (noise_db / 20))


def _crush(x: NDArray[np.float64], sample_rate: int) -> NDArray[np.float64]:
    """Hold samples at 16 kHz and quantize to 7 bits, as a game machine's converter."""
    held = np.repeat(x[::2], 2)[: len(x)]
    return np.asarray(0.35 * x + 0.65 * np.round(held * 64) / 64)
