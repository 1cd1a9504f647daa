"""Whether a run that goes on is the one that was begun: kind, options, and what it works with."""

import re
from collections.abc import Collection, Mapping
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from musicgen_rl.errors import CheckpointError
from musicgen_rl.training.checkpointing import read_training_state
from musicgen_rl.training.tokens import hash_folder

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

PLACES = ("state", ".")
"""Where a run keeps its state: in a folder of its own (models and ends), or beside the rest."""
KINDS = {
    "anchor": "contrast", "caption_dropout": "lm", "diversity_weight": "endpoints",
    "quantize_after": "codec", "least_pieces": "probe", "text_width": "scorer", "dim": "encoder",
}  # fmt: skip
"""An option -> the command whose runs have it, of several the first: what tells apart states of the
time when a state did not name its kind."""


def require_kind(folder: str | Path, kind: str) -> None:
    """Refuse a folder in which a run of another kind lies; cheap, so asked before anything else.

    Args:
        folder: of the run; it need not exist.
        kind: the command that is to train into it: lm, contrast, codec, encoder, scorer, probe or
            endpoints.

    Raises:
        CheckpointError: names the kind that is there; or the state cannot be read.
    """
    for place in PLACES:
        state = read_training_state(Path(folder) / place)
        if state is None or (found := kind_of(state)) == kind:
            continue
        if found is None:
            raise CheckpointError(
                f"{folder} holds a state that is of no run: train {kind} into a new folder"
            )
        raise CheckpointError(
            f"{folder} holds a run of `train {found}`, not of `train {kind}`: go on with that "
            "command, or train into a new folder"
        )


def kind_of(state: Mapping[str, Any]) -> str | None:
    """Tell which command's run a state is of, by its name or by its options; None: of no run."""
    if "kind" in state:
        return str(state["kind"])
    options = {**state.get("config", {}), **state.get("begun_with", {})}
    return next((kind for option, kind in KINDS.items() if option in options), None)


def require_same_options(
    folder: Path,
    before: Mapping[str, Any],
    now: "DataclassInstance",
    may_change: Collection[str],
) -> None:
    """Refuse to go on where an option that may not change is another than it was.

    Args:
        folder: of the run.
        before: the options of that time; one that is missing was not there yet, so its default
            held.
        now: the options given.
        may_change: names of those that may be others.

    Raises:
        CheckpointError: names the options, and what they were and are.
    """
    told = [
        f"{field.name} {then!r}, now {here!r}"
        for field in fields(now)
        if field.name not in may_change
        and (then := before.get(field.name, field.default)) != (here := getattr(now, field.name))
    ]
    if told:
        raise CheckpointError(
            f"{folder} was begun with {', and with '.join(told)}: give what it was begun with, or "
            "train into a new folder"
        )


def require_same_parts(
    folder: Path,
    before: Mapping[str, str | None],
    now: Mapping[str, str | None],
    ways: Mapping[str, str],
    *,
    or_none: Collection[str] = (),
) -> None:
    """Refuse to go on with what a run was not begun with.

    Args:
        folder: of the run.
        before: identities of the parts of that time; it may not tell of all.
        now: those of the parts given, likewise.
        ways: the name of each part -> the way out where it differs.
        or_none: parts of which None says that there is none; of the others it is unknown.

    Raises:
        CheckpointError: a part is another than it was.
    """
    for name, way in ways.items():
        if name not in before or name not in now:
            continue
        then, here = before[name], now[name]
        unknown = name not in or_none and None in (then, here)
        if then != here and not unknown:
            other = "other" if name.endswith("s") else "another"
            raise CheckpointError(
                f"{folder} was begun with {other} {name} ({short(then)}, now {short(here)}): "
                f"{way}, or train into a new folder"
            )


def hash_part(folder: str | Path) -> str:
    """Hash what a text encoder or a codec is loaded from, but for what is for people."""
    return hash_folder(folder, leave_out=("README.md",))


def short(identity: str | None) -> str:
    """Show the beginning of a hash, and of anything else all; None is none."""
    if identity is None:
        return "none"
    return identity[:12] if re.fullmatch("[0-9a-f]{13,}", identity) else identity
