import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
import typer
from typer.testing import CliRunner

from musicgen_rl.cli.train import app, parse_assignments
from musicgen_rl.config import LMConfig
from musicgen_rl.errors import CheckpointError, ConfigError, InputError
from musicgen_rl.training import codec as codec_training
from musicgen_rl.training import contrast_run, lm_run
from musicgen_rl.training.checkpointing import save_training_state
from musicgen_rl.training.pretrain_config import PretrainConfig


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Record what the commands would have started."""
    found: dict[str, Any] = {}

    def train_lm(*arguments: Any, **options: Any) -> dict[str, Any]:
        found["train_lm"], found["options"] = arguments, options
        return {"steps": 3}

    def encode_manifest(*arguments: Any, **options: Any) -> None:
        found["encode_manifest"], found["splits"] = arguments, options["splits"]

    def train_contrast(*arguments: Any, **options: Any) -> dict[str, Any]:
        found["train_contrast"] = arguments
        return {"steps": 3}

    def train_codec(config: Any) -> Path:
        found["codec"] = config
        return Path(config.folder) / "codec"

    monkeypatch.setattr(lm_run, "train_lm", train_lm)
    monkeypatch.setattr(lm_run, "encode_manifest", encode_manifest)
    monkeypatch.setattr(contrast_run, "train_contrast", train_contrast)
    monkeypatch.setattr(codec_training, "train_codec", train_codec)
    return found


def invoke(*arguments: str) -> Any:
    return CliRunner().invoke(app, list(arguments))


def test_without_options_the_configs_own_defaults_hold(called: dict[str, Any]) -> None:
    result = invoke("lm", "--codec", "c", "--out", "o", "--tokens", "t")
    assert result.exit_code == 0, result.output
    tokens, codec, _, out, model, config = called["train_lm"]
    assert (tokens, codec, out) == (Path("t"), Path("c"), Path("o"))
    assert model == LMConfig()
    assert config == PretrainConfig()
    assert "encode_manifest" not in called
    assert result.stdout.strip() == str(Path("o") / "export")


def test_every_field_of_the_config_is_an_option(called: dict[str, Any]) -> None:
    given: dict[str, Any] = {}
    arguments: list[str] = []
    for field in dataclasses.fields(PretrainConfig):
        option = "--" + field.name.replace("_", "-")
        if isinstance(field.default, bool):
            given[field.name] = not field.default
            arguments.append(option)
        else:
            value = "bf16" if isinstance(field.default, str) else field.default / 2 + 1
            given[field.name] = type(field.default)(value)
            if field.name == "crop_frames":
                given[field.name] = 252  # a multiple of short_factor
            if field.name in ("caption_dropout", "loop_until", "final_rate", "ema_decay"):
                given[field.name] = 0.25
            arguments += [option, str(given[field.name])]
    result = invoke("lm", "--codec", "c", "--out", "o", "--tokens", "t", *arguments)
    assert result.exit_code == 0, result.output
    assert called["train_lm"][5] == PretrainConfig(**given)


def test_a_manifest_is_encoded_first_and_sizes_reach_the_model(called: dict[str, Any]) -> None:
    sizes = ["--hidden-size", "64", "--num-layers", "2", "--num-heads", "4", "--license", "MIT"]
    result = invoke("lm", "--codec", "c", "--out", "o", "--manifest", "m.jsonl", *sizes)
    assert result.exit_code == 0, result.output
    assert called["encode_manifest"] == (Path("m.jsonl"), Path("c"), Path("o/tokens"))
    assert called["splits"] == ("train", "valid")
    assert called["train_lm"][0] == Path("o/tokens")
    model = called["train_lm"][4]
    assert (model.hidden_size, model.num_layers, model.num_heads) == (64, 2, 4)
    assert called["options"]["license"] == "MIT"


def test_the_model_to_begin_with_is_asked_before_anything_is_encoded(
    called: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(start: Path, codec: Path, reader: Path, config: PretrainConfig) -> None:
        assert (start, codec, reader) == (tmp_path, Path("c"), Path("words"))
        assert config.crop_frames == 100
        raise ConfigError("another shape")

    monkeypatch.setattr(lm_run, "require_start", refuse)
    (tmp_path / "config.json").write_text("{}")
    result = invoke(
        "lm", "--codec", "c", "--out", "o", "--manifest", "m.jsonl", "--start", str(tmp_path),
        "--text-encoder", "words", "--crop-frames", "100",
    )  # fmt: skip
    assert str(result.exception) == "another shape"
    assert called == {}


def test_nothing_to_learn_from_is_refused(called: dict[str, Any]) -> None:
    result = invoke("lm", "--codec", "c", "--out", "o")
    assert isinstance(result.exception, ConfigError)
    assert "--manifest" in str(result.exception)


def test_codec_options_reach_the_run_and_its_shape(called: dict[str, Any]) -> None:
    result = invoke(
        "codec", "--manifest", "m.jsonl", "--out", "o",
        "--set", "minutes=2.5", "--set", "num_codebooks=6",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    config = called["codec"]
    assert (config.manifest, config.folder, config.minutes) == ("m.jsonl", "o", 2.5)
    assert config.codec.num_codebooks == 6


@pytest.mark.parametrize(
    ("setting", "word"),
    [("minutes=soon", "needs a float"), ("colour=red", "unknown --set 'colour'"),
     ("minutes", "NAME=VALUE"), ("manifest=x", "unknown --set 'manifest'")],
)  # fmt: skip
def test_settings_that_cannot_be_are_named(called: dict[str, Any], setting: str, word: str) -> None:
    result = invoke("codec", "--manifest", "m", "--out", "o", "--set", setting)
    assert isinstance(result.exception, ConfigError)
    assert word in str(result.exception)
    assert "codec" not in called


def test_a_setting_given_twice_is_refused() -> None:
    with pytest.raises(ConfigError, match="twice"):
        parse_assignments(["a=1", "a=2"])


def test_the_names_are_listed_on_request() -> None:
    result = invoke("codec", "--show-options")
    assert result.exit_code == 0, result.output
    assert "minutes=20.0" in result.stdout
    assert "n_mels=160" in result.stdout
    assert "manifest=" not in result.stdout


def test_words_are_taught_with_the_parts_that_the_model_s_card_names(
    called: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contrast_run, "codec_of", lambda folder: folder.parent / "codec")
    (tmp_path / "config.json").write_text("{}")
    common = ["contrast", "--model", str(tmp_path), "--manifest", "m.jsonl", "--out", "o"]
    result = invoke(*common)
    assert result.exit_code == 0, result.output
    assert called["encode_manifest"] == (
        Path("m.jsonl"),
        tmp_path.parent / "codec",
        Path("o/tokens"),
    )
    assert called["train_contrast"][:4] == (tmp_path, Path("o/tokens"), None, Path("o"))
    assert invoke(*common, "--text-encoder", "words").exit_code == 0
    assert called["train_contrast"][2] == Path("words")


@pytest.mark.parametrize(
    ("command", "other"), [(["lm", "--codec", "c"], "contrast"), (["contrast", "--model"], "lm")]
)
def test_the_kind_of_run_is_asked_before_anything_is_encoded(
    called: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: list[str],
    other: str,
) -> None:  # fmt: skip
    monkeypatch.setattr(contrast_run, "codec_of", lambda folder: folder / "codec")
    (tmp_path / "config.json").write_text("{}")
    save_training_state(tmp_path / "run" / "state", {"step": torch.zeros(1)}, {"kind": other})
    command = [*command, str(tmp_path)] if command[0] == "contrast" else command
    result = invoke(*command, "--manifest", "m.jsonl", "--out", str(tmp_path / "run"))
    assert isinstance(result.exception, CheckpointError)
    assert f"holds a run of `train {other}`" in str(result.exception)
    assert called == {}


def test_the_command_line_is_a_typer_app() -> None:
    assert isinstance(app, typer.Typer)
    assert issubclass(InputError, ValueError)
