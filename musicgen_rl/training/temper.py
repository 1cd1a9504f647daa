"""Fold a temperature into a model's heads, so that it is sampled best at temperature 1.

    python -m musicgen_rl.training.temper MODEL --temperature 1.1 --out FOLDER

A model that has seen its music many times can be well calibrated on true music and still, left to
itself, hold one note for long: what it samples is surer than what it learnt from. A temperature
above 1 undoes that. In the heads it holds everywhere: for sampling, for guidance, for the
distillation of guidance and the reward, which all begin with the model at temperature 1.

Divided by T, the logits at temperature 1 are those at temperature T before, guided ones too:
guidance is linear in them. The ends of the dial inside the folder are done with it; a low-rank end
has no heads of its own.
"""

import shutil
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from musicgen_rl.checkpoint import (
    CARD,
    LOW_RANK,
    ModelInfo,
    load_state,
    model_hash,
    read_info,
    save_model,
)
from musicgen_rl.config import require_number
from musicgen_rl.errors import ConfigError, MusicgenRLError, StorageError
from musicgen_rl.storage import read_json, write_json
from musicgen_rl.training.endpoint_config import ENDS

HEADS = "heads.weight"


def temper(source: Path, target: Path, temperature: float) -> Path:
    """Write a model folder, ends and all, with a temperature folded into its heads.

    Args:
        source: a folder of this project's own kind.
        target: a new folder.
        temperature: of sampling that becomes 1.

    Returns:
        The target.

    Raises:
        ConfigError: the temperature is out of range, the target is there, or the source is a
            low-rank end.
        CheckpointError: the source is damaged.
        StorageError: the target cannot be written.
    """
    require_number("temperature", temperature, 0.1, 10.0)
    if target.exists():
        raise ConfigError(f"{target} is there already: name a new folder")
    if (source / LOW_RANK).is_file():
        raise ConfigError(f"{source} has no heads of its own: temper the model it lies over")
    read_info(source)
    try:
        shutil.copytree(source, target)
    except OSError as error:
        raise StorageError(f"cannot write {target}: {error}") from error
    folders = [target, *(target / end for end in ENDS if (target / end).is_dir())]
    before = {folder: model_hash(read_info(folder)) for folder in folders}
    for folder in folders:
        if not (folder / LOW_RANK).is_file():
            _divide_heads(folder, temperature)
    after = {before[folder]: model_hash(read_info(folder)) for folder in folders}
    for folder in folders:
        card = read_json(folder / CARD)
        told = card["notes"].get("low_rank", {})
        for part in (card["notes"].get("base"), told.get("over"), told.get("towards")):
            if part and part.get("sha256") in after:
                part["sha256"] = after[part["sha256"]]
        write_json(folder / CARD, card)
    return target


def _divide_heads(folder: Path, temperature: float) -> None:
    info, state = tempered(read_info(folder), temperature)
    save_model(folder, info, state)


def tempered(info: ModelInfo, temperature: float) -> tuple[ModelInfo, dict[str, Tensor]]:
    """Return a model's card and weights with a temperature folded into its heads."""
    state = dict(load_state(info))
    if temperature == 1.0:
        return info, state
    state[HEADS] = state[HEADS].float() / temperature
    folded = float(info.notes.get("temperature_in_heads", 1.0)) * temperature
    return replace(info, notes={**info.notes, "temperature_in_heads": round(folded, 6)}), state


def main(arguments: Sequence[str] | None = None) -> int:
    """Run as a command; returns the exit status."""
    import argparse

    parser = argparse.ArgumentParser(description="Fold a temperature into a model's heads.")
    parser.add_argument("model", type=Path)
    parser.add_argument("--temperature", type=float, required=True)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args(arguments)
    try:
        sys.stdout.write(f"{temper(given.model, given.out, given.temperature)}\n")
    except MusicgenRLError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
