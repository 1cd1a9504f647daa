"""Endpoints on disk: whole weights in 16 bits, or a low-rank file over the start's weights."""

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from musicgen_rl.checkpoint import (
    CARD,
    FORMAT,
    LOW_RANK,
    ModelInfo,
    part_folder,
    save_model,
    weight_files,
)
from musicgen_rl.errors import StorageError
from musicgen_rl.lm.low_rank import LowRankDelta, compose
from musicgen_rl.lm.weights import config_to_transformers
from musicgen_rl.merging.merge import write_composite
from musicgen_rl.storage import save_tensors, write_json
from musicgen_rl.training.adapters import Student

PARTS = ("codec", "text_encoder")
"""Of a model beside its LM."""


def export_endpoint(
    target: Path,
    name: str,
    base: ModelInfo,
    start: ModelInfo,
    start_state: Mapping[str, Tensor],
    student: Student,
    average: Mapping[str, Tensor],
    notes: Mapping[str, Any],
    *,
    base_sha256: str,
    start_sha256: str,
    share: float = 0.0,
) -> None:
    """Write an endpoint in place of what stood there, at once or not at all.

    Codec and text encoder are named where they lie, not copied; a model in MusicGen's own format,
    whose parts share one file, is written whole.

    Args:
        target: the folder.
        name: of the model.
        base: what both ends are tuned from; its parts, window and licence hold.
        start: the stored model that the student started from.
        start_state: weights the student started from: the start's, moved towards the base.
        student: what was trained.
        average: moving averages of what was trained.
        notes: for the card; the base is added.
        base_sha256: the base's `model_hash`; it takes minutes where a model is large, so it is
            taken once a run.
        start_sha256: the start's.
        share: how far the start was moved towards the base, a multiple of 1/256.

    Raises:
        StorageError: the folder cannot be written.
    """
    given = {"base": {"name": base.name, "sha256": base_sha256}, **notes}
    given |= {n: base.notes[n] for n in ("data_licenses", "codec_hash") if n in base.notes}
    sampling = base.sampling.unguided()
    card = replace(base, name=name, sampling=sampling, notes=given)
    with whole_folder(target) as temporary:
        if student.train != "low-rank":
            _write_whole(temporary, target, card, student.state(average))
        elif "path" not in base.codec:
            state = compose(start_state, student.delta(average))
            _write_whole(temporary, target, card, state)
        else:
            delta = student.delta(average)
            told = {"rank": student.rank, "over": _reference(start, start_sha256, target)}
            if share:
                told["towards"] = {**_reference(base, base_sha256, target), "share": share}
            card = replace(card, notes={**given, "low_rank": told})
            _write_low_rank(temporary, target, card, delta)


def room_needed(base: ModelInfo, parameters: Mapping[str, Tensor]) -> int:
    """Estimate the bytes a run writes: two states of four tensors a parameter, and the export."""
    trained = sum(p.numel() for p in parameters.values())
    return 2 * 4 * 4 * trained + sum(path.stat().st_size for path in weight_files(base.folder))


def require_room(folder: Path, needed: int) -> None:
    """Refuse before the work what the disk has no room for.

    Raises:
        StorageError: too little is free, or the folder cannot be written.
    """
    where = next(p for p in (folder.resolve(), *folder.resolve().parents) if p.exists())
    if not where.is_dir() or not os.access(where, os.W_OK):
        raise StorageError(f"{where} is no folder that can be written: name another --out")
    free = shutil.disk_usage(where).free
    if needed > free:
        raise StorageError(
            f"the run needs up to {needed / 1e9:.2f} GB on the disk of {where}, {free / 1e9:.2f} "
            "GB are free: make room or name another folder"
        )


def _write_whole(
    temporary: Path, target: Path, card: ModelInfo, state: Mapping[str, Tensor]
) -> None:
    if "path" not in card.codec:
        write_composite(temporary, card, state, None)
        return
    save_model(temporary, _with_paths(card, target), state, dtype=torch.float16)


def _write_low_rank(temporary: Path, target: Path, card: ModelInfo, delta: LowRankDelta) -> None:
    save_tensors(delta.tensors(), temporary / LOW_RANK)
    write_json(temporary / "config.json", config_to_transformers(card.lm) | {"dtype": "float32"})
    write_json(temporary / CARD, _card_of(_with_paths(card, target)))


def _reference(info: ModelInfo, sha256: str, target: Path) -> dict[str, Any]:
    """Refer to a model from a folder."""
    return {"name": info.name, "path": path_between(info.folder, target), "sha256": sha256}


def _card_of(info: ModelInfo) -> dict[str, Any]:
    """Write a card as `save_model` does."""
    return {
        "format": FORMAT,
        "name": info.name,
        "text_hidden_size": info.lm.text_hidden_size,
        "frame_rate": info.frame_rate,
        "window_frames": info.window.frames,
        "keep_frames": info.window.keep_frames,
        "sampling": vars(info.sampling).copy(),
        "text_encoder": dict(info.text_encoder),
        "codec": dict(info.codec),
        "license": info.license,
        "notes": dict(info.notes),
    }


def _with_paths(card: ModelInfo, target: Path) -> ModelInfo:
    """Name the base's codec and text encoder as seen from the target."""
    parts = {
        part: {
            **getattr(card, part),
            "path": path_between(part_folder(card, getattr(card, part)), target),
        }
        for part in PARTS
        if "path" in getattr(card, part)
    }
    return replace(card, **parts)  # type: ignore[arg-type]


def path_between(found: Path, target: Path) -> str:
    """Name a folder as seen from another."""
    return os.path.relpath(found.resolve(), target.resolve())


@contextmanager
def whole_folder(target: Path) -> Iterator[Path]:
    """Give an empty folder that takes the target's place once it is filled, or never.

    Raises:
        StorageError: it cannot be written.
    """
    temporary, old = (target.with_name(f".{target.name}.{os.getpid()}.{e}") for e in ("tmp", "old"))
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir(parents=True)
        yield temporary
        shutil.rmtree(old, ignore_errors=True)
        if target.exists():
            target.rename(old)
        temporary.rename(target)
        shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        if isinstance(error, StorageError):
            raise
        raise StorageError(f"cannot write the endpoint to {target}: {error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
