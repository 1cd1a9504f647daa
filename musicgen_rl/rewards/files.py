"""Reward models on disk: `model.safetensors` in 16 bit, `reward.json`, and a card for people.

`reward.json` holds kind, name, role, the network's shape, for a probe its classes, the sha256 of
the weights, and what the card says: data, split, seeds, seconds, figures, licence.
"""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn

from musicgen_rl.errors import CheckpointError, ModelNotFoundError, StorageError
from musicgen_rl.rewards.identity import Identity
from musicgen_rl.rewards.towers import TowerConfig
from musicgen_rl.storage import hash_file, read_json, read_tensors, save_tensors, write_json

FORMAT = 1
DESCRIPTION = "reward.json"
WEIGHTS = "model.safetensors"
CARD = "README.md"


def save_reward_model(
    model: nn.Module,
    folder: Path,
    *,
    name: str,
    kind: str,
    role: str,
    tower: TowerConfig,
    shape: Mapping[str, Any],
    facts: Mapping[str, Any],
) -> Identity:
    """Write a reward model and its card.

    Args:
        model: its state is written, floats as float16.
        folder: created if missing; files of the same names are replaced.
        name: for people.
        kind: encoder, scorer or probe.
        role: training or report.
        tower: shape of its tower.
        shape: further numbers needed to build it, and a probe's classes; JSON values.
        facts: data, split, seeds, seconds, figures, license; JSON values, printed in the card.

    Returns:
        What it is called from now on.

    Raises:
        StorageError: the folder cannot be written.
    """
    Identity(name, "", kind, role)  # a wrong kind or role is named before anything is written
    tensors = {
        n: (t.detach().to(torch.float16) if t.is_floating_point() else t.detach()).contiguous()
        for n, t in model.state_dict().items()
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        save_tensors(tensors, folder / WEIGHTS)
        identity = Identity(name, hash_file(folder / WEIGHTS), kind, role)
        description = {
            "format": FORMAT, **identity.to_json(), "tower": asdict(tower), "shape": dict(shape),
            "facts": dict(facts),
        }  # fmt: skip
        write_json(folder / DESCRIPTION, description)
        (folder / CARD).write_text(card(identity, model, facts), encoding="utf-8")
    except (OSError, SafetensorError) as error:
        raise StorageError(f"cannot write the reward model to {folder}: {error}") from error
    return identity


def read_description(folder: str | Path, kind: str) -> tuple[Identity, TowerConfig, dict[str, Any]]:
    """Read what a reward model is, and check that its weights are those described.

    Args:
        folder: as `save_reward_model` wrote it.
        kind: what is expected.

    Returns:
        Its identity, the shape of its tower, and the rest of its shape.

    Raises:
        ModelNotFoundError: there is none.
        CheckpointError: it is of another kind or format, or the weights are other ones.
    """
    folder = Path(folder)
    if not (folder / DESCRIPTION).is_file() or not (folder / WEIGHTS).is_file():
        raise ModelNotFoundError(
            f"no {kind} in {str(folder)!r}: it needs {DESCRIPTION} and {WEIGHTS}; "
            f"`musicgen-rl train {kind}` makes them"
        )
    described = read_json(folder / DESCRIPTION)
    if described.get("format") != FORMAT:
        raise CheckpointError(
            f"{folder / DESCRIPTION} has format {described.get('format')!r}, this version reads "
            f"{FORMAT}"
        )
    identity = Identity.from_json(described)
    if identity.kind != kind:
        raise CheckpointError(f"{str(folder)!r} holds: {identity.kind}; expected: {kind}")
    if (found := hash_file(folder / WEIGHTS)) != identity.sha256:
        raise CheckpointError(
            f"the weights in {str(folder)!r} (sha256 {found[:12]}) are not those that "
            f"{DESCRIPTION} describes ({identity.sha256[:12]}): copy the folder again as a whole"
        )
    try:
        tower = TowerConfig(**described["tower"])
        return identity, tower, dict(described["shape"])
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{folder / DESCRIPTION} does not fit: {error}") from None


def fill(model: nn.Module, folder: str | Path) -> None:
    """Load a folder's weights into a model, in float32, and set it to evaluation.

    Raises:
        CheckpointError: a tensor is missing, left over, misshapen, or not finite.
    """
    folder = Path(folder)
    tensors = {
        n: t.float() if t.is_floating_point() else t
        for n, t in read_tensors([folder / WEIGHTS]).items()
    }
    bad = next((n for n, t in tensors.items() if not bool(torch.isfinite(t).all())), None)
    if bad is not None:
        raise CheckpointError(f"{bad} in {str(folder)!r} is not finite: train it again")
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        detail = " ".join(str(error).split())
        raise CheckpointError(f"the weights in {str(folder)!r} do not fit: {detail}") from None
    model.eval().requires_grad_(False)


def card(identity: Identity, model: nn.Module, facts: Mapping[str, Any]) -> str:
    """Write a reward model's card in Markdown."""
    millions = sum(p.numel() for p in model.parameters()) / 1e6
    use = (
        "Policies may be optimised against it, so it must not judge them."
        if identity.role == "training"
        else "For reports only: no policy, and no other reward, is ever trained with it."
    )
    article = "An" if identity.kind == "encoder" else "A"
    lines = [
        "---", f"license: {str(facts.get('license', 'unknown')).lower()}", "---", "",
        f"# {identity.name}", "",
        f"{article} {identity.kind}, {millions:.2f} M parameters, float16. "
        f"Role: **{identity.role}**.",
        use,
        "", f"sha256 of {WEIGHTS}: `{identity.sha256}`", "",
        "| | |", "|---|---|",
    ]  # fmt: skip
    for name, value in facts.items():
        if name != "figures":
            lines.append(f"| {name} | {_cell(value)} |")
    figures = facts.get("figures")
    if figures:
        lines += ["", "## Figures", "", "| measure | value |", "|---|---|"]
        lines += [f"| {name} | {_cell(value)} |" for name, value in figures.items()]
    return "\n".join(lines) + "\n"


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
    if isinstance(value, Mapping):
        return ", ".join(f"{k} {_cell(v)}" for k, v in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(_cell(v) for v in value)
    return str(value)
