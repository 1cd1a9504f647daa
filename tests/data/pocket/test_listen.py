from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from musicgen_rl.data.manifest import Entry, write_manifest
from musicgen_rl.data.pocket.listen import TEMPO_RATIOS, listen, measure, tempo_matches
from musicgen_rl.errors import InputError

RATE = 16000
C_MAJOR = {"key": "C", "scale": "major", "tempo_bpm": 120, "style": "test"}


def scale(pitches: tuple[int, ...], *, beat_s: float = 0.5, seconds: float = 12.0) -> np.ndarray:
    """Pluck the pitches in turn, one a beat."""
    out = np.zeros(round(seconds * RATE), dtype=np.float32)
    t = np.arange(round(beat_s * RATE)) / RATE
    for i in range(int(seconds / beat_s)):
        hz = 440 * 2 ** ((pitches[i % len(pitches)] - 69) / 12)
        a = round(i * beat_s * RATE)
        out[a : a + len(t)] = 0.3 * np.sin(2 * np.pi * hz * t) * np.exp(-6 * t)
    return out


def test_the_right_key_scores_higher_than_the_wrong_one() -> None:
    notes = scale((60, 64, 67, 72, 65, 69, 71, 62))
    right = measure(notes, RATE, dict(C_MAJOR)).in_key
    wrong = measure(notes, RATE, {**C_MAJOR, "key": "F#"}).in_key
    assert right > 0.85
    assert wrong < 0.45


def test_a_steady_beat_is_found() -> None:
    heard = measure(scale((60, 64, 67)), RATE, dict(C_MAJOR))
    assert heard.tempo_ok
    assert not measure(scale((60, 64, 67)), RATE, {**C_MAJOR, "tempo_bpm": 137}).tempo_ok


def test_silence_and_level_are_measured() -> None:
    notes = scale((60,))
    notes[len(notes) // 2 :] = 0
    heard = measure(notes, RATE, dict(C_MAJOR))
    assert heard.silent == pytest.approx(0.5, abs=0.05)
    assert heard.peak == pytest.approx(float(np.abs(notes).max()))
    louder = measure(2 * notes, RATE, dict(C_MAJOR))
    assert louder.rms_db - heard.rms_db == pytest.approx(6.02, abs=0.01)


def test_half_and_double_tempo_count() -> None:
    assert tempo_matches(60.0, 120, TEMPO_RATIOS)
    assert tempo_matches(246.0, 120, TEMPO_RATIOS)
    assert not tempo_matches(90.0, 120, TEMPO_RATIOS)


def test_the_table_has_a_row_for_each_style_and_all(tmp_path: Path) -> None:
    entries = []
    for i, style in enumerate(("jazz", "folk", "folk", "folk")):
        sf.write(tmp_path / f"{i}.wav", scale((60, 64), seconds=4.0), RATE)
        facts = {**C_MAJOR, "style": style}
        entries.append(Entry(audio=f"{i}.wav", captions=("x",), attributes=facts, piece=str(i)))
    write_manifest(tmp_path / "m.jsonl", entries)
    rows = [line.split(" | ")[:2] for line in listen(tmp_path / "m.jsonl", pieces=2).splitlines()]
    assert rows[2:] == [["| folk", "2"], ["| jazz", "1"], ["| all", "3"]]


def test_a_manifest_without_facts_is_refused(tmp_path: Path) -> None:
    write_manifest(tmp_path / "m.jsonl", [Entry(audio="a.wav", captions=("x",), piece="a")])
    with pytest.raises(InputError, match="has no pieces with"):
        listen(tmp_path / "m.jsonl", pieces=1)
