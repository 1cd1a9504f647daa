"""A tiny model with judges of its own: 16 kHz sound, which tiny random encoders can hear."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import torch
from torch import nn

from musicgen_rl.codec.frame import FrameCodec
from musicgen_rl.codec.load import save_codec
from musicgen_rl.rewards.encoder import EncoderNet
from musicgen_rl.rewards.files import save_reward_model
from musicgen_rl.rewards.mel import level_free, mel_levels
from musicgen_rl.rewards.probe import ProbeNet
from musicgen_rl.rewards.scorer import ScorerNet
from musicgen_rl.rewards.towers import TowerConfig
from tests.models import TINY_CODEC, save_tiny

Net = TypeVar("Net", EncoderNet, ScorerNet)
TOWER = TowerConfig(kind="conv", width=16, layers=3, window_s=2.0)
CLASSES = {"style": ("jazz", "rock"), "moods": ("calm", "sad")}
CODEC = replace(TINY_CODEC, sample_rate=16000, hop_length=320, n_fft=1280)


def save_judged(folder: Path, seed: int = 0, **changes: object) -> Path:
    """Write a tiny random model of 16 kHz with `rewards/`: every instrument, none of any worth."""
    save_tiny(folder, seed, **changes)
    shutil.rmtree(folder / "codec")
    torch.manual_seed(seed)
    codec = FrameCodec(CODEC)
    for tensor in codec.state_dict().values():
        if tensor.is_floating_point():
            tensor.add_(torch.randn_like(tensor) * 0.05)
    save_codec(codec, folder / "codec")
    save_judges(folder / "rewards")
    return folder


def save_judges(folder: Path) -> Path:
    """Write tiny random encoders, scorers and a probe, each of its own weights."""
    torch.manual_seed(11)
    for role in ("training", "report"):
        _save(_centred(EncoderNet(TOWER, 8)), folder, "encoder", role, dim=8)
        save_scorer(folder, role)
    _save(ProbeNet(TOWER, CLASSES), folder, "probe", "report", classes=CLASSES)
    return folder


def save_scorer(folder: Path, role: str) -> None:
    """Write a tiny random scorer."""
    scorer = _centred(ScorerNet(TOWER, 8, 384, 16))
    _save(scorer, folder, "scorer", role, dim=8, text_size=384, text_width=16)


def _centred(net: Net) -> Net:
    """Take off what a random tower says to every sound, or all clips would seem alike to it."""
    time = torch.arange(CODEC.sample_rate) / CODEC.sample_rate
    tones = torch.stack([torch.sin(6.283 * f * time) for f in (110, 330, 990, 2970)])
    with torch.no_grad():
        usual = net.eval().tower(level_free(mel_levels(0.1 * tones, CODEC.sample_rate))).mean(0)
        net.project.bias.copy_(-net.project.weight @ usual)
    return net


def _save(net: nn.Module, folder: Path, kind: str, role: str, **shape: object) -> None:
    place = folder / (kind if kind == "probe" else f"{kind}-{role}")
    save_reward_model(
        net, place, name=f"tiny {kind} {role}", kind=kind, role=role, tower=TOWER, shape=shape,
        facts={"data": "none", "license": "CC0-1.0"},
    )  # fmt: skip
