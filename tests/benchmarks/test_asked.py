"""What a prompt names is told from what the style has anyway."""

import numpy as np
import pytest

from benchmarks.asked import beside_unasked, fits_tempo, hear, render
from musicgen_rl.data.manifest import Entry

RATE = 16_000


def clicks(bpm: float, seconds: float = 8.0) -> np.ndarray:
    sound = np.random.default_rng(1).normal(0, 1e-4, round(seconds * RATE)).astype(np.float32)
    for start in np.arange(0, seconds - 0.1, 60 / bpm):
        place = round(start * RATE)
        sound[place : place + 400] += np.linspace(0.9, 0, 400, dtype=np.float32)
    return sound


def tones(frequencies: list[float], seconds: float = 8.0) -> np.ndarray:
    time = np.arange(round(seconds * RATE)) / RATE
    return np.sum([np.sin(2 * np.pi * f * time) for f in frequencies], 0).astype(np.float32) / 10


def entry(bpm: int, key: str) -> Entry:
    facts = {"style": "rock", "tempo_bpm": bpm, "key": key, "mode": "major"}
    return Entry(audio="a", captions=("a",), attributes=facts)


def test_shares_by_hand() -> None:
    found = beside_unasked([1, 2, 2], [3, 2, 1], [1, 2, 3], lambda h, n: float(h == n))
    assert found["share"] == pytest.approx(2 / 3)
    assert found["unasked"] == pytest.approx(1 / 3)
    assert found["error"] == pytest.approx(np.std([1, 0, 0], ddof=1) / 3**0.5)


def test_tempo_and_key_are_heard() -> None:
    chords = [tones([261.6, 329.6, 392.0]), tones([370.0, 466.2, 554.4])]
    beats = [clicks(100), clicks(140)]
    pieces = [entry(100, "C"), entry(140, "F#")]
    found = hear(beats, chords, beats[::-1], pieces)
    assert found["tempo"] == {"share": 1.0, "unasked": 0.0, "error": 0.0}
    assert found["key"]["share"] > 0.9
    crossed = hear(beats[::-1], chords[::-1], chords[::-1], pieces)
    assert crossed["tempo"]["share"] == 0.0
    assert crossed["key"]["share"] == crossed["key"]["unasked"] < 0.5
    row = {"mine": {**found, "pieces": 2}}
    assert "| mine | 1.00 ± 0.00 | 0.00 |" in render(row, 8.0)


def test_half_and_double_fit_and_others_do_not() -> None:
    assert [fits_tempo(h, 120.0) for h in (120, 61, 238, 100)] == [1, 1, 1, 0]
