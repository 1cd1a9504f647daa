"""Carry the ends of the dial over to their base as it is after more training.

    python -m musicgen_rl.training.carry MODEL --base RUN/export --out FOLDER

Once a base has learnt more, its ends are those of another model: their distance from it is more
training than tuning. What tuning itself did, the end less the base that it began from, is added to
the new base instead. Whether that answers as well as ends that are tuned anew has to be measured;
it costs nothing. All else in the folder stays: adapters, which see no weights, codec and judges.
Heat that was folded into the old heads (`temper.py`) is folded into the new ones.

Source: arXiv:2212.04089, section 3 (task vectors), without a scale.
"""

import argparse
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from musicgen_rl.checkpoint import (
    CARD,
    LOW_RANK,
    ModelInfo,
    blended_with,
    find_model,
    lies_over,
    load_state,
    model_hash,
    read_info,
    save_model,
)
from musicgen_rl.errors import ConfigError, MusicgenRLError
from musicgen_rl.lm.low_rank import LowRankDelta, blend
from musicgen_rl.storage import read_json, read_tensors, save_tensors, write_json
from musicgen_rl.training.endpoint_config import ENDS
from musicgen_rl.training.endpoint_export import whole_folder
from musicgen_rl.training.temper import FOLDED, tempered

PAGE = "README.md"


def carry(source: Path, base: Path, target: Path) -> Path:
    """Write a model with a dial whose base has learnt more, and whose ends are carried over.

    Args:
        source: folder of a base with its ends inside, of this project's own kind.
        base: folder of the base after more training, of the same shape and codec.
        target: a new folder. It has no page of its own: what the old one measured is of the old
            weights.

    Returns:
        The target.

    Raises:
        ConfigError: the target is there, there are no ends to carry, or the bases do not match.
        CheckpointError: a model is damaged.
        StorageError: the target cannot be written.
    """
    if target.exists():
        raise ConfigError(f"{target} is there already: name a new folder")
    old, new = read_info(source), read_info(base)
    ends = [end for end in ENDS if (source / end).is_dir()]
    _require_fit(old, new, ends)
    warm, state = tempered(new, _heat_missing(old, new))
    before = load_state(old)
    with whole_folder(target) as folder:
        shutil.copytree(source, folder, dirs_exist_ok=True)
        (folder / PAGE).unlink(missing_ok=True)
        save_model(folder, replace(old, notes=warm.notes), state)
        now = load_state(read_info(folder))
        for end in sorted(ends, key=lambda end: (source / end / LOW_RANK).is_file()):
            if (source / end / LOW_RANK).is_file():
                _carry_low_rank(source / end, folder / end)
            else:
                info = read_info(source / end)
                save_model(folder / end, info, _moved(load_state(info), before, now))
            _tell(old, folder, end)
    return target


def _require_fit(old: ModelInfo, new: ModelInfo, ends: Sequence[str]) -> None:
    if not ends:
        raise ConfigError(f"{old.folder} has no ends to carry over: name a model with a dial")
    if replace(old.lm, dropout=0.0) != replace(new.lm, dropout=0.0):
        raise ConfigError(f"{new.folder} is of another shape than {old.folder}: train it from that")
    codecs = [info.notes.get("codec_hash") for info in (old, new)]
    if codecs[0] != codecs[1]:
        raise ConfigError(
            f"{new.folder} speaks the codes of codec {codecs[1]}, {old.folder} of {codecs[0]}"
        )


def _heat_missing(old: ModelInfo, new: ModelInfo) -> list[float]:
    """Tell by what the new heads have to be divided to be as hot as the old ones."""
    heats = []
    for info in (old, new):
        told = info.notes.get(FOLDED, 1.0)
        heats.append(told if isinstance(told, list) else [told] * info.lm.num_codebooks)
    return [round(a / b, 6) for a, b in zip(*heats, strict=True)]


def _moved(
    state: Mapping[str, Tensor], before: Mapping[str, Tensor], now: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Move weights as far as others have moved; in float64, so that no way changes no bit."""
    return {
        n: (now[n].double() + t.double() - before[n].double()).float() for n, t in state.items()
    }


def _carry_low_rank(source: Path, target: Path) -> None:
    """Let a low-rank end lie over the models carried so far; its factors stay as they are."""
    starts = []
    for folder in (source, target):
        card = read_json(folder / CARD)
        if folder == target:
            for part in ("over", "towards"):
                told = card["notes"]["low_rank"].get(part)
                if told is not None:
                    told["sha256"] = model_hash(read_info(folder / told["path"]))
            write_json(folder / CARD, card)
        info = read_info(folder)
        over, towards = load_state(lies_over(info)), blended_with(info)
        starts.append(blend(over, load_state(towards[0]), towards[1]) if towards else over)
    delta = LowRankDelta.from_tensors(read_tensors([source / LOW_RANK]), str(source / LOW_RANK))
    whole = _moved(delta.whole, *starts)
    save_tensors(LowRankDelta(delta.factors, whole).tensors(), target / LOW_RANK)


def _tell(old: ModelInfo, target: Path, end: str) -> None:
    """Write into an end's card what its base is now, and whose base taught it."""
    card = read_json(target / end / CARD)
    card["notes"]["carried"] = {"from": {"name": old.name, "sha256": model_hash(old)}}
    base = read_info(target)
    card["notes"]["base"] = {"name": base.name, "sha256": model_hash(base)}
    write_json(target / end / CARD, card)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run as a command; returns the exit status."""
    parser = argparse.ArgumentParser(description="Carry the ends of the dial over to a new base.")
    parser.add_argument("model", help="name or folder of a base with its ends")
    parser.add_argument("--base", type=Path, required=True, help="folder of the base trained on")
    parser.add_argument("--out", type=Path, required=True, help="a new folder")
    given = parser.parse_args(arguments)
    try:
        sys.stdout.write(f"{carry(find_model(given.model), given.base, given.out)}\n")
    except MusicgenRLError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
