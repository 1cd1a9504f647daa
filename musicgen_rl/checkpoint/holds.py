"""What in a model's folder holds its clips to a tempo, a key or chords: `beat.safetensors`
(lm/beat.py), `key.safetensors` (lm/key.py) and `chords.safetensors` (lm/chords.py); and what finds
one where the words name none, `tempo.safetensors`, `scale.safetensors` and
`progression.safetensors` (text/sense.py)."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from musicgen_rl.checkpoint.info import ModelInfo
from musicgen_rl.checkpoint.load import model_hash, stated_base
from musicgen_rl.errors import CheckpointError, StorageError
from musicgen_rl.lm.beat import FEATURES, BeatAdapter
from musicgen_rl.lm.chords import ChordAdapter
from musicgen_rl.lm.key import KeyAdapter
from musicgen_rl.storage import hash_file, read_tensors, save_tensors, write_json

FORMAT = 1
A = TypeVar("A", KeyAdapter, ChordAdapter)


@dataclass(frozen=True)
class Hold:
    """An adapter that a model's folder may have."""

    name: str
    """Of its files, and of the command that trains it."""
    holds: str
    """What clips are held to by it."""
    held: str
    """The same in a sentence."""

    @property
    def file(self) -> str:
        """Name of its weights' file."""
        return f"{self.name}.safetensors"

    @property
    def card(self) -> str:
        """Name of the file that tells what it was made with."""
        return f"{self.name}.json"


BEAT = Hold("beat", "tempo", "a tempo")
KEY = Hold("key", "key", "a key")
CHORDS = Hold("chords", "chords", "chords")
HOLDS = (BEAT, KEY, CHORDS)
TEMPO_SENSE = Hold("tempo", "found tempo", "a tempo of its own finding")
KEY_SENSE = Hold("scale", "found key", "a key of its own finding")
CHORD_SENSE = Hold("progression", "found chords", "chords of its own finding")
SENSES = {BEAT: TEMPO_SENSE, KEY: KEY_SENSE, CHORDS: CHORD_SENSE}
"""What finds that which each holds."""
ALL = (*HOLDS, *SENSES.values())
"""Every file that a folder may have beside its model for this."""


def find_hold(info: ModelInfo, hold: Hold) -> Path | None:
    """Find a model's adapter: in its own folder or, for an end of a dial, in its base's around it.

    Returns:
        The weights' file; None where it has none.
    """
    own, base = info.folder / hold.file, info.folder.resolve().parent
    if own.is_file():
        return own
    stated = stated_base(info)
    if stated is None or not (base / hold.file).is_file():
        return None
    try:
        return base / hold.file if model_hash(replace(info, folder=base)) == stated else None
    except CheckpointError:  # no model lies there
        return None


def has_hold(info: ModelInfo, hold: Hold) -> bool:
    """Tell whether a model's clips can be held to it."""
    return find_hold(info, hold) is not None


def can_find(info: ModelInfo, hold: Hold) -> bool:
    """Tell whether a model finds by itself what its clips are held to."""
    return has_hold(info, hold) and has_hold(info, SENSES[hold])


def hold_hash(info: ModelInfo, hold: Hold) -> str:
    """Hash a model's adapter: sha256, hexadecimal; empty where it has none."""
    path = find_hold(info, hold)
    return "" if path is None else hash_file(path)


def copy_holds(models: Sequence[ModelInfo], folder: Path) -> None:
    """Copy what holds the clips of models of one base, with its cards, into the folder of another.

    Args:
        models: the first that has an adapter gives it.
        folder: it is there.
    """
    for hold in ALL:
        path = next((p for model in models if (p := find_hold(model, hold)) is not None), None)
        if path is not None:
            for file in (path, path.with_name(hold.card)):
                if file.is_file():
                    shutil.copyfile(file, folder / file.name)


def load_beat(info: ModelInfo) -> BeatAdapter:
    """Load a model's beat adapter in float32 on the CPU.

    Raises:
        CheckpointError: it is missing, damaged, or of another model's shape.
    """
    path = find_hold(info, BEAT) or info.folder / BEAT.file
    state = read_tensors([path])
    inner = state.get("inner.weight")
    if inner is None or inner.ndim != 2 or inner.shape[1] != FEATURES:
        raise CheckpointError(f"{path} is not a beat adapter of this version: train it again")
    with torch.device("meta"):
        adapter = BeatAdapter(info.lm.hidden_size, info.lm.num_layers, inner.shape[0])
    _fill(adapter, state, path, info)
    return adapter


def load_key(info: ModelInfo) -> KeyAdapter:
    """Load a model's key adapter in float32 on the CPU.

    Raises:
        CheckpointError: it is missing, damaged, or of another model's shape.
    """
    return _load_linear(info, KEY, KeyAdapter)


def load_chords(info: ModelInfo) -> ChordAdapter:
    """Load a model's chord adapter in float32 on the CPU.

    Raises:
        CheckpointError: it is missing, damaged, or of another model's shape.
    """
    return _load_linear(info, CHORDS, ChordAdapter)


def save_hold(
    hold: Hold, adapter: nn.Module, folder: Path, facts: Mapping[str, Any], strength: float = 1.0
) -> None:
    """Write an adapter: float16 weights and a card of what it was made with.

    Args:
        hold: which it is.
        adapter: trained; what it adds comes out of its layer `outer`.
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
    path = folder / hold.file
    try:
        folder.mkdir(parents=True, exist_ok=True)
        save_tensors(tensors, path)
        write_json(
            folder / hold.card,
            {"format": FORMAT, "sha256": hash_file(path), "strength": strength, **facts},
        )
    except (OSError, SafetensorError) as error:
        raise StorageError(f"cannot write the {hold.name} adapter to {folder}: {error}") from error


def _load_linear(info: ModelInfo, hold: Hold, kind: type[A]) -> A:
    """Load an adapter of one layer."""
    path = find_hold(info, hold) or info.folder / hold.file
    with torch.device("meta"):
        adapter = kind(info.lm.hidden_size, info.lm.num_layers)
    _fill(adapter, read_tensors([path]), path, info)
    return adapter


def _fill(adapter: nn.Module, state: Mapping[str, Tensor], path: Path, info: ModelInfo) -> None:
    """Put weights read from disk into an adapter of the model's shape, for use alone."""
    try:
        adapter.load_state_dict({n: t.float() for n, t in state.items()}, assign=True)
    except RuntimeError as error:
        raise CheckpointError(
            f"{path} was not trained for {info.name} ({info.lm.num_layers} blocks of width "
            f"{info.lm.hidden_size}): {error}"
        ) from None
    if not all(bool(torch.isfinite(t).all()) for t in adapter.state_dict().values()):
        raise CheckpointError(f"{path} holds numbers that are not finite: train it again")
    adapter.eval().requires_grad_(False)
