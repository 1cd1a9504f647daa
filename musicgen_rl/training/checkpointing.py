"""Training state on disk that survives a kill at any moment.

One safetensors file holds all tensors and, in its header, the JSON state, so the two cannot
disagree. It is written under a temporary name, fsynced and renamed; the one before it is kept as
`previous.safetensors` and is read where the newest is missing or damaged.

    save_training_state(folder, tensors, state)
    found = load_training_state(folder)          # (tensors, state), or None for a fresh start

`pack_rng` / `restore_rng` and `pack_optimizer` / `restore_optimizer` turn what torch keeps in
Python objects into such tensors and state, bit for bit.
"""

import hashlib
import json
import os
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from musicgen_rl.errors import CheckpointError, StorageError

JSON: TypeAlias = Any
"""What json.dumps takes: dict, list, str, int, float, bool, None."""

CURRENT = "state.safetensors"
PREVIOUS = "previous.safetensors"


def save_training_state(
    folder: str | Path, tensors: Mapping[str, Tensor], state: Mapping[str, JSON]
) -> Path:
    """Write tensors and state as one file, atomically, keeping the previous good one.

    Args:
        folder: created if missing.
        tensors: any dtypes and shapes; tensors that share memory are written apart.
        state: JSON values; floats come back bit-exactly.

    Returns:
        The file written.

    Raises:
        StorageError: the folder cannot be written or the disk is full; what was there is intact.
    """
    folder = Path(folder)
    temporary = folder / (CURRENT + ".tmp")
    current = folder / CURRENT
    header = {"state": json.dumps(dict(state))}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        save_file(_own_memory(tensors), temporary, metadata=header)
        sync(temporary)
        if current.exists():
            os.replace(current, folder / PREVIOUS)
        os.replace(temporary, current)
        sync(folder)
    except (OSError, SafetensorError) as error:
        _remove_quietly(temporary)
        raise StorageError(
            f"cannot write the training state to {current}: {error}; what was saved before is "
            "intact, free some space and start again with the same folder"
        ) from error
    return current


def load_training_state(folder: str | Path) -> tuple[dict[str, Tensor], dict[str, JSON]] | None:
    """Read the newest readable training state.

    Args:
        folder: what `save_training_state` wrote to; it need not exist.

    Returns:
        (tensors, state), or None where nothing was saved yet.

    Raises:
        CheckpointError: files are there and none of them can be read.
    """
    return _newest(folder, whole=True)


def read_training_state(folder: str | Path) -> dict[str, JSON] | None:
    """Read the JSON half of the newest readable training state, and no tensor.

    Args:
        folder: as of `load_training_state`.

    Returns:
        The state, or None where nothing was saved yet.

    Raises:
        CheckpointError: files are there and none of them can be read.
    """
    found = _newest(folder, whole=False)
    return None if found is None else found[1]


def _newest(folder: str | Path, *, whole: bool) -> tuple[dict[str, Tensor], dict[str, JSON]] | None:
    """Read the newest readable file, with its tensors or without."""
    found = [path for name in (CURRENT, PREVIOUS) if (path := Path(folder) / name).exists()]
    problems: list[str] = []
    for path in found:
        try:
            with safe_open(path, framework="pt") as opened:
                header = opened.metadata() or {}
                names = opened.keys() if whole else ()
                tensors = {name: opened.get_tensor(name) for name in names}
            return tensors, json.loads(header["state"])
        except (OSError, SafetensorError, KeyError, ValueError) as error:
            problems.append(f"{path}: {error}")
    if problems:
        raise CheckpointError(
            f"no training state can be read ({'; '.join(problems)}): remove the folder to start "
            "again from nothing"
        )
    return None


def pack_rng(generators: Mapping[str, torch.Generator] | None = None) -> dict[str, Tensor]:
    """Collect the state of every random number generator as tensors.

    Args:
        generators: further generators, by name.

    Returns:
        Tensors named rng.torch, rng.python, rng.numpy, rng.cuda.N and rng.generator.NAME.
    """
    packed = {"rng.torch": torch.get_rng_state()}
    for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        packed[f"rng.cuda.{index}"] = torch.cuda.get_rng_state(index)
    for name, generator in (generators or {}).items():
        packed[f"rng.generator.{name}"] = generator.get_state()
    packed["rng.python"] = _text_tensor(json.dumps(random.getstate()))
    _, keys, position, has_gauss, cached = np.random.get_state(legacy=True)  # noqa: NPY002
    numpy_state = [np.asarray(keys).tolist(), position, has_gauss, cached]
    packed["rng.numpy"] = _text_tensor(json.dumps(numpy_state))
    return packed


def restore_rng(
    tensors: Mapping[str, Tensor], generators: Mapping[str, torch.Generator] | None = None
) -> None:
    """Put every generator back to the state `pack_rng` saw.

    Args:
        tensors: a mapping that contains what `pack_rng` returned; other names are ignored.
        generators: the same names as were packed; set in place.

    Raises:
        CheckpointError: one of the states is missing.
    """
    try:
        torch.set_rng_state(tensors["rng.torch"])
        version, internal, gauss = json.loads(_tensor_text(tensors["rng.python"]))
        random.setstate((version, tuple(internal), gauss))
        keys, position, has_gauss, cached = json.loads(_tensor_text(tensors["rng.numpy"]))
        legacy = ("MT19937", np.array(keys, dtype=np.uint32), position, has_gauss, cached)
        np.random.set_state(legacy)  # noqa: NPY002
        for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
            if f"rng.cuda.{index}" in tensors:
                torch.cuda.set_rng_state(tensors[f"rng.cuda.{index}"], index)
        for name, generator in (generators or {}).items():
            generator.set_state(tensors[f"rng.generator.{name}"])
    except KeyError as error:
        raise CheckpointError(f"the training state lacks {error}") from error


def pack_optimizer(
    optimizer: torch.optim.Optimizer, prefix: str = "optimizer"
) -> tuple[dict[str, Tensor], JSON]:
    """Split an optimiser's state into tensors and JSON.

    Args:
        optimizer: any torch optimiser whose state holds tensors and JSON values.
        prefix: start of the tensors' names; one for each optimiser.

    Returns:
        Tensors named PREFIX.PARAMETER.KEY, and the rest, both for `restore_optimizer`.
    """
    full = optimizer.state_dict()
    tensors: dict[str, Tensor] = {}
    rest: dict[str, dict[str, JSON]] = {}
    for index, entry in full["state"].items():
        for key, value in entry.items():
            if isinstance(value, Tensor):
                tensors[f"{prefix}.{index}.{key}"] = value
            else:
                rest.setdefault(str(index), {})[key] = value
    return tensors, {"param_groups": full["param_groups"], "rest": rest}


def restore_optimizer(
    optimizer: torch.optim.Optimizer,
    tensors: Mapping[str, Tensor],
    state: JSON,
    prefix: str = "optimizer",
    *,
    keep_options: bool = False,
) -> None:
    """Put back what `pack_optimizer` took.

    Args:
        optimizer: built as the packed one was; set in place.
        tensors: a mapping that contains the packed tensors; other prefixes are ignored.
        state: the JSON half.
        prefix: as given to `pack_optimizer`.
        keep_options: leave the groups' rates, decays and the like as the optimiser was built;
            else they are those packed.

    Raises:
        CheckpointError: the state is of an optimiser with other parameter groups.
    """
    entries: dict[int, dict[str, JSON]] = {}
    for index, rest in state["rest"].items():
        entries.setdefault(int(index), {}).update(rest)
    for name, value in tensors.items():
        if name.startswith(prefix + "."):
            index, key = name.removeprefix(prefix + ".").split(".", 1)
            entries.setdefault(int(index), {})[key] = value
    built = [{k: v for k, v in g.items() if k != "params"} for g in optimizer.param_groups]
    try:
        optimizer.load_state_dict({"state": entries, "param_groups": state["param_groups"]})
    except (ValueError, KeyError) as error:
        raise CheckpointError(
            f"the saved optimiser does not fit this model: {error}; train with the options the "
            "run began with, or into a new folder"
        ) from error
    if keep_options:
        for group, options in zip(optimizer.param_groups, built, strict=True):
            group.update(options)


def hash_tensors(tensors: Mapping[str, Tensor]) -> str:
    """Hash tensors, names, dtypes and shapes, in whatever order: sha256, hexadecimal."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def sync(path: Path) -> None:
    """Make the kernel write a file, or a folder's names, to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _own_memory(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copy tensors where safetensors needs it: on the CPU, contiguous, no memory shared."""
    seen: set[int] = set()
    owned: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        plain = tensor.detach().cpu().contiguous()
        storage = plain.untyped_storage()
        if storage.data_ptr() in seen or storage.nbytes() != plain.nbytes:
            plain = plain.clone()
        seen.add(plain.untyped_storage().data_ptr())
        owned[name] = plain
    return owned


def _text_tensor(text: str) -> Tensor:
    return torch.tensor(list(text.encode()), dtype=torch.uint8)


def _tensor_text(tensor: Tensor) -> str:
    return bytes(tensor.tolist()).decode()


def _remove_quietly(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError:
        # The folder itself is gone or read-only: the first error already says so.
        return
