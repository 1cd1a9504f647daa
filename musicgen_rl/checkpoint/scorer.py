"""The scorer in a model's folder that chooses among takes of a clip (pipeline/takes.py)."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from musicgen_rl.checkpoint.info import ModelInfo
from musicgen_rl.checkpoint.load import stated_base

SCORER = Path("rewards/scorer-training")
"""Hears how well a clip answers its words. Reports measure with `rewards/scorer-report`."""


def find_scorer(info: ModelInfo) -> Path | None:
    """Find the scorer that chooses a model's takes: in its folder or, for an end, its base's.

    Returns:
        Its folder; None where there is none, as beside facebook/musicgen-*.
    """
    homes = [info.folder]
    if stated_base(info) is not None:
        homes.append(info.folder.resolve().parent)
    found = (home / SCORER for home in homes)
    return next((folder for folder in found if folder.is_dir()), None)


def copy_scorer(models: Sequence[ModelInfo], folder: Path) -> None:
    """Copy the scorer of models of one base into the folder of another.

    Args:
        models: the first that has one gives it.
        folder: it is there; a scorer that it has already stays.
    """
    found = next((place for model in models if (place := find_scorer(model)) is not None), None)
    target = folder / SCORER
    if found is None or target.exists():
        return
    half_made = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    shutil.copytree(found, half_made, dirs_exist_ok=True)
    half_made.rename(target)
