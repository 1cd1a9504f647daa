"""Codecs on disk: our frame codec, and EncodecModel folders."""

import json
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from musicgen_rl.codec.base import Codec
from musicgen_rl.codec.frame import FrameCodec
from musicgen_rl.config import FrameCodecConfig
from musicgen_rl.errors import (
    CheckpointError,
    ConfigError,
    ModelNotFoundError,
    StorageError,
    UnsupportedModelError,
)
from musicgen_rl.storage import save_tensors, write_json

FRAME_CODEC = "musicgen_rl_frame_codec"
CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"


def save_codec(
    codec: FrameCodec, folder: str | Path, *, dtype: torch.dtype = torch.float32
) -> Path:
    """Write a frame codec: config.json and model.safetensors.

    Args:
        codec: what to write; training's own state is not part of it.
        folder: created if missing; files of the same names are replaced.
        dtype: of storage; float16 halves the file, computing stays in float32.

    Returns:
        The folder.

    Raises:
        StorageError: the folder cannot be written.
    """
    folder = Path(folder)
    tensors = {name: t.detach().to(dtype).contiguous() for name, t in codec.state_dict().items()}
    config = {"model_type": FRAME_CODEC, **asdict(codec.config)}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        save_tensors(tensors, folder / WEIGHTS_FILE)
        write_json(folder / CONFIG_FILE, config)
    except (OSError, SafetensorError) as error:
        raise StorageError(f"cannot write the codec to {folder}: {error}") from error
    return folder


def load_codec(folder: str | Path, *, audio_channels: int = 1) -> Codec:
    """Load a codec for inference.

    Args:
        folder: what `save_codec` wrote, or a folder of transformers' EncodecModel.
        audio_channels: 2 runs an EncodecModel once a channel; the frame codec is mono.

    Returns:
        The codec, in float32 on the CPU.

    Raises:
        ModelNotFoundError: no such folder.
        CheckpointError: a file or tensor is missing, damaged or misshapen.
        UnsupportedModelError: another kind of codec.
    """
    folder = Path(folder)
    config = read_config(folder)
    kind = config.get("model_type")
    if kind == FRAME_CODEC and audio_channels != 1:
        raise UnsupportedModelError(
            f"the frame codec in {folder} is mono, {audio_channels} channels were asked for"
        )
    if kind == FRAME_CODEC:
        return _load_frame_codec(folder, config)
    if kind == "encodec":
        from musicgen_rl.codec.encodec import encodec_from_folder

        return encodec_from_folder(folder, audio_channels=audio_channels)
    raise UnsupportedModelError(
        f"{folder} holds a codec of type {kind!r}; this package runs {FRAME_CODEC} and encodec"
    )


def read_config(folder: Path) -> dict[str, Any]:
    """Read a model folder's config.json.

    Raises:
        ModelNotFoundError: no such folder.
        CheckpointError: config.json is missing or not a JSON object.
    """
    if not folder.is_dir():
        raise ModelNotFoundError(f"no codec folder at {folder}: check the path")
    path = folder / CONFIG_FILE
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} is missing or not JSON: {error}") from error
    if not isinstance(config, dict):
        raise CheckpointError(f"{path} holds no JSON object")
    return config


def _load_frame_codec(folder: Path, config: dict[str, Any]) -> FrameCodec:
    names = {f.name for f in fields(FrameCodecConfig)}
    try:
        shape = FrameCodecConfig(**{k: v for k, v in config.items() if k in names})
        codec = FrameCodec(shape)
    except (ConfigError, TypeError) as error:
        raise CheckpointError(f"{folder / CONFIG_FILE}: {error}") from error
    path = folder / WEIGHTS_FILE
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path} is missing or damaged: {error}") from error
    wanted = codec.state_dict()
    problems = [f"{name} is missing" for name in wanted.keys() - tensors.keys()]
    problems += [f"{name} is unknown" for name in tensors.keys() - wanted.keys()]
    problems += [
        f"{name} is {list(t.shape)}, not {list(wanted[name].shape)}"
        for name, t in tensors.items()
        if name in wanted and t.shape != wanted[name].shape
    ]
    damaged = [name for name, t in tensors.items() if not bool(torch.isfinite(t).all())]
    if damaged:
        raise CheckpointError(f"{path} holds nan or inf in {damaged[0]}: copy it again")
    if problems:
        raise CheckpointError(f"{path} does not fit its config: {'; '.join(sorted(problems))}")
    codec.load_state_dict({name: t.float() for name, t in tensors.items()})
    return codec.eval().requires_grad_(False)
