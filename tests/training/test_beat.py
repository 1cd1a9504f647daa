"""A beat is learnt by an adapter alone; a run goes on bit for bit; what cannot be is named."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from typer.testing import CliRunner

from musicgen_rl.checkpoint import load_state, read_info
from musicgen_rl.checkpoint.holds import BEAT, load_beat
from musicgen_rl.cli.train import app
from musicgen_rl.errors import CheckpointError, ConfigError, InputError
from musicgen_rl.lm.beat import BeatAdapter
from musicgen_rl.storage import read_tensors
from musicgen_rl.training import lm_run
from musicgen_rl.training.beat import BeatLesson, BeatTrainConfig, beat_of
from musicgen_rl.training.dataset import (
    TextStates,
    TokenDataset,
    TokenPiece,
    unique_captions,
)
from musicgen_rl.training.hold import HoldCrops, train_hold
from musicgen_rl.training.lm_run import encode_manifest
from musicgen_rl.training.tokens import load_tokens
from tests.audio.test_tempo import clicks
from tests.models import TINY_LM, save_tiny

FAST = BeatTrainConfig(
    steps=4, batch_size=4, crop_s=1.0, hidden=8, save_every_s=0.0, warmup_steps=1
)


def write_music(folder: Path, told: bool = True) -> Path:
    """Write clicks at two tempi, and a manifest that tells their beats."""
    rows = []
    for index, (bpm, split) in enumerate(((80, "train"), (150, "train"), (120, "valid"))):
        noise = 0.01 * np.random.default_rng(index).standard_normal((1, 14 * 8000))
        samples = clicks(bpm, 14.0) * 0.8 + noise.astype(np.float32)
        soundfile.write(folder / f"{index}.wav", samples[0], 8000)
        facts = {"beat_s": 60 / bpm, "first_beat_s": 0.1} if told else {"tempo_bpm": bpm}
        rows.append({"audio": f"{index}.wav", "captions": [f"clicks {index}"], "split": split,
                     "license": "CC0-1.0", "attributes": facts})  # fmt: skip
    (folder / "m.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder / "m.jsonl"


@pytest.fixture(scope="module")
def music(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Hold a model, and `tokens` of music whose beats are told."""
    folder = tmp_path_factory.mktemp("beat")
    save_tiny(folder / "model")
    encode_manifest(write_music(folder), folder / "model/codec", folder / "tokens")
    return folder


def test_the_loss_falls_and_the_model_stays_as_it_was(music: Path, tmp_path: Path) -> None:
    before = load_state(read_info(music / "model"))
    config = replace(FAST, steps=60, batch_size=8, learning_rate=0.02)
    made = train(music, tmp_path / "run", config)
    rows = [json.loads(r) for r in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert rows[-1]["loss"] < 0.9 * rows[0]["loss"]
    assert made["held_out"]["base"]["saved_true_nats"] > 1.0
    after = load_state(read_info(music / "model"))
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    shutil.copytree(music / "model", tmp_path / "with")
    shutil.copy(tmp_path / "run" / BEAT.file, tmp_path / "with")
    assert load_beat(read_info(tmp_path / "with")).inner.weight.shape[0] == 8
    card = json.loads((tmp_path / "run" / BEAT.card).read_text())
    assert (card["steps"], card["strength"], card["data_licenses"]) == (60, 2.2, ["CC0-1.0"])


def test_what_is_the_same_everywhere_is_left_out() -> None:
    torch.manual_seed(0)
    adapter = BeatAdapter(8, 2, hidden=16)
    torch.nn.init.normal_(adapter.outer.weight)
    torch.nn.init.normal_(adapter.outer.bias)
    places, bpm = torch.rand(1, 7) * 9, torch.tensor([97.0])
    before = adapter(places, bpm)
    BeatLesson().finish(adapter)
    after = adapter(places, bpm)
    moved = before - after
    assert torch.allclose(moved, moved[:, :, :1].expand_as(moved), atol=1e-5)
    every = torch.stack([
        adapter(torch.arange(200).unsqueeze(0) / 100, torch.tensor([float(b)])).mean((1, 2))
        for b in 55.0 * (190.0 / 55.0) ** torch.linspace(0, 1, 50)
    ])  # fmt: skip
    assert every.mean(0).abs().max() < 0.02 < moved.abs().max()


def test_a_stopped_run_ends_in_the_bits_of_one_that_was_not(music: Path, tmp_path: Path) -> None:
    def weights(name: str) -> dict[str, torch.Tensor]:
        return read_tensors([tmp_path / name / BEAT.file])

    train(music, tmp_path / "whole", FAST)
    asked = iter([False, False, True])
    stopped = train(music, tmp_path / "parts", FAST, stop=lambda: next(asked))
    assert stopped["steps"] == 2
    assert not (
        tmp_path / "parts" / BEAT.file
    ).exists()  # saved at once, measured only when it is done
    train(music, tmp_path / "parts", FAST)
    whole, parts = weights("whole"), weights("parts")
    assert all(torch.equal(parts[name], tensor) for name, tensor in whole.items())
    with pytest.raises(CheckpointError, match="begun with hidden 8, not 16"):
        train(music, tmp_path / "parts", replace(FAST, hidden=16))
    with pytest.raises(CheckpointError, match="holds a run of `train beat`"):
        lm_run.require_kind(tmp_path / "parts", "lm")


def train(music: Path, folder: Path, config: BeatTrainConfig, **how: Any) -> dict[str, Any]:
    lesson = BeatLesson(config.hidden)
    return train_hold(lesson, music / "model", music / "tokens", folder, config, **how)


def crops_of(music: Path, **changes: float) -> HoldCrops[BeatAdapter]:
    info, pieces = load_tokens(music / "tokens")
    kept = BeatLesson().keep([p for p in pieces if p.split == "train"], info.frame_rate, 50)
    captions = unique_captions(kept)
    text = TextStates(torch.zeros(len(captions), 4), torch.arange(len(captions) + 1))
    data = TokenDataset(kept, captions, TINY_LM.pad_token)
    return HoldCrops(BeatLesson(), data, text, replace(FAST, **changes), info.frame_rate)


def test_crops_begin_where_they_say_and_ends_are_left_out(music: Path) -> None:
    for share in (0.0, 0.5, 1.0):
        crops = crops_of(music, beginnings=share)
        batch = crops.draw(3, range(200))
        assert batch.starts.count(0) / 200 == pytest.approx(share, abs=0.12)
        for codes, number, start in zip(batch.codes, batch.pieces, batch.starts, strict=True):
            piece = crops.data.pieces[number]
            assert piece.codes.shape[1] == 200  # 14 s at 50 frames a second, less 10 s
            assert torch.equal(codes, piece.codes[:, start : start + 50].long())


def test_captions_are_dropped_as_often_as_asked(music: Path) -> None:
    for share in (0.0, 0.5, 1.0):
        batch = crops_of(music, caption_dropout=share).draw(3, range(200))
        assert batch.captions.count(-1) / 200 == pytest.approx(share, abs=0.12)


def piece(**attributes: object) -> TokenPiece:
    return TokenPiece(torch.zeros(2, 4), ("x",), "x", "train", attributes)


def test_beats_are_read_where_they_are_exact() -> None:
    found = beat_of(piece(beat_s=0.5, first_beat_s=0.2))
    assert found is not None
    assert (found.bpm, found.first_s) == (120.0, 0.2)
    for facts in (
        {}, {"tempo_bpm": 120}, {"beat_s": "0.5"}, {"beat_s": True}, {"beat_s": 0.0},
        {"beat_s": 0.01}, {"beat_s": 60.0}, {"beat_s": 0.5, "first_beat_s": None},
    ):  # fmt: skip
        assert beat_of(piece(**facts)) is None


def test_music_without_beats_is_named(music: Path, tmp_path: Path) -> None:
    encode_manifest(write_music(tmp_path, told=False), music / "model/codec", tmp_path / "tokens")
    with pytest.raises(InputError, match=r'"train" tells its beat and .* give "beat_s"'):
        train_hold(BeatLesson(), music / "model", tmp_path / "tokens", tmp_path / "run", FAST)
    with pytest.raises(InputError, match="lasts 5 s and 10 more"):
        train(music, tmp_path / "run", replace(FAST, crop_s=5.0))


@pytest.mark.parametrize(
    "changes", [{"crop_s": 0.1}, {"beginnings": 1.5}, {"strength": 0.0}, {"hidden": 0}]
)
def test_impossible_settings_are_refused(changes: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(changes))):
        BeatTrainConfig(**changes)


def test_the_command_makes_an_adapter_and_names_what_it_lacks(music: Path, tmp_path: Path) -> None:
    def call(*arguments: str) -> object:
        return CliRunner().invoke(app, ["beat", "--model", str(music / "model"), *arguments])

    options = ["--set", "steps=1", "--set", "batch_size=2", "--set", "crop_s=1"]
    done = call("--manifest", str(music / "m.jsonl"), "--out", str(tmp_path / "run"), *options)
    assert done.output.strip().endswith(BEAT.file), done.output
    assert (tmp_path / "run" / BEAT.file).is_file()
    lacking = call("--out", str(tmp_path / "none"))
    assert "give --manifest FILE, or --tokens FOLDER" in str(lacking.exception)
    unknown = call("--out", str(tmp_path / "none"), "--set", "shortest_s=1")
    assert "there is no such option" in str(unknown.exception)
    assert "strength=2.2" in CliRunner().invoke(app, ["beat", "--show-options"]).output
