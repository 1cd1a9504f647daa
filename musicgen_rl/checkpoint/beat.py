"""A model folder's beat adapter: `beat.safetensors`, which holds a tempo (lm/beat.py)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from musicgen_rl.checkpoint.info import ModelInfo
from musicgen_rl.errors import CheckpointError, StorageError
from musicgen_rl.lm.beat import FEATURES, BeatAdapter
from musicgen_rl.storage import hash_file, read_tensors, save_tensors, write_json

BEAT = "beat.safetensors"
BEAT_CARD = "beat.json"
FORMAT = 1


def has_beat(info: ModelInfo) -> bool:
    """Tell whether a model can hold a tempo."""
    return (info.folder / BEAT).is_file()


def beat_hash(info: ModelInfo) -> str:
    """Hash a model's beat adapter: sha256, hexadecimal."""
    return hash_file(info.folder / BEAT)


def load_beat(info: ModelInfo) -> BeatAdapter:
    """Load a model's beat adapter in float32 on the CPU.

    Raises:
        CheckpointError: it is missing, damaged, or of another model's shape.
    """
    path = info.folder / BEAT
    state = read_tensors([path])
    inner = state.get("inner.weight")
    width, layers = info.lm.hidden_size, info.lm.num_layers
    if inner is None or inner.ndim != 2 or inner.shape[1] != FEATURES:
        raise CheckpointError(f"{path} is not a beat adapter of this version: train it again")
    with torch.device("meta"):
        adapter = BeatAdapter(width, layers, inner.shape[0])
    try:
        adapter.load_state_dict({n: t.float() for n, t in state.items()}, assign=True)
    except RuntimeError as error:
        raise CheckpointError(
            f"{path} was not trained for {info.name} ({layers} blocks of width {width}): {error}"
        ) from None
    if not all(bool(torch.isfinite(t).all()) for t in adapter.state_dict().values()):
        raise CheckpointError(f"{path} holds numbers that are not finite: train it again")
    return adapter.eval().requires_grad_(False)


def save_beat(
    adapter: BeatAdapter, folder: Path, facts: Mapping[str, Any], strength: float = 1.0
) -> None:
    """Write a beat adapter: float16 weights and a card of what it was made with.

    Args:
        adapter: trained.
        folder: created if missing; files of the same names are replaced.
        facts: JSON values.
        strength: what all it adds is multiplied by.

    Raises:
        StorageError: the folder cannot be written.
    """
    tensors = {
        name: (tensor * strength if name.startswith("outer.") else tensor).to(torch.float16)
        for name, tensor in adapter.state_dict().items()
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        save_tensors(tensors, folder / BEAT)
        write_json(
            folder / BEAT_CARD,
            {"format": FORMAT, "sha256": hash_file(folder / BEAT), "strength": strength, **facts},
        )
    except (OSError, SafetensorError) as error:
        raise StorageError(f"cannot write the beat adapter to {folder}: {error}") from error
