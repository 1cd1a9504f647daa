import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from musicgen_rl.errors import AudioFileError, InputError
from musicgen_rl.training import codec_crops
from musicgen_rl.training.codec_crops import AudioPool, draw_crops, fixed_crops, read_split
from tests.codec.tiny import sine

RATE = 8000


def write(path: Path, samples: np.ndarray, rate: int = RATE) -> Path:
    soundfile.write(path, samples, rate, subtype="PCM_16")
    return path


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Two ramps: every sample tells its file and its place."""
    first = np.arange(4000, dtype=np.int16)
    second = np.arange(10000, 26000, dtype=np.int16)
    return [write(tmp_path / "a.wav", first), write(tmp_path / "b.flac", second)]


def test_the_same_seed_and_step_draw_the_same_crops(files: list[Path]) -> None:
    pool = AudioPool(files, RATE, 800)
    first = draw_crops(pool, 4, 800, seed=1, step=7)
    assert first.shape == (4, 800)
    assert torch.equal(first, draw_crops(AudioPool(files, RATE, 800), 4, 800, seed=1, step=7))
    assert not torch.equal(first, draw_crops(pool, 4, 800, seed=1, step=8))
    assert not torch.equal(first, draw_crops(pool, 4, 800, seed=2, step=7))


def test_long_files_are_drawn_in_proportion(files: list[Path]) -> None:
    pool = AudioPool(files, RATE, 10)
    crops = draw_crops(pool, 400, 10, seed=0, step=0)
    slope = crops.diff(dim=1).mean(1, keepdim=True)
    from_second = (crops[:, :1] / slope > 9000).float().mean()  # place over gain
    assert float(from_second) == pytest.approx(0.8, abs=0.06)


def test_crops_are_contiguous_pieces_with_a_gain_that_never_clips(files: list[Path]) -> None:
    crops = draw_crops(AudioPool(files, RATE, 800), 16, 800, seed=0, step=0)
    steps = crops.diff(dim=1)
    assert float((steps - steps.mean(1, keepdim=True)).abs().max()) < 1e-5
    gains = steps.mean(1) * 32768
    assert float(gains.min()) >= 10 ** (-9 / 20) - 1e-3
    assert float(gains.max()) <= 10 ** (3 / 20) + 1e-3
    assert float(gains.max() - gains.min()) > 0.3
    assert float(crops.abs().max()) <= 1.0


def test_memory_makes_no_difference(files: list[Path]) -> None:
    kept = draw_crops(AudioPool(files, RATE, 800), 8, 800, seed=3, step=0)
    streamed = draw_crops(AudioPool(files, RATE, 800, memory_bytes=0), 8, 800, seed=3, step=0)
    assert torch.equal(kept, streamed)


def test_crops_taken_from_held_samples_are_those_read_from_files(files: list[Path]) -> None:
    read, held = AudioPool(files, RATE, 800), AudioPool(files, RATE, 800)
    assert held.hold_on("cpu")
    # Files of .5 s and crops of .45 s: some crops run into their file's end.
    for length, step in ((800, 0), (3600, 1)):
        crops = [draw_crops(pool, 24, length, 3, step, transpose=4) for pool in (read, held)]
        assert torch.equal(*crops)


def test_what_is_beyond_the_memory_is_not_held_and_still_read(files: list[Path]) -> None:
    pool = AudioPool(files, RATE, 800, memory_bytes=2 * 20000 - 1)
    assert not pool.hold_on("cpu")
    assert torch.equal(
        draw_crops(pool, 4, 800, seed=1, step=7),
        draw_crops(AudioPool(files, RATE, 800), 4, 800, seed=1, step=7),
    )


def test_stereo_is_folded(tmp_path: Path) -> None:
    both = np.stack([np.full(2000, 1000), np.full(2000, 3000)], 1).astype(np.int16)
    pool = AudioPool([write(tmp_path / "s.wav", both)], RATE, 100)
    assert pool.read(0, 0, 100).tolist() == pytest.approx([2000 / 32768] * 100)


def test_fixed_crops_are_spread_over_the_files(files: list[Path]) -> None:
    pool = AudioPool(files, RATE, 500)
    crops = fixed_crops(pool, 6, 500)
    assert torch.equal(crops, fixed_crops(pool, 6, 500))
    assert len({float(crop[0]) for crop in crops}) == 6
    assert len({float(crop[0]) > 0.3 for crop in crops}) == 2


def test_every_unusable_file_is_named(files: list[Path], tmp_path: Path) -> None:
    bad = [
        tmp_path / "missing.wav",
        write(tmp_path / "rate.wav", np.zeros(9000, np.int16), 16000),
        write(tmp_path / "short.wav", np.zeros(10, np.int16)),
    ]
    (tmp_path / "text.wav").write_text("no audio")
    with pytest.raises(AudioFileError) as caught:
        AudioPool([*files, *bad, tmp_path / "text.wav"], RATE, 800)
    text = str(caught.value)
    for said in ("missing.wav", "16000 Hz, not 8000", "10 samples, shorter than 800", "text.wav"):
        assert said in text
    assert "a.wav" not in text
    with pytest.raises(InputError, match="no audio files"):
        AudioPool([], RATE, 800)


def test_a_split_lists_its_files_beside_the_manifest(tmp_path: Path) -> None:
    manifest = tmp_path / "manifest.jsonl"
    rows = [
        {"audio": "x/a.flac", "caption": "one", "split": "train"},
        {"audio": "x/b.flac", "caption": "two", "split": "valid"},
    ]
    manifest.write_text("\n".join(json.dumps(row) for row in rows))
    assert read_split(manifest, "valid") == [tmp_path / "x/b.flac"]
    assert read_split(manifest, "test") == []


@pytest.mark.parametrize("semitones", [-4, 4])
def test_transposed_crops_are_higher_or_lower_by_semitones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, semitones: int
) -> None:
    tone = (sine(400.0, 2.0, RATE) * 32767).short().numpy()
    pool = AudioPool([write(tmp_path / "t.wav", tone)], RATE, 8000)
    only = dict.fromkeys((-1, 1), codec_crops.SPEEDS[semitones])
    monkeypatch.setattr(codec_crops, "SPEEDS", {0: (1, 1), **only})
    found = set()
    for crop in draw_crops(pool, 12, 8000, seed=0, step=0, transpose=1):
        found.add(int(torch.fft.rfft(crop * torch.hann_window(8000)).abs().argmax()))
    assert len(found) == 2
    moved = (found - {400}).pop()
    assert abs(1200 * np.log2(moved / 400) - 100 * semitones) < 15


def test_speeds_are_semitones_within_ten_cents() -> None:
    for semitones, (up, down) in codec_crops.SPEEDS.items():
        assert abs(1200 * np.log2(down / up) - 100 * semitones) < 10
