"""Tiny models that may be merged: a base and fine-tunes of it."""

import shutil
from dataclasses import replace
from pathlib import Path

import torch

from musicgen_rl.checkpoint import load_state, model_hash, read_info, save_model
from musicgen_rl.lm.transformer import MusicLM
from tests.models import TINY_LM


def tune(base: Path, folder: Path, seed: int, *, dtype=torch.float32, knows_base=False, **changes):
    """Write a fine-tune of a tiny model: its weights moved a little, the same codec."""
    info = read_info(base)
    generator = torch.Generator().manual_seed(seed)
    state = {
        name: tensor + 0.05 * torch.randn(tensor.shape, generator=generator)
        for name, tensor in load_state(info).items()
    }
    if knows_base:
        changes["notes"] = {"base": {"name": info.name, "sha256": model_hash(info)}}
    save_model(folder, replace(info, **({"name": folder.name} | changes)), state, dtype=dtype)
    shutil.copytree(base / "codec", folder / "codec")
    return folder


def tiny_state(seed: int, *, near: dict | None = None) -> dict:
    """Make the state dict of a tiny LM, or one that is near another."""
    torch.manual_seed(seed)
    if near is not None:
        return {name: t + 0.05 * torch.randn_like(t) for name, t in near.items()}
    return {
        n: t.clone() + 0.1 * torch.randn_like(t) for n, t in MusicLM(TINY_LM).state_dict().items()
    }


def tiny_lm(seed: int = 9, dtype=torch.float32) -> MusicLM:
    """Make a tiny LM that is ready to run."""
    torch.manual_seed(seed)
    return MusicLM(TINY_LM).to(dtype).eval().requires_grad_(False)
