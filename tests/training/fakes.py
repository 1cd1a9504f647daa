"""Small stand-ins that the training tests share."""

import torch
from torch import Tensor

from musicgen_rl.config import LMConfig
from musicgen_rl.training.dataset import TextStates, TokenDataset, TokenPiece

CONFIG = LMConfig(
    num_codebooks=2, codebook_size=8, hidden_size=16, num_layers=2, num_heads=2, ffn_size=32,
    text_hidden_size=16, max_frames=32,
)  # fmt: skip


class MeanCodec:
    """Codes are the frame's mean in sixteenths, and twice that: easy to know by hand."""

    device = torch.device("cpu")
    sample_rate = 1000
    hop_length = 10
    num_codebooks = 2
    codebook_size = 64
    audio_channels = 1
    context_frames = (0, 0)

    def __init__(self) -> None:
        self.frames_seen = 0

    def encode(self, samples: Tensor) -> Tensor:
        B, C, M = samples.shape
        padded = torch.nn.functional.pad(samples, (0, -M % 10))
        code = (padded.view(B, C, -1, 10).mean(-1) * 16).round().long().clamp(0, 16)
        self.frames_seen += code.shape[-1]
        return torch.cat([code, 2 * code], dim=1)

    def decode(self, codes: Tensor) -> Tensor:
        return (codes[:, :1].float() / 16).repeat_interleave(10, dim=-1)


def ramps(frames: int, up: bool) -> Tensor:
    """Codes [2, frames] that count up or down modulo 8: the prompt tells which."""
    count = torch.arange(frames) if up else -torch.arange(frames)
    return torch.stack([count % 8, (count + 3) % 8]).to(torch.uint16)


def ramp_data() -> tuple[TokenDataset, TokenDataset, TextStates]:
    """Train and held-out pieces, and text states of the captions "up" and "down"."""
    pieces = [
        TokenPiece(ramps(40, up), ("up" if up else "down",), f"{up}", "train", {})
        for up in (True, False)
    ]
    train = TokenDataset(pieces, ["up", "down"], CONFIG.pad_token)
    valid = TokenDataset(pieces, ["up", "down"], CONFIG.pad_token)
    hidden = 4 * torch.eye(16)[:3]
    return train, valid, TextStates(hidden, torch.tensor([0, 1, 3]))
