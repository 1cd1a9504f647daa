from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from typer.testing import CliRunner

from musicgen_rl.checkpoint import checkpoints_folder
from musicgen_rl.cli.data import app
from musicgen_rl.data.manifest import Entry, write_manifest
from musicgen_rl.data.pocket.corpus_config import CorpusConfig
from musicgen_rl.errors import ModelNotFoundError
from musicgen_rl.training.tokens import hash_folder, load_tokens

RUN = CliRunner()


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    t = np.arange(3 * 8000) / 8000
    sf.write(tmp_path / "a.wav", 0.3 * np.sin(2 * np.pi * 330 * t), 8000)
    path = tmp_path / "m.jsonl"
    write_manifest(path, [Entry(audio="a.wav", captions=("a tone",), piece="a")])
    return path


def test_check_is_quiet_about_a_sound_manifest(manifest: Path) -> None:
    result = RUN.invoke(app, ["check", str(manifest)])
    assert result.exit_code == 0
    assert "no problems" in result.output


def test_check_prints_each_problem_and_exits_with_1(manifest: Path) -> None:
    (manifest.parent / "a.wav").unlink()
    result = RUN.invoke(app, ["check", str(manifest)])
    assert result.exit_code == 1
    assert "line 1: no file a.wav" in result.output


def test_check_passes_its_options_on(manifest: Path) -> None:
    result = RUN.invoke(app, ["check", str(manifest), "--min-duration-s", "10"])
    assert result.exit_code == 1
    assert "shorter than 10 s" in result.output


def test_describe_prints_tables(manifest: Path) -> None:
    result = RUN.invoke(app, ["describe", str(manifest)])
    assert result.exit_code == 0
    assert "| all | 1 | 1 | 0.00 |" in result.output


def test_spectrograms_writes_a_picture(manifest: Path) -> None:
    figure = manifest.parent / "sheet.png"
    result = RUN.invoke(app, ["spectrograms", str(manifest), str(figure)])
    assert result.exit_code == 0
    assert figure.read_bytes().startswith(b"\x89PNG")


def test_encode_makes_the_tokens_that_training_reads(manifest: Path) -> None:
    tokens = manifest.parent / "tokens"
    result = RUN.invoke(app, ["encode", str(manifest), "-o", str(tokens)])
    assert result.exit_code == 0, result.output
    assert result.output.strip().endswith(str(tokens))
    info, pieces = load_tokens(tokens)
    assert info.codec_hash == hash_folder(checkpoints_folder() / "pocket" / "codec")
    assert [(p.piece, p.captions, tuple(p.codes.shape)) for p in pieces] == [
        ("a", ("a tone",), (8, 75))
    ]


def test_encode_names_a_codec_that_is_not_there(manifest: Path) -> None:
    given = ["encode", str(manifest), "-o", "tokens", "--codec", str(manifest.parent / "gone")]
    result = RUN.invoke(app, given)
    assert isinstance(result.exception, ModelNotFoundError)
    assert "gone" in str(result.exception)


def test_make_passes_every_option_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[CorpusConfig] = []

    def fake(config: CorpusConfig, **_: object) -> Path:
        seen.append(config)
        return config.output / "manifest.jsonl"

    monkeypatch.setattr("musicgen_rl.data.pocket.corpus.make_corpus", fake)
    options = {
        "hours": 3.0, "seed": 7, "workers": 2, "min_duration_s": 20.0, "max_duration_s": 25.0,
        "captions": 6, "tunes": 0.5, "valid": 0.1, "test": 0.2, "musescore": 0.9,
    }  # fmt: skip
    words = [w for k, v in options.items() for w in (f"--{k.replace('_', '-')}", str(v))]
    result = RUN.invoke(app, ["make", str(tmp_path), *words, "--no-audio"])
    assert result.exit_code == 0, result.output
    wanted = CorpusConfig(output=tmp_path, audio=False, **options)  # type: ignore[arg-type]
    assert seen == [wanted]
