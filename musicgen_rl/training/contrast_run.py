"""From a model folder to one that knows more words: what `train contrast` calls."""

import os
import random
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from musicgen_rl.checkpoint import ModelInfo, load_state, model_hash, save_model
from musicgen_rl.config import LMConfig
from musicgen_rl.data.pocket.contrasts import RIVALS, write_contrast
from musicgen_rl.errors import ConfigError, InputError, StorageError
from musicgen_rl.text.minilm import MiniLM
from musicgen_rl.training.contrast import ContrastTrainer, Rivals
from musicgen_rl.training.dataset import (
    TokenDataset,
    TokenPiece,
    precompute_text_states,
    unique_captions,
)
from musicgen_rl.training.lm_run import read_start
from musicgen_rl.training.pretrain_config import ContrastConfig
from musicgen_rl.training.tokens import load_tokens

FACTS = ("style", "lead", "instruments", "drums", "tempo_bpm", "tempo_band", "key", "mode")
"""What a piece's attributes must hold for captions that differ in one of them."""


def rivals_among(pieces: Sequence[TokenPiece]) -> Rivals:
    """Choose where wrong captions come from.

    Args:
        pieces: of the corpus.

    Returns:
        Where each piece has the attributes of the pocket corpus, captions that are wrong in one
        of them; elsewhere captions of other pieces.

    Raises:
        InputError: there are too few captions to tell apart.
    """
    if all(name in piece.attributes for piece in pieces for name in FACTS):
        return lambda piece, rng: write_contrast(piece.attributes, piece.captions, rng)
    every = unique_captions(pieces)
    most = max(len(piece.captions) for piece in pieces)
    if len(every) < most + RIVALS:
        raise InputError(
            f"{len(every)} different captions are too few: {RIVALS} of other pieces are set "
            "against each piece's own"
        )

    def others(piece: TokenPiece, rng: random.Random) -> list[str]:
        found = [rng.choice(piece.captions)]
        while len(found) <= RIVALS:
            caption = rng.choice(every)
            if caption not in piece.captions and caption not in found:
                found.append(caption)
        return found

    return others


def train_contrast(
    start: str | Path,
    tokens_folder: str | Path,
    text_encoder_folder: str | Path,
    folder: str | Path,
    config: ContrastConfig,
    *,
    stop: Callable[[], bool] = lambda: False,
    live: bool = True,
) -> dict[str, Any]:
    """Teach a model the words of a corpus, or go on with the run in `folder`.

    Args:
        start: folder of the model.
        tokens_folder: the corpus, encoded by the model's codec.
        text_encoder_folder: MiniLM's files.
        folder: of the run; `export/` in it becomes a model folder.
        config: how to train.
        stop: asked after every step; True saves and returns.
        live: show the live line on stderr.

    Returns:
        Figures of the run, as `pretrain` gives them, and `contrast`, `kl` and `known` held out.

    Raises:
        InputError: the tokens lack a split, or captions to tell apart.
        ConfigError: the model is of another codec or shape than the tokens.
    """
    folder = Path(folder)
    info, pieces = load_tokens(tokens_folder)
    begun = read_start(start, info)
    if begun.lm.num_codebooks != info.num_codebooks:
        raise ConfigError(
            f"the tokens have {info.num_codebooks} codebooks, {start} {begun.lm.num_codebooks}"
        )
    by_split = {
        name: [p for p in pieces if p.split == name and p.codes.shape[1] >= config.crop_frames]
        for name in ("train", "valid")
    }
    for name, members in by_split.items():
        if not members:
            raise InputError(
                f'no piece of "split": "{name}" has {config.crop_frames} frames or more: mark some '
                "in the manifest, or lower --crop-frames"
            )
    rivals = rivals_among(by_split["train"] + by_split["valid"])
    device = "cuda" if torch.cuda.is_available() else "cpu"
    encoder = MiniLM.load(text_encoder_folder, device).by_length()
    captions = unique_captions(by_split["train"] + by_split["valid"])
    text = precompute_text_states(captions, encoder, folder / "text_states")
    train, valid = (
        TokenDataset(by_split[name], captions, begun.lm.pad_token) for name in ("train", "valid")
    )

    def export(
        target: Path, lm: LMConfig, weights: dict[str, Tensor], figures: dict[str, Any]
    ) -> None:
        _export(begun, target, weights, figures, config, train.num_frames / info.frame_rate / 3600)

    weights = {name: tensor.float() for name, tensor in load_state(begun).items()}
    trainer = ContrastTrainer(
        begun.lm, config, train, valid, text, folder, weights, encoder=encoder, rivals=rivals
    )
    trainer.restore()
    return trainer.run(export, stop, live)


def _export(
    begun: ModelInfo,
    target: Path,
    weights: dict[str, Tensor],
    figures: dict[str, Any],
    config: ContrastConfig,
    hours: float,
) -> None:
    """Write a model folder: the one begun with, with other weights and a note of what was done."""
    done = {
        **figures, "hours": round(hours, 2), "anchor": config.anchor,
        "start": {"name": begun.name, "sha256": model_hash(begun)},
    }  # fmt: skip
    paths = {
        name: {**spec, "path": os.path.relpath(begun.folder / spec["path"], target)}
        if "path" in spec else spec
        for name, spec in (("text_encoder", begun.text_encoder), ("codec", begun.codec))
    }  # fmt: skip
    card = replace(
        begun, folder=target, notes={**begun.notes, "contrast": done},
        text_encoder=paths["text_encoder"], codec={**begun.codec, "path": "codec"},
    )  # fmt: skip
    save_model(target, card, weights)
    source = begun.folder / begun.codec.get("path", "codec")
    try:
        shutil.copytree(source, target / "codec", dirs_exist_ok=True)
    except OSError as error:
        raise StorageError(f"cannot write {target / 'codec'}: {error}") from error
