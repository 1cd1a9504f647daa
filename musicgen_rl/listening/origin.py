"""Whose weights a study's clips come from: one name stands for one model from the start on."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from musicgen_rl.errors import InputError
from musicgen_rl.listening.files import read_json, write_json

WEIGHTS_FILE = "weights.json"


def claim_weights(folder: Path, models: Mapping[str, Mapping[str, str]]) -> Path:
    """Hold a study to the models that its clips were begun with, and write down new ones.

    Args:
        folder: of the study; where nothing is written down yet, these models are the first.
        models: by the name in study.yaml, the sha256 of each part that decides the sound. Parts
            that only one of two calls names, such as the ends of a dial, are not compared.

    Returns:
        The record's path.

    Raises:
        InputError: a name stands for another model now.
        StorageError: the record cannot be written.
    """
    path = folder / WEIGHTS_FILE
    way_out = f"delete {str(path)!r} to make all clips of models anew"
    before: dict[str, Any] = read_json(path, way_out) if path.exists() else {}
    for name, parts in models.items():
        kept = before.get(name, {})
        for part, now in parts.items():
            if (then := kept.get(part, now)) != now:
                raise InputError(
                    f"the model {name!r} is not the one that this study's clips were begun with: "
                    f"its {part} had sha256 {then:.12}, now {now:.12}; put that back, or {way_out}"
                )
    now_known = before | {name: before.get(name, {}) | dict(p) for name, p in models.items()}
    return path if now_known == before else write_json(path, now_known)
