"""Clips of the student's own: by the decode loop that makes every clip, without guidance.

The distribution that is sampled is the one whose log-probabilities enter the loss: the student's at
its temperature, no top-k, no top-p, no dropout.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from musicgen_rl.codec.base import Codec
from musicgen_rl.config import SamplingConfig
from musicgen_rl.lm.condition import Condition
from musicgen_rl.lm.transformer import MusicLM
from musicgen_rl.sampling.decode import DecodeStream, MakeRunner, Window
from musicgen_rl.sampling.randomness import clip_seed
from musicgen_rl.sampling.runner import EagerRunner, GraphRunner, Runner


def repeat_condition(condition: Condition, clips_per_prompt: int) -> Condition:
    """Give each of P prompts N rows, one after the other: [P, L, D] to [P * N, L, D]."""
    return Condition(
        condition.hidden.repeat_interleave(clips_per_prompt, dim=0),
        condition.mask.repeat_interleave(clips_per_prompt, dim=0),
    )


def take_rows(condition: Condition, rows: slice | Tensor) -> Condition:
    """Take some rows of a condition."""
    return Condition(condition.hidden[rows], condition.mask[rows])


@torch.no_grad()
def rollout(
    model: MusicLM,
    condition: Condition,
    *,
    seed: int,
    first_clip: int,
    num_frames: int,
    temperature: float,
    autocast: Callable[[], AbstractContextManager[object]] = nullcontext,
) -> Tensor:
    """Let a model make clips.

    Args:
        model: the student, its weights plain.
        condition: text of B clips.
        seed: of the run.
        first_clip: number of the first clip in the run; each hears random numbers of its own.
        num_frames: T; no longer than the model's context.
        temperature: of the student.
        autocast: makes the context of the loss's pass; for a model whose matrices are narrower
            than its norms.

    Returns:
        Codes, long [B, K, T], on the CPU.
    """
    config = model.config
    B = condition.mask.shape[0]
    stream = DecodeStream(
        config,
        decode_by(model),
        condition,
        SamplingConfig(guidance_scale=1.0, temperature=temperature, top_k=0, top_p=1.0),
        seeds=[clip_seed(seed, first_clip + index) for index in range(B)],
        window=Window(frames=max(num_frames, 2), keep_frames=1),
        num_frames=num_frames,
    )
    with autocast() if narrowed(model) else nullcontext():
        return stream.advance(num_frames)


@torch.no_grad()
def sound(codec: Codec, codes: Tensor, device: torch.device, rows: int = 16) -> Tensor:
    """Make codes heard.

    Args:
        codec: of the model.
        codes: [B, K, T].
        device: of the codec.
        rows: clips decoded at once.

    Returns:
        Samples, mono float32 [B, M], on the device: channels are averaged.
    """
    parts = [codec.decode(part.to(device)).mean(1) for part in torch.split(codes, rows)]
    return torch.cat(parts).clone()  # a copy that is no inference tensor


def silent_share(samples: Tensor, threshold_db: float = -60.0) -> float:
    """Tell which share of clips [B, M] is silent throughout, by the level of the loudest half."""
    level = samples.pow(2).unfold(1, samples.shape[1] // 2, samples.shape[1] // 2).mean(-1)
    return float((level.amax(1) < 10 ** (threshold_db / 10)).float().mean())


def repeated_share(codes: Tensor) -> float:
    """Tell which share of frames of codes [B, K, T] equals the frame before, in all codebooks."""
    if codes.shape[-1] < 2:
        return 0.0
    return float((codes[..., 1:] == codes[..., :-1]).all(1).float().mean())


def frames_of(duration_s: float, frame_rate: float) -> int:
    """Count the frames of a duration, at least 2."""
    return max(2, round(duration_s * frame_rate))


def narrowed(model: MusicLM) -> bool:
    """Tell whether a model's matrices are narrower than its norms, so that it needs autocast."""
    return model.heads.weight.dtype != model.norm.weight.dtype


def decode_by(model: MusicLM) -> MakeRunner:
    """Choose what decodes: a captured graph on a GPU, plain torch elsewhere.

    Keys and values are kept as the matrices are.
    """

    def make(rows: int, max_steps: int, text_length: int) -> Runner:
        dtype = model.heads.weight.dtype
        if model.norm.weight.device.type == "cuda":
            return GraphRunner(model, rows, max_steps, text_length, dtype)
        return EagerRunner(model, rows, max_steps, dtype)

    return make
