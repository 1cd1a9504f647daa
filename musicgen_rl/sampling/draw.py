"""Choosing the tokens of a column: guidance, filters and the draw, in torch or in native code."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from musicgen_rl.config import LMConfig, SamplingConfig
from musicgen_rl.lm.compiled import RUN
from musicgen_rl.lm.compiled_native import Block, native_function
from musicgen_rl.lm.compiled_weights import LERP
from musicgen_rl.sampling.filters import sample_tokens
from musicgen_rl.sampling.guidance import guide
from musicgen_rl.sampling.runner import Runner

_DRAW = "musicgen_rl.sampling.compiled_draw", "draw"
Draw = Callable[[Tensor, Tensor, SamplingConfig], Tensor]
"""Takes logits [rows, K, V] and numbers in [0, 1) [B, K]; gives tokens [B, K], on the CPU."""


def draw_for(runner: Runner, config: LMConfig, num_clips: int) -> Draw:
    """Choose how to draw from what a runner makes: natively where its steps are native too.

    What comes back may be overwritten by the next draw.
    """
    return native_draw(config, num_clips) if runner.native else draw_in_torch


def link_native() -> None:
    """Link, and where need be compile, what decoding runs natively: before anybody waits for it."""
    for function in (LERP, RUN, _DRAW):
        native_function(*function)


def draw_in_torch(logits: Tensor, uniform: Tensor, sampling: SamplingConfig) -> Tensor:
    """Draw on any device; the reference."""
    if sampling.guided:
        conditional, null = logits.chunk(2)
        logits = guide(conditional, null, sampling.guidance_scale)
    return sample_tokens(
        logits,
        uniform.to(logits.device),
        temperature=sampling.temperature,
        top_k=sampling.top_k,
        top_p=sampling.top_p,
    ).cpu()


def native_draw(config: LMConfig, num_clips: int) -> Draw:
    """Make a draw for float32 logits on the CPU that is one native call."""
    V, K = config.codebook_size, config.num_codebooks
    draw = native_function(*_DRAW)
    settings, uniforms = np.zeros(4), np.zeros((num_clips, K), np.float32)
    room = [np.empty(V, dtype) for dtype in (np.float32, np.int32, np.float32, np.int64)]
    drawn = np.zeros((num_clips, K), np.int64)
    out = torch.from_numpy(drawn)
    bound: tuple[int, Block] | None = None

    def draw_natively(logits: Tensor, uniform: Tensor, sampling: SamplingConfig) -> Tensor:
        nonlocal bound
        if bound is None or bound[0] != logits.data_ptr():
            block = Block(logits.numpy(), uniforms, settings, *room, drawn)
            bound = logits.data_ptr(), block
        uniforms[:] = uniform.numpy()
        settings[:] = (
            sampling.guidance_scale, sampling.temperature, sampling.top_k, sampling.top_p
        )  # fmt: skip
        draw(0, bound[1].address)
        return out

    return draw_natively
