"""From a model folder to one that knows more words: what `train contrast` calls."""

import os
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from musicgen_rl.checkpoint import (
    ModelInfo,
    load_state,
    model_hash,
    part_folder,
    read_info,
    save_model,
)
from musicgen_rl.config import LMConfig
from musicgen_rl.data.pocket.contrasts import RIVALS, write_contrast
from musicgen_rl.errors import ConfigError, InputError, UnsupportedModelError
from musicgen_rl.training.contrast import ContrastTrainer, Rivals
from musicgen_rl.training.dataset import TokenDataset, TokenPiece, unique_captions
from musicgen_rl.training.lm_run import (
    copy_codec,
    load_minilm,
    read_start,
    require_same_pieces,
    share_text_states,
)
from musicgen_rl.training.pretrain_config import ContrastConfig
from musicgen_rl.training.same_run import hash_part, require_kind
from musicgen_rl.training.tokens import hash_folder, load_tokens

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


def codec_of(start: str | Path) -> Path:
    """Find the codec of a model to begin with, by its card.

    Raises:
        UnsupportedModelError: the model is in MusicGen's own format.
        CheckpointError: the codec is not where the card says.
    """
    return _codec_of(read_info(Path(start)))


def _codec_of(begun: ModelInfo) -> Path:
    kinds = begun.codec.get("type"), begun.text_encoder.get("type")
    if kinds != ("frame", "minilm"):
        raise UnsupportedModelError(
            f"{begun.name} has the codec {kinds[0]!r} and the text encoder {kinds[1]!r}: words are "
            "taught to models of the frame codec and MiniLM only"
        )
    return part_folder(begun, begun.codec)


def train_contrast(
    start: str | Path,
    tokens_folder: str | Path,
    text_encoder_folder: str | Path | None,
    folder: str | Path,
    config: ContrastConfig,
    *,
    stop: Callable[[], bool] = lambda: False,
    live: bool = True,
) -> dict[str, Any]:
    """Teach a model the words of a corpus, or go on with the run in `folder`.

    Args:
        start: folder of the model; a low-rank end is taken with what it lies over, and the result
            has weights of its own.
        tokens_folder: the corpus, encoded by the model's codec.
        text_encoder_folder: MiniLM's files; the model's own where None.
        folder: of the run; `export/` in it becomes a model folder.
        config: how to train.
        stop: asked after every step; True saves and returns.
        live: show the live line on stderr.

    Returns:
        Figures of the run, as `pretrain` gives them, and `contrast`, `kl` and `known` held out.

    Raises:
        InputError: the tokens lack a split, or captions to tell apart.
        ConfigError: the model is of another codec or shape than the tokens.
        UnsupportedModelError: the model is in MusicGen's own format.
        CheckpointError: the model's codec or text encoder is not there, or the run in `folder` is
            of another kind or was begun with another model, codec, text encoder, manifest or music.
    """
    folder = Path(folder)
    require_kind(folder, "contrast")
    info, pieces = load_tokens(tokens_folder)
    begun = read_start(start, info)
    if begun.lm.num_codebooks != info.num_codebooks:
        raise ConfigError(
            f"the tokens have {info.num_codebooks} codebooks, {start} {begun.lm.num_codebooks}"
        )
    codec_folder = _codec_of(begun)
    if "codec_hash" not in begun.notes and hash_folder(codec_folder) != info.codec_hash:
        raise ConfigError(
            f"the tokens in {tokens_folder} were not made by the codec of {start}, {codec_folder}: "
            "encode the manifest with it"
        )
    reader = Path(text_encoder_folder or part_folder(begun, begun.text_encoder))
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
    manifest_hash = require_same_pieces(folder, info, pieces)
    encoder = load_minilm(reader)
    captions = unique_captions(by_split["train"] + by_split["valid"])
    text_hash = hash_part(reader)
    text = share_text_states(captions, encoder, text_hash, folder)
    train, valid = (
        TokenDataset(by_split[name], captions, begun.lm.pad_token) for name in ("train", "valid")
    )

    before = {"name": begun.name, "sha256": model_hash(begun)}

    def export(
        target: Path, lm: LMConfig, weights: dict[str, Tensor], figures: dict[str, Any]
    ) -> None:
        done = {
            **figures,
            "hours": round(train.num_frames / info.frame_rate / 3600, 2), "anchor": config.anchor,
            "start": before,
        }  # fmt: skip
        notes = {"codec_hash": info.codec_hash, **begun.notes, "contrast": done}
        notes.pop("low_rank", None)  # all weights are in the export
        encoder_path = os.path.relpath(reader.resolve(), target.resolve())
        card = replace(
            begun, folder=target, notes=notes, codec={**begun.codec, "path": "codec"},
            text_encoder={**begun.text_encoder, "path": encoder_path},
        )  # fmt: skip
        copy_codec(codec_folder, target / "codec")
        save_model(target, card, weights)

    weights = {name: tensor.float() for name, tensor in load_state(begun).items()}
    trainer = ContrastTrainer(
        begun.lm, config, train, valid, text, folder, weights,
        encoder=encoder, rivals=rivals, codec_hash=info.codec_hash, text_hash=text_hash,
        manifest_hash=manifest_hash,
    )  # fmt: skip
    trainer.restore()
    return trainer.run(export, stop, live)
