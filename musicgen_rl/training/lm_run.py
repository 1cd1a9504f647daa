"""From a folder of tokens to a model folder: what `train lm` and the pocket stages call."""

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from musicgen_rl.checkpoint import ModelInfo, load_state, model_hash, read_info, save_model
from musicgen_rl.codec.load import load_codec
from musicgen_rl.config import LMConfig, SamplingConfig
from musicgen_rl.data.check import CheckConfig, require_usable
from musicgen_rl.errors import ConfigError, InputError, StorageError
from musicgen_rl.sampling.decode import Window
from musicgen_rl.text.base import TextEncoder
from musicgen_rl.text.minilm import MiniLM
from musicgen_rl.training.checkpointing import read_training_state
from musicgen_rl.training.dataset import (
    TextStates,
    TokenDataset,
    TokenPiece,
    precompute_text_states,
    unique_captions,
)
from musicgen_rl.training.pretrain import pretrain
from musicgen_rl.training.pretrain_config import PretrainConfig
from musicgen_rl.training.pretrain_state import STATE, require_same_beginning
from musicgen_rl.training.processes import Processes
from musicgen_rl.training.same_run import hash_part, require_kind
from musicgen_rl.training.tokens import (
    INFO,
    TokenInfo,
    encode_apart,
    encode_sources,
    hash_folder,
    hash_lines,
    is_encoded,
    load_tokens,
    sources_of,
    with_offsets,
)

SPLITS = ("train", "valid")
"""Splits that a run learns from and is measured on."""
DEFAULT_GUIDANCE = 3.0
"""Guidance of a freshly trained model until it is tuned: MusicGen's own."""


def encode_manifest(
    manifest: str | Path,
    codec_folder: str | Path,
    tokens_folder: str | Path,
    *,
    offsets: int = 1,
    splits: Sequence[str] = (),
    processes: int = 1,
    report: Callable[[int, int], None] | None = None,
) -> TokenInfo:
    """Check a manifest and encode its audio; what is encoded already is left alone.

    Where all of it is, the audio is not listened to again: a run of many hours goes on at once.

    Args:
        manifest: jsonl file.
        codec_folder: makes the codes.
        tokens_folder: gets the shards.
        offsets: how often a piece to learn from is encoded, each time another part of a frame
            later.
        splits: those that the run to come needs; one that has no line is refused.
        processes: that encode side by side on a processor; a GPU is used by one.
        report: called with (pieces done, pieces in all).

    Returns:
        What the tokens were made with.

    Raises:
        InputError: something in the manifest is wrong, all of it named, and nothing encoded.
        StorageError: the disk is full; what is encoded is kept.
    """
    path, codec = Path(manifest), load_codec(codec_folder)
    codec_hash = hash_folder(codec_folder)
    if (Path(tokens_folder) / INFO).is_file():
        sources = with_offsets(sources_of(path), offsets)
        if is_encoded(sources, codec_hash, tokens_folder):
            return load_tokens(tokens_folder)[0]
    require_usable(path, CheckConfig(splits=tuple(splits)))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    codec.to(device)
    sources = with_offsets(sources_of(path), offsets)
    if processes > 1 and device.type == "cpu":
        encode_apart(
            sources, codec_folder, codec_hash, tokens_folder, processes=processes, report=report
        )
        report = None  # all is told
    return encode_sources(sources, codec, codec_hash, tokens_folder, report=report)


def require_same_sources(
    run: str | Path,
    kind: str,
    manifest: str | Path,
    codec_folder: str | Path,
    *,
    offsets: int = 1,
) -> None:
    """Refuse to go on with another manifest or codec, before anything is encoded with them.

    Args:
        run: folder of the run; nothing is refused where no step was saved yet.
        kind: of the run: lm or contrast.
        manifest: jsonl file.
        codec_folder: makes the codes.
        offsets: as of `encode_manifest`.

    Raises:
        CheckpointError: the run is of another kind, or was begun with others.
        InputError: a line of the manifest is wrong, by number.
    """
    require_kind(run, kind)
    state = read_training_state(Path(run) / STATE)
    if state is None:
        return
    now = {"manifest": hash_lines(with_offsets(sources_of(manifest), offsets))}
    if Path(codec_folder).is_dir():  # else it is named when it is loaded
        now["codec"] = hash_folder(codec_folder)
    require_same_beginning(Path(run), state, now)


def require_start(
    start: str | Path,
    codec_folder: str | Path,
    text_encoder_folder: str | Path,
    config: PretrainConfig,
) -> None:
    """Refuse a model to begin with that does not fit, before anything is encoded for it.

    Args:
        start: folder of the model.
        codec_folder: makes the codes that will be learnt from.
        text_encoder_folder: MiniLM's files.
        config: how it will be trained.

    Raises:
        ConfigError: it has learnt the codes of another codec, or is of another shape.
    """
    codec = load_codec(codec_folder)
    tokens = TokenInfo(
        codec_hash=hash_folder(codec_folder),
        num_codebooks=codec.num_codebooks,
        codebook_size=codec.codebook_size,
        audio_channels=codec.audio_channels,
        frame_rate=codec.sample_rate / codec.hop_length,
        num_shards=0,
        licenses=(),
    )
    begun = read_start(start, tokens)
    text_size = MiniLM.load(text_encoder_folder, torch.device("cpu")).hidden_size
    require_same_shape(start, begun.lm, shape_of(begun.lm, tokens, text_size, config))


def shape_of(
    model: LMConfig, tokens: TokenInfo, text_hidden_size: int, config: PretrainConfig
) -> LMConfig:
    """Give a model's shape what follows from its data: codebooks, channels, text, length."""
    return replace(
        model,
        num_codebooks=tokens.num_codebooks,
        codebook_size=tokens.codebook_size,
        audio_channels=tokens.audio_channels,
        text_hidden_size=text_hidden_size,
        max_frames=max(model.max_frames, config.crop_frames),
    )


def require_same_shape(start: str | Path, there: LMConfig, here: LMConfig) -> None:
    """Refuse to go on with the model in `start` in another shape than its own.

    Raises:
        ConfigError: with each size that differs.
    """
    pairs = zip(asdict(there).items(), asdict(here).values(), strict=True)
    differing = [f"{name} {old} there, {new} here" for (name, old), new in pairs if old != new]
    if differing:
        raise ConfigError(f"{start} cannot be gone on with: {', '.join(differing)}")


def train_lm(
    tokens_folder: str | Path,
    codec_folder: str | Path,
    text_encoder_folder: str | Path,
    folder: str | Path,
    model: LMConfig,
    config: PretrainConfig,
    *,
    start: str | Path | None = None,
    license: str = "unknown",
    stop: Callable[[], bool] = lambda: False,
    live: bool = True,
) -> dict[str, Any]:
    """Train a language model on tokens, or go on with the run in `folder`.

    Args:
        tokens_folder: what `encode_manifest` wrote.
        codec_folder: the codec that made them; it goes into the exported model.
        text_encoder_folder: MiniLM's files.
        folder: of the run; `export/` in it becomes a model folder.
        model: width, depth and heads; codebooks and text width are taken from the data.
        config: how to train.
        start: folder of a model to begin with; its shape then stands above `model`. Weights drawn
            at random where None.
        license: of the weights, an SPDX name; goes into the model's card.
        stop: asked after every step; True saves and returns.
        live: show the live line on stderr.

    Returns:
        Figures of the run, as `pretrain` gives them.

    Raises:
        InputError: the tokens lack a split or were made by another codec.
        ConfigError: the model to begin with is of another shape than the tokens.
        CheckpointError: the run in `folder` is of another kind, or was begun with another model,
            codec, text encoder, start, manifest or music.
    """
    folder, codec_folder = Path(folder), Path(codec_folder)
    require_kind(folder, "lm")
    info, pieces = load_tokens(tokens_folder)
    begun = None if start is None else read_start(start, info)
    if begun is not None:
        model = begun.lm
    if info.codec_hash != hash_folder(codec_folder):
        raise InputError(
            f"the tokens in {tokens_folder} were not made by the codec in {codec_folder}: "
            "encode the manifest again, or name the codec that made them"
        )
    by_split = {name: [p for p in pieces if p.split == name] for name in SPLITS}
    for name, members in by_split.items():
        if not members:
            raise InputError(f'no piece has "split": "{name}" in the manifest: mark some of them')
    manifest_hash = require_same_pieces(folder, info, pieces)
    encoder = load_minilm(text_encoder_folder)
    captions = unique_captions(by_split["train"] + by_split["valid"])
    text_hash = hash_part(text_encoder_folder)
    text = share_text_states(captions, encoder, text_hash, folder)
    shape = shape_of(model, info, text.hidden_size, config)
    if begun is not None:
        require_same_shape(str(start), begun.lm, shape)
    train, valid = (
        TokenDataset(by_split[name], captions, shape.pad_token) for name in ("train", "valid")
    )

    before = None if begun is None else {
        "name": begun.name, "sha256": model_hash(begun), **dict(begun.notes)
    }  # fmt: skip

    def export(
        target: Path, lm: LMConfig, weights: dict[str, Tensor], figures: dict[str, Any]
    ) -> None:
        notes: dict[str, Any] = {
            "training": figures,
            "train_hours": round(train.num_frames / info.frame_rate / 3600, 2),
            "data_licenses": list(info.licenses),
            "codec_hash": info.codec_hash,
        }
        if before is not None:
            notes["start"] = before
        card = ModelInfo(
            name=folder.resolve().name,
            folder=target,
            lm=lm,
            window=Window(frames=config.crop_frames, keep_frames=max(1, config.crop_frames // 5)),
            frame_rate=info.frame_rate,
            sampling=SamplingConfig(guidance_scale=DEFAULT_GUIDANCE),
            text_encoder={
                "type": "minilm",
                "path": os.path.relpath(text_encoder_folder, target),
            },
            codec={"type": "frame", "path": "codec"},
            license=license,
            notes=notes,
        )
        copy_codec(codec_folder, target / "codec")
        save_model(target, card, weights)

    weights = None if begun is None else {
        name: tensor.float() for name, tensor in load_state(begun).items()
    }  # fmt: skip
    return pretrain(
        shape, config, train, valid, text, folder,
        start=weights, codec_hash=info.codec_hash, text_hash=text_hash,
        manifest_hash=manifest_hash, export=export, stop=stop, live=live,
    )  # fmt: skip


def require_same_pieces(run: Path, info: TokenInfo, pieces: Sequence[TokenPiece]) -> str:
    """Refuse tokens of another codec or manifest than the run's, before captions are encoded.

    Returns:
        Hash of what the manifest says of the pieces.

    Raises:
        CheckpointError: the run was begun with others.
    """
    manifest_hash = hash_lines(pieces)
    now = {"codec": info.codec_hash, "manifest": manifest_hash}
    require_same_beginning(run, read_training_state(run / STATE), now)
    return manifest_hash


def load_minilm(folder: str | Path) -> TextEncoder:
    """Load the encoder of captions onto this process's GPU, or the processor where it has none."""
    device = Processes().device
    placed = device if device.type == "cuda" else torch.device("cpu")
    return MiniLM.load(folder, placed).by_length()


def share_text_states(
    captions: Sequence[str], encoder: TextEncoder, encoder_hash: str, run: Path
) -> TextStates:
    """Give every process the states of all captions; the first alone computes and saves them.

    Args:
        captions: unique.
        encoder: run only where the states are not there.
        encoder_hash: tells it from others.
        run: folder of the run.

    Raises:
        CheckpointError: the run was begun with another text encoder; its states are left alone.
    """
    require_same_beginning(run, read_training_state(run / STATE), {"text encoder": encoder_hash})
    processes, folder = Processes(), run / "text_states"
    if processes.main:
        found = precompute_text_states(captions, encoder, folder, encoder_hash=encoder_hash)
        processes.wait()
        return found
    processes.wait()
    return precompute_text_states(captions, encoder, folder, encoder_hash=encoder_hash)


def copy_codec(source: Path, target: Path) -> None:
    """Copy a codec into an export, before its card: an export with a card is whole.

    Raises:
        StorageError: the disk is full.
    """
    try:
        shutil.copytree(source, target, dirs_exist_ok=True)
    except OSError as error:
        raise StorageError(f"cannot write {target}: {error}") from error


def read_start(start: str | Path, tokens: TokenInfo) -> ModelInfo:
    """Read the card of the model to begin with; other codes than the tokens' are refused."""
    begun = read_info(Path(start))
    made_by = begun.notes.get("codec_hash", tokens.codec_hash)
    if made_by != tokens.codec_hash:
        raise ConfigError(
            f"{start} has learnt the codes of another codec ({made_by}, the tokens' is "
            f"{tokens.codec_hash}): encode the manifest with its codec"
        )
    return begun
