"""What the run of an endpoint works with, and whether it fits together."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from musicgen_rl.checkpoint import ModelInfo
from musicgen_rl.codec.base import Codec
from musicgen_rl.errors import ConfigError
from musicgen_rl.text.base import TextEncoder
from musicgen_rl.training.endpoint_clips import Embed, Score
from musicgen_rl.training.endpoint_config import EndpointConfig
from musicgen_rl.training.prompts import require_enough
from musicgen_rl.training.rollout import frames_of


@dataclass(frozen=True, kw_only=True)
class EndpointParts:
    """What a run works with, all loaded."""

    base: ModelInfo
    """The model both ends come from."""
    base_state: Mapping[str, Tensor]
    """Its weights: the teacher's."""
    start: ModelInfo | None
    """The model the student starts from; the base where None."""
    start_state: Mapping[str, Tensor]
    """Its weights."""
    text: TextEncoder
    codec: Codec
    prompts: list[str]
    text_hash: str | None = None
    """Tells `text` from others; None where it lies in the model's own file."""
    codec_hash: str | None = None
    """Tells `codec` from others, likewise."""
    encoder: Embed | None = None
    """The training encoder."""
    held_out: Embed | None = None
    """An encoder that training never sees, for the guard."""
    scorer: Score | None = None
    """Text-audio scorer, for the guard."""
    notes: Mapping[str, Any] | None = None
    """For the card: command, preset, instruments."""


def check_fit(
    parts: EndpointParts,
    config: EndpointConfig,
    processes: int = 1,
    device: torch.device | str = "cpu",
) -> None:
    """Check what a run is given, before any training.

    Raises:
        ConfigError, InputError: what does not fit, in one sentence.
    """
    base = parts.base
    if config.prompts_per_step % processes:
        raise ConfigError(
            f"prompts_per_step {config.prompts_per_step} is not a multiple of the {processes} "
            "processes"
        )
    if config.diversity_weight and parts.encoder is None:
        raise ConfigError(
            f"diversity_weight {config.diversity_weight:g} needs the training encoder: give "
            "--encoder FOLDER"
        )
    if config.diversity_weight and config.reward == "answered" and parts.scorer is None:
        raise ConfigError(
            "reward answered needs the training scorer, which is not among the instruments: give "
            "--instruments FOLDER with a scorer-training, or take reward cosine"
        )
    longest = max(config.clip_s, config.long_clip_s)
    if frames_of(longest, base.frame_rate) > base.window.frames:
        raise ConfigError(
            f"clips of {longest:g} s are longer than the model's window of "
            f"{base.window.frames / base.frame_rate:g} s: lower clip_s or long_clip_s"
        )
    config.weights_of(base.lm.num_codebooks)
    if config.reward_codebooks > base.lm.num_codebooks:
        raise ConfigError(
            f"reward_codebooks {config.reward_codebooks} is more than the model's "
            f"{base.lm.num_codebooks} codebooks: use 0 for all"
        )
    require_enough(parts.prompts, config.prompts_per_step, "the prompts file")
    rate = parts.codec.sample_rate
    shortest = frames_of(config.clip_s, base.frame_rate) * parts.codec.hop_length
    for encoder in (parts.encoder, parts.held_out):  # each says itself what it cannot hear
        if encoder is not None:
            encoder.embed(torch.zeros(1, shortest, device=device), rate)
    if config.train == "norms" and config.start_blend == 0 and config.diversity_weight == 0:
        raise ConfigError(
            "train norms alone cannot distil a teacher: use --train all or --train low-rank"
        )
