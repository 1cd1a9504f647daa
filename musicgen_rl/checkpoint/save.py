"""Writing a model folder that transformers reads too."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors import SafetensorError
from torch import Tensor

from musicgen_rl.checkpoint.info import CARD, FORMAT, ModelInfo
from musicgen_rl.errors import StorageError
from musicgen_rl.lm.weights import config_to_transformers, to_transformers
from musicgen_rl.storage import save_tensors, write_json


def save_model(
    folder: Path,
    info: ModelInfo,
    state: Mapping[str, Tensor],
    *,
    dtype: torch.dtype = torch.float16,
    shard_bytes: int = 48_000_000,
) -> None:
    """Write the LM and the card of a model folder; codec and text encoder are the caller's.

    The result loads in transformers' MusicgenForCausalLM. A text projection, which that class does
    not have, goes into a file of its own.

    Args:
        folder: where to; made if it is not there.
        info: `folder` inside it is ignored.
        state: weights in our layout.
        dtype: stored dtype.
        shard_bytes: no file is larger, as far as single tensors allow.

    Raises:
        StorageError: the disk is full or the folder cannot be written.
    """
    tensors = {n: t.detach().cpu().to(dtype) for n, t in to_transformers(state, info.lm).items()}
    card = {
        "format": FORMAT,
        "name": info.name,
        "text_hidden_size": info.lm.text_hidden_size,
        "frame_rate": info.frame_rate,
        "window_frames": info.window.frames,
        "keep_frames": info.window.keep_frames,
        "sampling": asdict(info.sampling),
        **({"lead": asdict(info.lead)} if info.lead is not None else {}),
        "text_encoder": dict(info.text_encoder),
        "codec": dict(info.codec),
        "license": info.license,
        "notes": dict(info.notes),
    }
    config = config_to_transformers(info.lm) | {"dtype": str(dtype).removeprefix("torch.")}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        projection = {n: tensors.pop(n) for n in list(tensors) if n.startswith("enc_to_dec_proj.")}
        if projection:
            save_tensors(projection, folder / "text_projection.safetensors")
        shards = _split(tensors, shard_bytes)
        if len(shards) == 1:
            save_tensors(tensors, folder / "model.safetensors")
        else:
            names = [
                f"model-{i + 1:05d}-of-{len(shards):05d}.safetensors" for i in range(len(shards))
            ]
            for name, shard in zip(names, shards, strict=True):
                save_tensors(shard, folder / name)
            index = {
                "metadata": {"total_size": sum(t.nbytes for t in tensors.values())},
                "weight_map": {t: n for n, s in zip(names, shards, strict=True) for t in s},
            }
            write_json(folder / "model.safetensors.index.json", index)
        write_json(folder / "config.json", config)
        write_json(folder / CARD, card)
    except (OSError, SafetensorError) as error:
        raise StorageError(f"cannot write the model to {folder}: {error}") from error


def _split(tensors: Mapping[str, Tensor], shard_bytes: int) -> list[dict[str, Tensor]]:
    """Distribute tensors in order over shards of at most `shard_bytes`."""
    shards: list[dict[str, Tensor]] = [{}]
    size = 0
    for name, tensor in tensors.items():
        if shards[-1] and size + tensor.nbytes > shard_bytes:
            shards.append({})
            size = 0
        shards[-1][name] = tensor
        size += tensor.nbytes
    return shards
