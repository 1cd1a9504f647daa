"""Chords are learnt by an adapter alone; the command makes one; music without chords is named."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from typer.testing import CliRunner

from musicgen_rl.checkpoint import read_info
from musicgen_rl.checkpoint.holds import CHORDS, load_chords
from musicgen_rl.cli.train import app
from musicgen_rl.data.chords import read_chord
from musicgen_rl.errors import InputError
from musicgen_rl.lm.chords import ChordAdapter
from musicgen_rl.training.chords import ChordLesson, ChordTrainConfig, chords_of
from musicgen_rl.training.dataset import TokenPiece
from musicgen_rl.training.hold import train_hold
from musicgen_rl.training.lm_run import encode_manifest
from tests.models import save_tiny

FAST = ChordTrainConfig(steps=4, batch_size=4, crop_s=1.0, save_every_s=0.0, warmup_steps=1)
ROOTS = {"C": 261.6, "E": 329.6, "Ab": 415.3}


def write_music(folder: Path, told: bool = True) -> Path:
    """Write two major triads of two seconds each, in all orders, and a manifest that tells them."""
    rows = []
    t = np.arange(2 * 8000) / 8000
    for split in ("train", "valid"):
        for first in ROOTS:
            for second in ROOTS:
                halves = [
                    sum(np.sin(2 * np.pi * ROOTS[root] * f * t) for f in (1.0, 1.26, 1.5))
                    for root in (first, second)
                ]
                name = f"{split}-{first}-{second}.wav"
                sound = 0.2 * np.concatenate(halves)
                hiss = np.random.default_rng(len(rows)).standard_normal(len(sound))
                soundfile.write(folder / name, sound + 0.01 * hiss, 8000)
                facts = {"chords": [[0.0, first], [2.0, second]]} if told else {}
                rows.append({"audio": name, "captions": ["chords"], "split": split,
                             "license": "CC0-1.0", "attributes": facts})  # fmt: skip
    (folder / "m.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder / "m.jsonl"


@pytest.fixture(scope="module")
def music(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Hold a model, and `tokens` of music whose chords are told."""
    folder = tmp_path_factory.mktemp("chords")
    save_tiny(folder / "model")
    encode_manifest(write_music(folder), folder / "model/codec", folder / "tokens")
    return folder


def piece(chords: object) -> TokenPiece:
    return TokenPiece(torch.zeros(1, 4), ("a",), "p", "train", {"chords": chords})


def test_which_chords_a_piece_says() -> None:
    starts, chords = chords_of(piece([[0.5, "Am"], [2, "F"]]))
    assert starts == [0.5, 2.0]
    assert chords == [read_chord("Am"), read_chord("F")]
    for wrong in (
        None, "Am", [], [[0.0, "H"]], [["x", "Am"]], [[0.0, 3]], [[2.0, "Am"], [1.0, "F"]], [0.0],
    ):  # fmt: skip
        assert chords_of(piece(wrong)) == ([], [])


def test_each_frame_is_told_the_chord_that_sounds() -> None:
    lesson = ChordLesson()
    adapter = ChordAdapter(8, 2)
    torch.nn.init.normal_(adapter.outer.weight)
    one = piece([[0.0, "Am"], [2.0, "F"]])

    def told(start: int, steps: int, *, wrong: bool = False) -> torch.Tensor:
        return lesson.tell(adapter, [one], [start], steps, 10.0, wrong=wrong).detach()

    whole = told(0, 40)
    assert torch.equal(whole[:, :, :1].expand(-1, -1, 20, -1), whole[:, :, :20])
    assert torch.equal(whole[:, :, 20:21].expand(-1, -1, 20, -1), whole[:, :, 20:])
    assert not torch.equal(whole[:, :, 19], whole[:, :, 20])
    assert torch.equal(told(15, 10), whole[:, :, 15:25])
    assert not torch.allclose(told(0, 40, wrong=True), whole)


def test_the_true_chords_save_more_than_wrong_ones(music: Path, tmp_path: Path) -> None:
    config = replace(FAST, steps=80, batch_size=6, learning_rate=0.05)
    run = tmp_path / "run"
    made = train_hold(ChordLesson(), music / "model", music / "tokens", run, config)
    saved = made["held_out"]["base"]
    assert saved["saved_true_nats"] > 1.0 > saved["saved_wrong_nats"]
    shutil.copytree(music / "model", tmp_path / "with")
    shutil.copy(run / CHORDS.file, tmp_path / "with")
    learnt = load_chords(read_info(tmp_path / "with")).outer
    assert learnt.weight.any()
    assert not learnt.bias.any()  # what is the same for all chords is left out
    card = json.loads((run / CHORDS.card).read_text())
    assert (card["steps"], card["strength"]) == (80, FAST.strength)


def test_music_without_chords_is_named(music: Path, tmp_path: Path) -> None:
    encode_manifest(write_music(tmp_path, told=False), music / "model/codec", tmp_path / "tokens")
    with pytest.raises(InputError, match=r'tells its chords and lasts 1 s: give "chords", such as'):
        train_hold(ChordLesson(), music / "model", tmp_path / "tokens", tmp_path / "run", FAST)


def test_the_command_makes_an_adapter(music: Path, tmp_path: Path) -> None:
    options = ["--set", "steps=1", "--set", "batch_size=2", "--set", "crop_s=1"]
    done = CliRunner().invoke(
        app, ["chords", "--model", str(music / "model"), "--manifest", str(music / "m.jsonl"),
              "--out", str(tmp_path / "run"), *options],
    )  # fmt: skip
    assert done.output.strip().endswith(CHORDS.file), done.output
    assert "strength=" in CliRunner().invoke(app, ["chords", "--show-options"]).output
