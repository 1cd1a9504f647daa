"""Shapes that are measured, and random models of them."""

from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from musicgen_rl.checkpoint import ModelInfo, checkpoints_folder, save_model
from musicgen_rl.codec.frame import FrameCodec
from musicgen_rl.codec.load import save_codec
from musicgen_rl.config import FrameCodecConfig, LMConfig, SamplingConfig
from musicgen_rl.lm.condition import Condition
from musicgen_rl.lm.transformer import MusicLM
from musicgen_rl.sampling.decode import Window

TEXT_LENGTH = 16
"""Text states of a prompt of ten words or so."""

DECODER_30M = LMConfig(
    hidden_size=512, num_layers=6, num_heads=8, ffn_size=2048, text_hidden_size=512
)
MUSICGEN_SMALL = LMConfig(
    hidden_size=1024, num_layers=24, num_heads=16, ffn_size=4096, text_hidden_size=1024,
    codebook_size=2048, max_frames=2048,
)  # fmt: skip
POCKET = LMConfig(num_codebooks=8, max_frames=750)
"""25 frames a second: a step has 40 ms."""
_POCKET_CODEC = FrameCodecConfig(
    hop_length=1280, num_codebooks=8, codebook_dim=128, decoder_layers=6
)
TINY = LMConfig(
    hidden_size=64, num_layers=2, num_heads=2, ffn_size=128, text_hidden_size=64, codebook_size=64
)
_TINY_CODEC = FrameCodecConfig(
    n_fft=1280, n_mels=20, codebook_dim=8, encoder_layers=1, encoder_width=16, decoder_layers=1,
    decoder_width=16,
)  # fmt: skip


@lru_cache(maxsize=1)
def random_lm(config: LMConfig) -> MusicLM:
    """Make a model with random weights, ready to run; the same object each time: only read it."""
    torch.manual_seed(0)
    return MusicLM(config).eval().requires_grad_(False)


def random_condition(config: LMConfig, rows: int) -> Condition:
    """Make text states of `rows` prompts."""
    hidden = torch.randn(rows, TEXT_LENGTH, config.text_hidden_size)
    return Condition(hidden, torch.ones(rows, TEXT_LENGTH, dtype=torch.bool))


def random_tokens(config: LMConfig, rows: int, steps: int) -> Tensor:
    """Draw tokens [rows, K, steps]."""
    return torch.randint(0, config.codebook_size, (rows, config.num_codebooks, steps))


def pocket_folder(temporary: Path, *, tiny: bool) -> tuple[str, str]:
    """Find pocket, or make a random model of its shape.

    Args:
        temporary: where a random model goes.
        tiny: make a tiny one in any case.

    Returns:
        What `Pipeline.load` takes, and what to call it in the result.
    """
    if (checkpoints_folder() / "pocket" / "config.json").is_file() and not tiny:
        return "pocket", "pocket"
    folder = temporary / ("tiny" if tiny else "random-pocket")
    lm = LMConfig(hidden_size=64, num_layers=2, num_heads=2, ffn_size=128) if tiny else POCKET
    codec = _TINY_CODEC if tiny else _POCKET_CODEC
    if not folder.is_dir():
        info = ModelInfo(
            name=folder.name,
            folder=folder,
            lm=lm,
            window=Window(frames=500, keep_frames=200 if tiny else 100),
            frame_rate=codec.frame_rate,
            sampling=SamplingConfig(),
            text_encoder={"type": "minilm", "path": str(checkpoints_folder() / "minilm")},
            codec={"type": "frame", "path": "codec"},
            license="Apache-2.0",
        )
        save_model(folder, info, random_lm(lm).state_dict())
        save_codec(FrameCodec(codec), folder / "codec")
    return str(folder), "random weights of pocket's shape" if not tiny else "a tiny random model"
