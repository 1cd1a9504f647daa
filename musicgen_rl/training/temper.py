"""Fold a temperature into a model's heads, so that it is sampled best at temperature 1.

    python -m musicgen_rl.training.temper MODEL --temperature 1.1 --out FOLDER
    python -m musicgen_rl.training.temper MODEL --temperature 1 1.2 1.2 1.2 --out FOLDER

A model that has seen its music many times can be well calibrated on true music and still, left to
itself, hold one note for long: what it samples is surer than what it learnt from. A temperature
above 1 undoes that. In the heads it holds everywhere: for sampling, for guidance, for the
distillation of guidance and the reward, which all begin with the model at temperature 1.

Divided by T, the logits at temperature 1 are those at temperature T before, guided ones too:
guidance is linear in them. Several temperatures are those of the codebooks in turn: the coarsest
may stay as it is, so that the beat stays, and the finer ones, which hold the notes, grow hotter.
The ends of the dial inside the folder are done with it; a low-rank end has no heads of its own.
"""

import shutil
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
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
from musicgen_rl.config import require, require_number
from musicgen_rl.errors import ConfigError, MusicgenRLError, StorageError
from musicgen_rl.storage import read_json, write_json
from musicgen_rl.training.endpoint_config import ENDS

HEADS = "heads.weight"
FOLDED = "temperature_in_heads"
"""Note that tells what was folded: a number, or one for each codebook."""


def temper(source: Path, target: Path, temperature: float | Sequence[float]) -> Path:
    """Write a model folder, ends and all, with a temperature folded into its heads.

    Args:
        source: a folder of this project's own kind.
        target: a new folder.
        temperature: of sampling that becomes 1; one, or one for each codebook.

    Returns:
        The target.

    Raises:
        ConfigError: a temperature is out of range, there are not as many as codebooks, the target
            is there, or the source is a low-rank end.
        CheckpointError: the source is damaged.
        StorageError: the target cannot be written.
    """
    if target.exists():
        raise ConfigError(f"{target} is there already: name a new folder")
    if (source / LOW_RANK).is_file():
        raise ConfigError(f"{source} has no heads of its own: temper the model it lies over")
    _by_codebook(temperature, read_info(source).lm.num_codebooks)
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


def _divide_heads(folder: Path, temperature: float | Sequence[float]) -> None:
    info, state = tempered(read_info(folder), temperature)
    save_model(folder, info, state)


def tempered(
    info: ModelInfo, temperature: float | Sequence[float]
) -> tuple[ModelInfo, dict[str, Tensor]]:
    """Return a model's card and weights with temperatures folded into its heads, as `temper`."""
    state = dict(load_state(info))
    K = info.lm.num_codebooks
    given = _by_codebook(temperature, K)
    if all(t == 1.0 for t in given):
        return info, state
    heads = state[HEADS].float()  # [K * V, D]
    state[HEADS] = (heads.view(K, -1, heads.shape[1]) / torch.tensor(given)[:, None, None]).view_as(
        heads
    )
    before = _by_codebook(info.notes.get(FOLDED, 1.0), K)
    folded = [round(a * b, 6) for a, b in zip(before, given, strict=True)]
    told = folded[0] if len(set(folded)) == 1 else folded
    return replace(info, notes={**info.notes, FOLDED: told}), state


def _by_codebook(temperature: float | Sequence[float], K: int) -> list[float]:
    """Give one temperature for each of K codebooks."""
    several = list(temperature) if isinstance(temperature, Sequence) else [temperature]
    for number in several:
        require_number("temperature", number, 0.1, 10.0)
    if len(several) == 1:
        return [float(several[0])] * K
    require(
        len(several) == K,
        f"{len(several)} temperatures for a model of {K} codebooks: give one, or {K}",
    )
    return [float(number) for number in several]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run as a command; returns the exit status."""
    import argparse

    parser = argparse.ArgumentParser(description="Fold a temperature into a model's heads.")
    parser.add_argument("model", type=Path)
    parser.add_argument("--temperature", type=float, nargs="+", required=True)
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
