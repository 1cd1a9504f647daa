import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor

from musicgen_rl.codec.load import save_codec
from musicgen_rl.data.manifest import Entry
from musicgen_rl.training.codec_report import (
    chroma_by_drums,
    chroma_correlation,
    judge_codec,
    main,
    match_onsets,
    onset_f1,
    onset_times,
    ratio_interval,
)
from tests.codec.tiny import sine, tiny_codec
from tests.pretended_gpu import pretended_gpus

RATE = 16000


class Perfect:
    """A codec that gives back what it was given, with a gain."""

    device = torch.device("cpu")
    sample_rate, hop_length, num_codebooks, codebook_size = RATE, 320, 2, 4
    audio_channels, context_frames = 1, (0, 0)

    def __init__(self, gain: float) -> None:
        self._gain = gain

    def encode(self, samples: Tensor) -> Tensor:
        self._last = samples
        T = -(-samples.shape[-1] // 320)
        return (torch.arange(2 * T) % 3).view(1, 2, T)

    def decode(self, codes: Tensor) -> Tensor:
        return self._last * self._gain


def melody(seconds: float = 3.0) -> Tensor:
    """Half-second notes, each with a sharp attack."""
    notes = [262.0, 330.0, 392.0, 523.0, 440.0, 349.0][: round(seconds * 2)]
    fade = torch.linspace(1.0, 0.0, RATE // 2) ** 2
    return torch.cat([sine(hz, 0.5, RATE) * fade for hz in notes])


def test_chroma_tells_equal_transposed_and_octave_apart() -> None:
    tune = melody()
    assert chroma_correlation(tune, tune, RATE) == pytest.approx(1.0)
    other = torch.cat([sine(277.0, 1.5, RATE), sine(370.0, 1.5, RATE)])
    assert chroma_correlation(other, tune, RATE) < 0.3
    low, high = sine(262.0, 2.0, RATE), sine(524.0, 2.0, RATE)
    assert chroma_correlation(low, high, RATE) > 0.9


def test_onsets_are_found_where_notes_begin() -> None:
    found = onset_times(melody(), RATE)
    assert match_onsets(found, [0.5, 1.0, 1.5, 2.0, 2.5], 0.05) == 5


def test_onsets_are_paired_once() -> None:
    assert match_onsets([1.0, 1.01, 2.0], [1.02, 3.0], 0.05) == 1
    assert match_onsets([], [1.0], 0.05) == 0
    assert match_onsets([1.0, 2.0], [1.04, 1.96], 0.05) == 2
    assert onset_f1(1, 3, 2) == pytest.approx(0.4)
    assert onset_f1(0, 0, 0) == 1.0


def test_a_perfect_codec_is_judged_perfect_and_a_quiet_one_quiet() -> None:
    clips = torch.stack([melody(), melody().flip(0)])
    report, made = judge_codec(Perfect(1.0), clips)
    assert report["distance"] == 0.0
    assert report["chroma"] == 1.0
    assert report["onset_f1"] == 1.0
    assert 0.8 < report["onset_f1_moved"] <= 1.0
    assert report["level_db"] == 0.0
    assert report["used"] == [0.75, 0.75]
    assert len(report["each"]) == 2
    assert torch.equal(made, clips)
    assert judge_codec(Perfect(0.5), clips)[0]["level_db"] == pytest.approx(-6.02, abs=0.01)


def test_intervals_are_of_pieces_not_of_clips() -> None:
    random = np.random.default_rng(3)
    level = np.repeat(random.normal(0.5, 0.1, 40), 25)  # each piece has its own, its clips share it
    values = (level + random.normal(0, 0.01, 1000)).tolist()
    ones, pieces = [1.0] * 1000, np.repeat(np.arange(40), 25).tolist()
    found, narrow = ratio_interval(values, ones, pieces), ratio_interval(values, ones, range(1000))
    assert found is not None
    assert narrow is not None
    assert found[1] - found[0] == pytest.approx(4 * 0.1 / 40**0.5, rel=0.3)
    assert narrow[1] - narrow[0] < 0.3 * (found[1] - found[0])
    assert found[0] < np.mean(values) < found[1]
    assert ratio_interval(values[:100], ones[:100], pieces[:100]) is None  # four pieces
    same = ratio_interval([2.0] * 6, [4.0] * 6, range(6))
    assert same == [0.5, 0.5]


def test_a_report_has_intervals_where_there_are_pieces_enough() -> None:
    clips = torch.stack([melody(1.0 + 0.5 * n)[:RATE] for n in range(6)])
    report, _ = judge_codec(Perfect(1.0), clips)
    assert (report["chroma_interval"], report["onset_f1_interval"]) == ([1.0, 1.0], [1.0, 1.0])
    assert "chroma_interval" not in judge_codec(Perfect(1.0), clips, [0, 1, 2, 3, 3, 3])[0]


def test_chroma_is_told_apart_by_drums_where_they_are_known_of_all() -> None:
    entries = [Entry(audio=str(n), captions=("x",), attributes={"drums": n == 1}) for n in range(3)]
    each = [{"chroma": value} for value in (0.9, 0.5, 0.8, 0.7)]
    found = chroma_by_drums(entries, [0, 1, 2, 1], each)
    assert found == {"chroma_with_drums": 0.6, "chroma_without_drums": 0.85}
    assert chroma_by_drums(entries, [0, 2], each[:2]) == {}
    unknown = [*entries, Entry(audio="3", captions=("x",))]
    assert chroma_by_drums(unknown, [0, 1, 2, 1], each) == {}


def test_a_codec_on_a_gpu_is_judged_alike() -> None:
    codec, clips = tiny_codec(), sine(440.0, 1.5, 8000)[None]
    expected, sound = judge_codec(codec, clips)
    with pretended_gpus():
        report, made = judge_codec(codec.to(torch.device("cuda")), clips)
    assert report == expected
    assert torch.equal(made, sound)


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    random = np.random.default_rng(0)
    soundfile.write(tmp_path / "a.wav", random.normal(0, 0.1, 16000), 8000)
    path = tmp_path / "m.jsonl"
    path.write_text('{"audio": "a.wav", "caption": "noise", "split": "valid"}')
    return path


def test_the_command_writes_a_report_and_a_picture(
    manifest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_codec(tiny_codec(), tmp_path / "codec")
    out = tmp_path / "report"
    given = [str(tmp_path / "codec"), str(manifest), "--out", str(out), "--clips", "2"]
    assert main([*given, "--clip-s", "1"]) == 0
    shown = json.loads(capsys.readouterr().out)
    written = json.loads((out / "report.json").read_text())
    assert written["distance"] == shown["distance"] > 0
    assert written["frames"] == 100
    assert (out / "spectrograms.png").read_bytes()[:4] == b"\x89PNG"


def test_mistakes_are_one_line_and_exit_2(
    manifest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_codec(tiny_codec(), tmp_path / "codec")
    out = ["--out", str(tmp_path / "out")]
    assert main([str(tmp_path / "none"), str(manifest), *out]) == 2
    assert main([str(tmp_path / "codec"), str(manifest), *out, "--split", "test"]) == 2
    assert main([str(tmp_path / "codec"), str(manifest), *out, "--clip-s", "60"]) == 2
    assert main([str(tmp_path / "codec"), str(manifest), *out, "--clips", "0"]) == 2
    said = capsys.readouterr().err.splitlines()
    assert "no codec folder" in said[0]
    assert "no test split" in said[1]
    assert "shorter than" in said[-2]
    assert "0 clips cannot be judged" in said[-1]
