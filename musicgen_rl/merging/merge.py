"""Two model folders in, one out: an ordinary checkpoint that remembers how it was made."""

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor

from musicgen_rl.checkpoint import (
    CARD,
    FORMAT,
    ModelInfo,
    find_model,
    model_hash,
    part_folder,
    read_info,
    save_model,
    weight_files,
)
from musicgen_rl.checkpoint.holds import copy_holds
from musicgen_rl.checkpoint.scorer import copy_scorer
from musicgen_rl.errors import ConfigError, StorageError
from musicgen_rl.lm.weights import to_transformers
from musicgen_rl.merging.endpoints import load_endpoints
from musicgen_rl.merging.ops import merge_states
from musicgen_rl.merging.recipe import MergeConfig
from musicgen_rl.storage import read_tensors, save_tensors, write_json

_BESIDE = ("*.json", "*.model", "*.txt")  # tokenizer and settings of a model in MusicGen's format


def merge_checkpoints(
    quality: str | Path,
    diversity: str | Path,
    out: str | Path,
    config: MergeConfig,
    *,
    base: str | Path | None = None,
    dtype: torch.dtype | None = None,
) -> Path:
    """Merge two models into a new folder, which `Pipeline.load` loads like any other.

    Computed in float32, rounded once. A folder in float32 gives the tokens of a slider at `lam`;
    one in half precision, weights a rounding away from the slider's, which keeps float32.

    Args:
        quality: the one at lam = 0: a folder, a name or a hub id.
        diversity: the one at lam = 1.
        out: the new folder; it may exist if it is empty.
        config: how.
        base: what both were tuned from; slerp and liti need it.
        dtype: to store; the parents' (the wider, where they differ) if None.

    Returns:
        The new folder. It appears whole, under its name, or not at all.

    Raises:
        ConfigError: a base is needed and not given, or `out` holds something.
        ModelError: a model is not there or damaged, or they may not be merged; says why.
        StorageError: the folder cannot be written, or the disk is too full.
    """
    if config.needs_base and base is None:
        raise ConfigError(
            f"method {config.method!r} needs --base: the model that both were tuned from"
        )
    target = _check_target(Path(out).expanduser())
    first, second = read_info(find_model(quality)), read_info(find_model(diversity))
    initial = None if base is None else read_info(find_model(base))
    _require_room(target, first, dtype)
    ends = load_endpoints(first, second, initial)
    kinds = {t.dtype for state in (ends.quality, ends.diversity) for t in state.values()}
    stored = dtype or _widest(kinds)
    notes = _notes(first, second, initial, config, stored)
    merged = merge_states(
        ends.quality,
        ends.diversity,
        config.lam,
        method=config.method,
        base=ends.base if config.needs_base else None,
        strength=config.strength,
    )
    info = replace(first, name=target.name, notes=notes, license=_license(first, second, initial))
    with _whole_or_nothing(target) as folder:
        if "path" in first.codec:
            _write_ours(folder, target, replace(info, folder=first.folder), merged, stored)
        else:
            write_composite(folder, info, merged, dtype)
        models = [m for m in (first, second, initial) if m is not None]
        copy_holds(models, folder)
        copy_scorer(models, folder)
    return target


def _write_ours(
    folder: Path, target: Path, info: ModelInfo, merged: Mapping[str, Tensor], dtype: torch.dtype
) -> None:
    """Write a folder of our own kind; parts inside the parent's are copied, others referred to."""
    parts: dict[str, dict[str, Any]] = {}
    for part, described in (("codec", info.codec), ("text_encoder", info.text_encoder)):
        found, home = part_folder(info, described), info.folder.resolve()
        if found.is_relative_to(home) and found != home:
            path = str(found.relative_to(home))
            shutil.copytree(found, folder / path)
        else:
            path = os.path.relpath(found, target)
        parts[part] = {**described, "path": path}
    card = replace(info, codec=parts["codec"], text_encoder=parts["text_encoder"])
    save_model(folder, card, merged, dtype=dtype)


def write_composite(
    folder: Path, info: ModelInfo, merged: Mapping[str, Tensor], dtype: torch.dtype | None
) -> None:
    """Write a folder in MusicGen's own format: the parent's files, its decoder's tensors ours.

    Args:
        folder: where to; it is there.
        info: what the card says; `folder` in it is the parent's.
        merged: the decoder's weights in our layout.
        dtype: to store them in; the parent's if None.
    """
    tensors = to_transformers(merged, info.lm)
    new = {n if n.startswith("enc_to_dec_proj.") else f"decoder.{n}": t for n, t in tensors.items()}
    for pattern in _BESIDE:
        for path in info.folder.glob(pattern):
            if path.name != CARD:
                shutil.copyfile(path, folder / path.name)
    for path in weight_files(info.folder):
        stored = read_tensors([path])
        save_tensors(
            {n: new[n].to(dtype or t.dtype) if n in new else t for n, t in stored.items()},
            folder / path.name,
        )
    card = {"format": FORMAT, "name": info.name, "license": info.license, "notes": dict(info.notes)}
    write_json(folder / CARD, card)


def _notes(
    quality: ModelInfo,
    diversity: ModelInfo,
    base: ModelInfo | None,
    config: MergeConfig,
    dtype: torch.dtype,
) -> dict[str, Any]:
    """Write the recipe down: parents with hashes, and how; and what still holds of the parents."""

    def named(info: ModelInfo) -> dict[str, str]:
        return {"name": info.name, "sha256": model_hash(info)}

    recipe: dict[str, Any] = {
        "quality": named(quality),
        "diversity": named(diversity),
        "base": None if base is None else named(base),
        "method": config.method,
        "lam": config.lam,
    }
    if config.method == "liti":
        recipe["strength"] = config.strength
    notes: dict[str, Any] = {"merge": recipe | {"dtype": str(dtype).removeprefix("torch.")}}
    of_base = recipe["base"] or quality.notes.get("base") or diversity.notes.get("base")
    if of_base:
        notes["base"] = of_base
    licenses = {x for m in (quality, diversity) for x in m.notes.get("data_licenses", [])}
    if licenses:
        notes["data_licenses"] = sorted(licenses)
    if "codec_hash" in quality.notes:
        notes["codec_hash"] = quality.notes["codec_hash"]
    return notes


def _license(*models: ModelInfo | None) -> str:
    """Join the parents' licences: all of them hold for a merge; unknown if one is."""
    names = list(dict.fromkeys(m.license for m in models if m is not None))
    return "unknown" if "unknown" in names else " AND ".join(names)


def _widest(kinds: set[torch.dtype]) -> torch.dtype:
    widest = kinds.pop()
    for kind in kinds:
        widest = torch.promote_types(widest, kind)
    return widest


def _check_target(out: Path) -> Path:
    """Resolve the output folder and refuse one that holds something."""
    target = out.resolve()
    if target.is_dir() and any(target.iterdir()):
        raise ConfigError(f"{out} is not empty: name a new folder")
    if target.exists() and not target.is_dir():
        raise ConfigError(f"{out} is a file: name a new folder")
    return target


def _require_room(target: Path, parent: ModelInfo, dtype: torch.dtype | None) -> None:
    """Refuse before the work what the disk has no room for."""
    where = next(p for p in (target, *target.parents) if p.exists())
    needed = sum(path.stat().st_size for path in weight_files(parent.folder))
    needed *= 2 if dtype == torch.float32 else 1  # the parents may be in half precision
    free = shutil.disk_usage(where).free
    if needed > free:
        raise StorageError(
            f"the merge needs up to {needed / 1e9:.2f} GB on the disk of {where}, "
            f"{free / 1e9:.2f} GB are free: make room or name another folder"
        )


@contextmanager
def _whole_or_nothing(target: Path) -> Iterator[Path]:
    """Lend a folder beside the target that becomes it at the end, or vanishes."""
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        temporary.mkdir(parents=True)
        yield temporary
        temporary.rename(target)  # takes the place of an empty folder, refuses a full one
    except (OSError, SafetensorError) as error:
        if isinstance(error, StorageError):
            raise
        raise StorageError(f"cannot write the merge to {target}: {error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
