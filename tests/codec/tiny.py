"""A frame codec small enough for tests, and sounds to feed it."""

import math

import torch
from torch import Tensor

from musicgen_rl.codec.frame import FrameCodec
from musicgen_rl.config import FrameCodecConfig

TINY = FrameCodecConfig(
    sample_rate=8000, hop_length=160, n_fft=640, n_mels=24, num_codebooks=3, codebook_size=32,
    codebook_dim=8, encoder_layers=1, encoder_width=16, decoder_layers=2, decoder_width=24,
    kernel_size=3,
)  # fmt: skip


def tiny_codec(
    seed: int = 0, *, spread: float = 0.3, config: FrameCodecConfig = TINY
) -> FrameCodec:
    """A codec in which every weight matters: its zero-initialised heads are random here."""
    torch.manual_seed(seed)
    codec = FrameCodec(config)
    with torch.no_grad():
        for linear in (codec.tone_head, codec.noise_head, codec.to_latent, codec.sound):
            linear.weight.normal_(std=spread)
        codec.sound.bias.fill_(-5.0)
        codec.quantizer.entries.normal_()
    return codec.eval().requires_grad_(False)


def sine(hz: float, seconds: float, sample_rate: int, amplitude: float = 0.5) -> Tensor:
    """A sine, [M]."""
    time = torch.arange(round(seconds * sample_rate), dtype=torch.float64) / sample_rate
    return (amplitude * torch.sin(2.0 * math.pi * hz * time)).float()


def random_codes(codec: FrameCodec, batch: int, frames: int, seed: int = 1) -> Tensor:
    """Codes [batch, K, frames]."""
    generator = torch.Generator().manual_seed(seed)
    shape = (batch, codec.num_codebooks, frames)
    return torch.randint(0, codec.codebook_size, shape, generator=generator)
