import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile as sf

from musicgen_rl.data.check import CheckConfig, check_manifest, require_usable
from musicgen_rl.errors import ConfigError, InputError

RATE = 8000
Writer = Callable[..., Path]


@pytest.fixture
def tone(tmp_path: Path) -> Writer:
    def write(name: str, *, seconds: float = 3.0, level: float = 0.5, rate: int = RATE) -> Path:
        t = np.arange(round(seconds * rate)) / rate
        sf.write(tmp_path / name, level * np.sin(2 * np.pi * 220 * t), rate, subtype="FLOAT")
        return tmp_path / name

    return write


def manifest(folder: Path, *rows: dict[str, Any] | str) -> Path:
    path = folder / "m.jsonl"
    lines = [r if isinstance(r, str) else json.dumps({"caption": "a tone", **r}) for r in rows]
    path.write_text("\n".join(lines) + "\n")
    return path


def texts(path: Path, **options: Any) -> list[str]:
    return [str(p) for p in check_manifest(path, CheckConfig(**options))]


def test_a_sound_manifest_has_no_problems(tmp_path: Path, tone: Writer) -> None:
    tone("a.wav")
    tone("b.wav")
    assert texts(manifest(tmp_path, {"audio": "a.wav"}, {"audio": "b.wav"})) == []


def test_every_fault_is_named_on_its_line(tmp_path: Path, tone: Writer) -> None:
    tone("good.wav")
    tone("short.wav", seconds=0.5)
    tone("quiet.wav", level=1e-5)
    (tmp_path / "broken.wav").write_bytes(b"RIFF and then nothing")
    path = manifest(
        tmp_path,
        {"audio": "good.wav"},
        {"audio": "missing.wav"},
        {"audio": "broken.wav"},
        "{not json",
        {"audio": "good2.wav", "caption": ""},
        {"audio": "short.wav"},
        {"audio": "quiet.wav"},
    )
    problems = check_manifest(path)
    assert [p.line for p in problems] == [2, 3, 4, 5, 6, 7]
    said = [str(p) for p in problems]
    expected = ("no file", "cannot be decoded", "not JSON", "empty caption", "0.50 s", "silent")
    for text, words in zip(said, expected, strict=True):
        assert words in text


def test_nan_is_found(tmp_path: Path) -> None:
    samples = np.full(3 * RATE, 0.1, dtype=np.float32)
    samples[777] = np.nan
    sf.write(tmp_path / "n.wav", samples, RATE, subtype="FLOAT")
    (problem,) = texts(manifest(tmp_path, {"audio": "n.wav"}))
    assert "nan" in problem


def test_nan_and_silence_need_decoding(tmp_path: Path, tone: Writer) -> None:
    tone("quiet.wav", level=1e-5)
    path = manifest(tmp_path, {"audio": "quiet.wav"})
    assert len(texts(path)) == 1
    assert texts(path, decode=False) == []


def test_the_thresholds_are_obeyed(tmp_path: Path, tone: Writer) -> None:
    tone("a.wav", seconds=1.0, level=0.01)  # -40 dB
    path = manifest(tmp_path, {"audio": "a.wav"})
    assert texts(path, min_duration_s=0.9) == []
    assert len(texts(path, min_duration_s=1.1)) == 1
    assert len(texts(path, min_duration_s=0.9, silence_db=-30.0)) == 1


def test_a_cut_off_file_is_found(tmp_path: Path, tone: Writer) -> None:
    whole = tone("a.wav").read_bytes()
    samples, _ = sf.read(tmp_path / "a.wav")
    sf.write(tmp_path / "a.flac", samples, RATE)
    data = (tmp_path / "a.flac").read_bytes()
    (tmp_path / "a.flac").write_bytes(data[: len(data) // 2])
    assert len(whole) > len(data)
    (problem,) = texts(manifest(tmp_path, {"audio": "a.flac"}))
    assert "a.flac" in problem
    assert "cut off" in problem or "cannot be decoded" in problem


def test_the_odd_sample_rate_is_named(tmp_path: Path, tone: Writer) -> None:
    tone("a.wav")
    tone("b.wav", rate=16000)
    tone("c.wav")
    path = manifest(tmp_path, *({"audio": f"{n}.wav"} for n in "abc"))
    (problem,) = check_manifest(path)
    assert problem.line == 2
    assert "16000 Hz where most files have 8000 Hz" in problem.text


def test_a_wrong_duration_is_named(tmp_path: Path, tone: Writer) -> None:
    tone("a.wav")
    (problem,) = texts(manifest(tmp_path, {"audio": "a.wav", "duration_s": 9.0}))
    assert "says 9 s" in problem
    assert "lasts 3.00 s" in problem


def test_a_piece_in_two_splits_is_named(tmp_path: Path, tone: Writer) -> None:
    for name in "abc":
        tone(f"{name}.wav")
    path = manifest(
        tmp_path,
        {"audio": "a.wav", "piece": "song", "split": "train"},
        {"audio": "b.wav", "piece": "song", "split": "train"},
        {"audio": "c.wav", "piece": "song", "split": "test"},
    )
    (problem,) = check_manifest(path)
    assert problem.line == 3
    assert "'song' is in test here and in train on line 1" in problem.text


def test_the_same_file_twice_is_named(tmp_path: Path, tone: Writer) -> None:
    tone("a.wav")
    (problem,) = texts(manifest(tmp_path, {"audio": "a.wav"}, {"audio": "a.wav"}))
    assert problem.startswith("line 2")
    assert "already on line 1" in problem


def test_an_empty_manifest_is_a_problem_of_the_whole(tmp_path: Path) -> None:
    (problem,) = check_manifest(manifest(tmp_path, ""))
    assert problem.line == 0
    assert str(problem).startswith(str(tmp_path))


def test_an_unreadable_manifest_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError):
        check_manifest(tmp_path / "none.jsonl")


def test_impossible_thresholds_are_refused() -> None:
    with pytest.raises(ConfigError, match="silence_db"):
        CheckConfig(silence_db=3.0)


def test_a_manifest_is_refused_with_a_line_for_each_problem(tmp_path: Path, tone: Writer) -> None:
    tone("a.wav")
    tone("b.wav", level=0.0)
    path = manifest(tmp_path, {"audio": "a.wav"}, {"audio": "b.wav"}, {"audio": "c.wav"})
    with pytest.raises(InputError) as caught:
        require_usable(path)
    head, *lines = str(caught.value).split("\n  ")
    assert head.endswith("m.jsonl cannot be learnt from:")
    assert [line[:8] for line in lines] == ["line 2: ", "line 3: "]
    require_usable(manifest(tmp_path, {"audio": "a.wav"}))


def test_rates_may_differ_where_a_run_can_use_them(tmp_path: Path, tone: Writer) -> None:
    for i in range(3):
        tone(f"{i}.wav", rate=RATE if i else 2 * RATE)
    path = manifest(tmp_path, *({"audio": f"{i}.wav"} for i in range(3)))
    assert len(texts(path)) == 1
    assert texts(path, same_rate=False) == []


def test_a_split_that_must_be_there_is_missed(tmp_path: Path, tone: Writer) -> None:
    tone("a.wav")
    path = manifest(tmp_path, {"audio": "a.wav"})
    assert texts(path) == texts(path, splits=("train",)) == []
    (told,) = texts(path, splits=("train", "valid"))
    assert told == 'there is no valid split: mark some lines with "split": "valid"'
    path = manifest(tmp_path, {"audio": "a.wav"}, "{")  # the line may be of that split
    assert len(texts(path, splits=("train", "valid"))) == 1
