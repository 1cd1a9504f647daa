"""A key is learnt by an adapter alone; the command makes one; music without keys is named."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from musicgen_rl.checkpoint import read_info
from musicgen_rl.checkpoint.holds import KEY, load_key
from musicgen_rl.cli.train import app
from musicgen_rl.errors import CheckpointError, ConfigError, InputError
from musicgen_rl.training.hold import train_hold
from musicgen_rl.training.key import KeyLesson, KeyTrainConfig
from musicgen_rl.training.lm_run import encode_manifest
from tests.models import save_tiny

FAST = KeyTrainConfig(steps=4, batch_size=4, crop_s=1.0, save_every_s=0.0, warmup_steps=1)
TONICS = {"C": 261.6, "E": 329.6, "Ab": 415.3}


def write_music(folder: Path, told: bool = True) -> Path:
    """Write major triads on three tonics, and a manifest that tells their keys."""
    rows = []
    t = np.arange(4 * 8000) / 8000
    for index, (tonic, hertz) in enumerate(TONICS.items()):
        for split in ("train", "valid"):
            tones = sum(np.sin(2 * np.pi * hertz * f * t) for f in (1.0, 1.26, 1.5))
            name = f"{split}-{index}.wav"
            hiss = 0.01 * np.random.default_rng(index + 10 * len(split)).standard_normal(len(t))
            soundfile.write(folder / name, 0.2 * tones + hiss, 8000)
            facts = {"key": tonic, "mode": "major"} if told else {"mode": "major"}
            rows.append({"audio": name, "captions": ["chords"], "split": split,
                         "license": "CC0-1.0", "attributes": facts})  # fmt: skip
    (folder / "m.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder / "m.jsonl"


@pytest.fixture(scope="module")
def music(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Hold a model, and `tokens` of music whose keys are told."""
    folder = tmp_path_factory.mktemp("key")
    save_tiny(folder / "model")
    encode_manifest(write_music(folder), folder / "model/codec", folder / "tokens")
    return folder


def test_the_true_key_saves_more_than_a_wrong_one(music: Path, tmp_path: Path) -> None:
    config = replace(FAST, steps=60, batch_size=6, learning_rate=0.05)
    run = tmp_path / "run"
    made = train_hold(KeyLesson(), music / "model", music / "tokens", run, config)
    saved = made["held_out"]["base"]
    assert saved["saved_true_nats"] > 1.0 > saved["saved_wrong_nats"]
    shutil.copytree(music / "model", tmp_path / "with")
    shutil.copy(run / KEY.file, tmp_path / "with")
    learnt = load_key(read_info(tmp_path / "with")).outer
    assert learnt.weight.any()
    assert not learnt.bias.any()  # what is the same for all keys is left out
    card = json.loads((run / KEY.card).read_text())
    assert (card["steps"], card["strength"], card["data_licenses"]) == (60, 2.0, ["CC0-1.0"])


def test_a_stopped_run_goes_on_and_is_no_beat(music: Path, tmp_path: Path) -> None:
    def train(name: str, **how: object) -> dict[str, object]:
        folder = tmp_path / name
        return train_hold(KeyLesson(), music / "model", music / "tokens", folder, FAST, **how)

    train("whole")
    asked = iter([False, True])
    assert train("parts", stop=lambda: next(asked))["steps"] == 1
    train("parts")
    whole, parts = ((tmp_path / name / KEY.file).read_bytes() for name in ("whole", "parts"))
    assert whole == parts
    done = CliRunner().invoke(
        app, ["beat", "--model", str(music / "model"), "--tokens", str(music / "tokens"),
              "--out", str(tmp_path / "whole")],
    )  # fmt: skip
    assert isinstance(done.exception, CheckpointError)
    assert "holds a run of `train key`" in str(done.exception)


def test_music_without_keys_is_named(music: Path, tmp_path: Path) -> None:
    encode_manifest(write_music(tmp_path, told=False), music / "model/codec", tmp_path / "tokens")
    with pytest.raises(InputError, match=r'"train" tells its key and lasts 1 s: give "key" and'):
        train_hold(KeyLesson(), music / "model", tmp_path / "tokens", tmp_path / "run", FAST)


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(ConfigError, match="strength"):
        KeyTrainConfig(strength=0.0)


def test_the_command_makes_an_adapter(music: Path, tmp_path: Path) -> None:
    options = ["--set", "steps=1", "--set", "batch_size=2", "--set", "crop_s=1"]
    done = CliRunner().invoke(
        app, ["key", "--model", str(music / "model"), "--manifest", str(music / "m.jsonl"),
              "--out", str(tmp_path / "run"), *options],
    )  # fmt: skip
    assert done.output.strip().endswith(KEY.file), done.output
    assert "strength=2.0" in CliRunner().invoke(app, ["key", "--show-options"]).output
