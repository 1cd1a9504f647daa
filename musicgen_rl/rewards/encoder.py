"""The audio encoder E: clips to unit vectors that lie close where the music is of one piece."""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from musicgen_rl.rewards.files import fill, read_description
from musicgen_rl.rewards.identity import Identity
from musicgen_rl.rewards.mel import check_audio, level_free, mel_levels
from musicgen_rl.rewards.towers import Tower, TowerConfig

BATCH = 16
"""Clips heard at once: more is no faster on a CPU and costs memory."""
SAMPLE_RATE = 32000
"""Hz to bring audio to whose own rate cannot be heard."""


class EncoderNet(nn.Module):
    """A tower and a projection."""

    def __init__(self, tower: TowerConfig, dim: int) -> None:
        super().__init__()
        self.tower = Tower(tower)
        self.project = nn.Linear(tower.width, dim)

    def forward(self, frames: Tensor) -> Tensor:
        """Embed frames [B, T, N_MELS] as unit vectors [B, dim]."""
        return F.normalize(self.project(self.tower(frames)), dim=-1)


class AudioEncoder:
    """A loaded encoder."""

    def __init__(self, net: EncoderNet, identity: Identity) -> None:
        self._net = net.eval()
        self.identity = identity
        """Which one it is; goes into every result."""

    @property
    def sample_rate(self) -> int:
        """Hz to resample to; any multiple of 50 Hz from 16 kHz up is heard without."""
        return SAMPLE_RATE

    @property
    def dim(self) -> int:
        """d."""
        return self._net.project.out_features

    def to(self, device: torch.device | str) -> "AudioEncoder":
        """Move to a device, in place."""
        self._net.to(device)
        return self

    @torch.no_grad()
    def embed(self, samples: Tensor, sample_rate: int) -> Tensor:
        """Embed clips; each one's vector does not depend on the others.

        Args:
            samples: [B, M], mono, 1 s or longer; beyond 5 s in parts that are averaged.
            sample_rate: Hz.

        Returns:
            Unit vectors [B, d], float32, on the encoder's device.

        Raises:
            InputError: wrong rate or shape, too short, nan.
        """
        samples = check_audio(samples, sample_rate).to(self._net.project.weight.device)
        parts = [
            self._net(level_free(mel_levels(part, sample_rate)))
            for part in torch.split(samples, BATCH)
        ]
        return torch.cat(parts)


def load_encoder(folder: str | Path, device: torch.device | str = "cpu") -> AudioEncoder:
    """Load an encoder.

    Args:
        folder: holds reward.json and model.safetensors.
        device: where it runs.

    Raises:
        ModelNotFoundError: there is none.
        CheckpointError: it is damaged, or no encoder.
    """
    identity, tower, shape = read_description(folder, "encoder")
    net = EncoderNet(tower, int(shape["dim"]))
    fill(net, folder)
    return AudioEncoder(net, identity).to(device)
