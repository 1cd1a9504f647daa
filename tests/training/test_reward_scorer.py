"""The scorer's captions: read once, and by the text encoder that is asked for."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch.testing import assert_close

from musicgen_rl.checkpoint import checkpoints_folder
from musicgen_rl.errors import CheckpointError
from musicgen_rl.rewards.towers import TowerConfig
from musicgen_rl.text.minilm import MiniLM
from musicgen_rl.training.reward_mels import load_mels, prepare_mels
from musicgen_rl.training.reward_scorer import (
    CAPTIONS,
    ScorerTrainConfig,
    embed_captions,
    train_scorer,
)
from tests.training.reward_corpus import write_corpus


class Pointing:
    """Reads every sentence as the same direction."""

    def __init__(self, direction: list[float]) -> None:
        self.direction, self.read = torch.tensor([direction]), []

    def embed(self, sentences: list[str]) -> torch.Tensor:
        self.read += sentences
        return self.direction


@pytest.fixture(scope="module")
def mels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("scorer")
    prepare_mels([write_corpus(root / "corpus", seconds=6.0)], root / "mels")
    return root / "mels"


def test_captions_are_embedded_once(mels: Path, tmp_path: Path) -> None:
    text = MiniLM.load(checkpoints_folder() / "minilm")
    pieces = load_mels(mels)[:2]
    told: list[int] = []
    first = embed_captions(pieces, text, tmp_path, report=lambda done, _: told.append(done))
    again = embed_captions(pieces, text, tmp_path, report=lambda done, _: told.append(done))
    assert told == [1, 2, 3, 4]
    assert first.keys() == again.keys() == {c for p in pieces for c in p.captions}
    caption = pieces[0].captions[0]
    assert_close(again[caption], text.embed([caption])[0])


def test_captions_that_another_text_encoder_read_are_read_again(mels: Path, tmp_path: Path) -> None:
    pieces = load_mels(mels)[:2]
    first, second = Pointing([1.0, 0.0]), Pointing([0.0, 1.0])
    embed_captions(pieces, first, tmp_path, text_hash="one")
    found = embed_captions(pieces, second, tmp_path, text_hash="two")
    assert len(second.read) == len(first.read) == 4
    assert all(each.tolist() == [0.0, 1.0] for each in found.values())
    again = embed_captions(pieces, second, tmp_path, text_hash="two")
    assert len(second.read) == 4
    assert all(torch.equal(again[caption], each) for caption, each in found.items())


def test_captions_without_the_name_of_their_reader_are_read_again(
    mels: Path, tmp_path: Path
) -> None:
    pieces = load_mels(mels)[:2]
    embed_captions(pieces, Pointing([1.0, 0.0]), tmp_path, text_hash="one")
    path = tmp_path / "state.safetensors"
    with safe_open(path, framework="pt") as file:
        state = json.loads(file.metadata()["state"])
    del state["encoder"]
    save_file(load_file(path), path, metadata={"state": json.dumps(state)})
    reader = Pointing([0.0, 1.0])
    assert {tuple(e.tolist()) for e in embed_captions(
        pieces, reader, tmp_path, text_hash="one"
    ).values()} == {(0.0, 1.0)}  # fmt: skip


def test_a_scorer_reads_with_the_encoder_it_is_given_and_does_not_go_on_with_another(
    mels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mels, other = shutil.copytree(mels, tmp_path / "mels"), tmp_path / "minilm"
    shutil.copytree(checkpoints_folder() / "minilm", other)
    weights = load_file(other / "model.safetensors")
    save_file({name: 1.5 * tensor for name, tensor in weights.items()}, other / "model.safetensors")
    config = ScorerTrainConfig(
        steps=1, dim=8, half="all", batch_size=8, longest_s=2.0,
        tower=TowerConfig(width=24, layers=1, heads=2, patch_frames=8, window_s=5.0),
    )  # fmt: skip
    assert train_scorer(mels, tmp_path / "run", config)
    first = load_file(mels / CAPTIONS / "state.safetensors")["embeddings"]
    with pytest.raises(CheckpointError, match=r"begun with text encoder \w+, not \w+: "):
        train_scorer(mels, tmp_path / "run", config, text_encoder=other)
    assert train_scorer(mels, tmp_path / "second", config, text_encoder=other)
    second = load_file(mels / CAPTIONS / "state.safetensors")["embeddings"]
    assert first.shape == second.shape
    assert not torch.allclose(first, second, atol=1e-2)
