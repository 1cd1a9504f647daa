"""Networks from log-mel frames to one vector a clip: a small ViT and a small ConvNet.

Both take [B, T, N_MELS] as `level_free` makes them and return [B, width]. Two unlike architectures,
so that what fools one need not fool the other.
"""

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from musicgen_rl.config import require, require_number
from musicgen_rl.rewards.mel import N_MELS, seconds_to_frames, windows

TOWERS = ("vit", "conv")


@dataclass(frozen=True, kw_only=True)
class TowerConfig:
    """Shape of a network from frames to a vector."""

    kind: str = "vit"
    """vit: a transformer over patches of whole height; conv: a residual ConvNet."""
    width: int = 192
    """vit: width of the transformer. conv: channels of its last stage. Also size of the vector."""
    layers: int = 6
    """vit: transformer blocks. conv: stages, each half as large and twice as wide."""
    heads: int = 6
    """vit: attention heads."""
    patch_frames: int = 5
    """vit: frames of a patch, 20 ms each."""
    window_s: float = 5.0
    """Longest part heard at once; longer clips are heard in parts and averaged."""

    def __post_init__(self) -> None:
        """Check every field."""
        require(self.kind in TOWERS, f"unknown tower {self.kind!r}: use {' or '.join(TOWERS)}")
        for name in ("width", "layers", "heads", "patch_frames"):
            value = getattr(self, name)
            require(isinstance(value, int) and value >= 1, f"{name} must be >= 1, got {value!r}")
        require_number("window_s", self.window_s, 1.0, 60.0, unit="s")
        if self.kind == "vit":
            require(
                self.width % (2 * self.heads) == 0,
                f"width {self.width} must be a multiple of twice the heads, {self.heads}",
            )
        else:
            require(
                self.layers <= 5 and self.width % 2 ** (self.layers - 1) == 0,
                f"a conv tower takes at most 5 layers and a width that {self.layers - 1} halvings "
                f"leave whole, got {self.layers} and {self.width}",
            )


class Block(nn.Module):
    """Pre-norm transformer block."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width)
        self.expand = nn.Linear(width, 4 * width)
        self.contract = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Transform tokens [B, P, width]."""
        B, P, width = x.shape
        qkv = self.qkv(self.norm1(x)).view(B, P, 3, self.heads, width // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # each [B, heads, P, width / heads]
        heard = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(B, P, width)
        x = x + self.out(heard)
        out: Tensor = x + self.contract(F.gelu(self.expand(self.norm2(x))))
        return out


class VitTower(nn.Module):
    """A transformer over patches of time, each as high as the spectrum; mean over time.

    Source: in the spirit of arXiv:2410.06084's encoder (ViT on mel, contrastive). Whole-height
    patches are ours: a quarter of the tokens, and pitch stays where it is.
    """

    def __init__(self, config: TowerConfig) -> None:
        super().__init__()
        self.patch_frames = config.patch_frames
        self.patch = nn.Linear(config.patch_frames * N_MELS, config.width)
        self.blocks = nn.ModuleList(Block(config.width, config.heads) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.width)

    def forward(self, frames: Tensor) -> Tensor:
        """Hear frames [B, T, N_MELS] as [B, width]; T below a whole patch's multiple is cut."""
        B, T, _ = frames.shape
        whole = T // self.patch_frames * self.patch_frames
        x = self.patch(frames[:, :whole].reshape(B, -1, self.patch_frames * N_MELS))
        x = x + positions(x.shape[1], x.shape[2]).to(x)
        for block in self.blocks:
            x = block(x)
        out: Tensor = self.norm(x.mean(dim=1))
        return out


def positions(count: int, width: int) -> Tensor:
    """Sines and cosines of places 0 .. count - 1, [count, width]."""
    rates = torch.exp(torch.arange(width // 2) * (-2.0 * math.log(1000.0) / width))
    angles = torch.arange(count)[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], dim=-1)


class ResidualStage(nn.Module):
    """Halve mel and time, then two convolutions around a shortcut."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=2, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.shortcut = nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Transform [B, inputs, T, F] to [B, outputs, T / 2, F / 2], rounded up."""
        y = self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x)))))
        return F.relu(y + self.shortcut(F.avg_pool2d(x, 2, ceil_mode=True)))


class ConvTower(nn.Module):
    """A residual ConvNet; at its end time is averaged and its peaks kept, mel stays in place."""

    def __init__(self, config: TowerConfig) -> None:
        super().__init__()
        channels = [config.width >> (config.layers - 1 - i) for i in range(config.layers)]
        self.stem = nn.Conv2d(1, channels[0], (7, 5), stride=(4, 2), padding=(3, 2), bias=False)
        self.stem_norm = nn.BatchNorm2d(channels[0])
        self.stages = nn.ModuleList(ResidualStage(a, b) for a, b in pairwise(channels))
        bands = N_MELS >> config.layers
        self.join = nn.Linear(2 * bands * config.width, config.width)
        self.norm = nn.LayerNorm(config.width)

    def forward(self, frames: Tensor) -> Tensor:
        """Hear frames [B, T, N_MELS] as [B, width]."""
        x = frames[:, None].contiguous(memory_format=torch.channels_last)
        x = F.relu(self.stem_norm(self.stem(x)))
        for stage in self.stages:
            x = stage(x)
        pooled = torch.cat([x.mean(dim=2), x.amax(dim=2)], dim=1)  # [B, 2 * width, bands]
        out: Tensor = self.norm(self.join(pooled.flatten(1)))
        return out


class Tower(nn.Module):
    """Either network, over clips of any length: windows are heard one by one and averaged."""

    def __init__(self, config: TowerConfig) -> None:
        super().__init__()
        self.config = config
        self.net: nn.Module = VitTower(config) if config.kind == "vit" else ConvTower(config)
        self.window_frames = seconds_to_frames(config.window_s)

    def forward(self, frames: Tensor) -> Tensor:
        """Hear frames [B, T, N_MELS] of T >= patch_frames as [B, width]."""
        parts = windows(frames, self.window_frames)  # [B, W, t, N_MELS]
        B, W = parts.shape[:2]
        out: Tensor = self.net(parts.flatten(0, 1)).view(B, W, -1).mean(dim=1)
        return out
