"""Prompts to train on: a text file or a manifest, and which of them a step takes."""

from pathlib import Path

import torch

from musicgen_rl.data.manifest import numbered_lines, parse_object
from musicgen_rl.errors import InputError


def read_prompts(path: str | Path, split: str = "train") -> list[str]:
    """Read prompts, each once, in order.

    Args:
        path: a text file with one prompt a line, or a manifest (JSON lines with "captions", or a
            "prompt" as `evaluate` reads them).
        split: of a manifest whose rows have one; rows of others are left out.

    Returns:
        At least one prompt.

    Raises:
        InputError: the file is missing, not text, broken, or holds no prompt; names the line.
    """
    path = Path(path)
    found: list[str] = []
    for number, line in numbered_lines(path):
        text = line.strip()
        if path.suffix == ".jsonl":
            found += _captions(text, split, f"{path}, line {number}")
        elif not text.startswith("#"):
            found.append(text)
    prompts = list(dict.fromkeys(p for p in found if p))
    if not prompts:
        what = f' of split "{split}"' if path.suffix == ".jsonl" else ""
        raise InputError(f"{path} holds no prompt{what}: write one a line")
    return prompts


def prompts_of_step(seed: int, step: int, count: int, total: int) -> list[int]:
    """Choose a step's prompts: every prompt once before any comes again.

    Nothing is remembered between steps, so a run that goes on takes the same.

    Args:
        seed: of the run.
        step: number of the step.
        count: prompts of every step.
        total: prompts there are, at least `count`.

    Returns:
        Numbers of different prompts.
    """
    per_round = total // count  # a round's last few prompts are left out of it
    generator = torch.Generator().manual_seed((seed * 1_000_003 + step // per_round) % 2**63)
    order = torch.randperm(total, generator=generator)
    first = (step % per_round) * count
    return [int(index) for index in order[first : first + count]]


def require_enough(prompts: list[str], per_step: int, source: str) -> None:
    """Check that a step's prompts can be different ones.

    Raises:
        InputError: there are fewer.
    """
    if len(prompts) < per_step:
        raise InputError(
            f"{source} holds {len(prompts)} different prompt{'s'[: len(prompts) != 1]}, a step "
            f"takes {per_step}: add prompts, or lower prompts_per_step"
        )


def _captions(text: str, split: str, where: str) -> list[str]:
    try:
        row = parse_object(text)
    except InputError as error:
        raise InputError(f"{where}: {error}") from None
    captions = next((row[n] for n in ("captions", "caption", "prompt") if n in row), None)
    captions = [captions] if isinstance(captions, str) else captions
    if not isinstance(captions, list) or not all(isinstance(c, str) for c in captions):
        raise InputError(f'{where}: no "captions": give a list of texts')
    return [c.strip() for c in captions] if row.get("split", split) == split else []
