"""Configuration of an endpoint's training; apart, so that the command line reads it fast."""

import dataclasses
import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from musicgen_rl.config import require, require_number
from musicgen_rl.errors import ConfigError

PRESETS = Path(__file__).parent / "presets"
ENDS = ("quality", "diversity")
AUTO = "auto"
"""As a diversity_weight: to be found from the quality run (`endpoint_weight`)."""
TO_BE_FOUND = 1.0
"""Stands for a weight until it is found: above 0, so that all checks of a diversity end hold."""


@dataclass(frozen=True, kw_only=True)
class EndpointConfig:
    """How one end of the slider is trained."""

    diversity_weight: float = 0.0
    """Weight beta of the diversity reward against the KL summed over a clip's tokens; 0 is the
    quality end, the paper's diversity end has 15."""
    guidance_scale: float = 3.0
    """Guidance of the teacher, which is the frozen base."""
    negative_prompt: str = ""
    """What the teacher steers away from; empty means the null prompt."""
    kl_weight: float = 1.0
    """Weight of the distillation term."""
    kl_weight_final: float = -1.0
    """Weight at the end of the run, approached in a straight line; negative keeps kl_weight."""
    reward_delay: float = 0.0
    """Share of the run without the reward, while the critic learns."""
    reward_ramp: float = 0.0
    """Share of the run over which the reward's weight then grows to diversity_weight."""
    forward_share: float = 0.0
    """Share of the forward KL (teacher to student) in the distillation, as an arm to compare."""
    codebook_weights: str = ""
    """Weights of the KL of each codebook, by commas; the last one holds for those that follow;
    empty means 1 for all, as in the paper."""
    prompts_per_step: int = 16
    """Prompts of one step, over all processes."""
    clips_per_prompt: int = 2
    """N: clips of each prompt, at least 2: diversity is between them."""
    clip_s: float = 2.0
    """Seconds of a rollout."""
    long_clip_s: float = 0.0
    """Seconds of the longer rollouts of some steps, with fewer prompts for the same work; 0 for
    none."""
    long_every: int = 4
    """Every so many steps is one with long clips, where long_clip_s is set."""
    temperature: float = 1.0
    """The student's, in the rollout and in the loss alike; there is no top-k in training."""
    kl_share: float = 1.0
    """Share of a step's clips whose KL is computed, where the reward's variance, not the KL's,
    asks for many clips; the estimate stays unbiased."""
    credit: str = "critic"
    """Who is paid: "critic" spreads the pay over steps by an embedding-valued critic; "clip" pays
    every step of a clip alike."""
    baseline: str = "prompts"
    """With credit "clip": none, prompts (mean of the other prompts) or pairs (the pairs among the
    other clips, N >= 3)."""
    gae_lambda: float = 0.8
    """1 is unbiased, 0 has the least variance."""
    reward: str = "cosine"
    """Diversity of a set: "cosine" (mean pairwise 1 - cosine, the paper's), "determinant", or
    "answered": cosine, each pair paid only as far as both clips answer their caption."""
    answer_low: float = 0.2
    """Of "answered": the training scorer's score at which a clip counts for nothing."""
    answer_high: float = 0.6
    """Of "answered": the score from which on a clip counts in full; true clips have about that."""
    ridge: float = 0.1
    """Of the determinant: how near two clips may come before they count as one."""
    centred: bool = False
    """Take off what all clips share, the running mean of embeddings, before clips are compared. The
    paper does not; but where that mean is long, a policy is paid for leaving it together."""
    reward_codebooks: int = 0
    """Codebooks whose codes are paid, coarse ones first; 0 pays all. Fewer is less noise, and a
    bias, for fine codes move the embedding too."""
    bank_keep: float = 0.8
    """Weight of a prompt's remembered mean embedding against this step's other clips."""
    critic_lr: float = 1e-3
    """Learning rate of the critic."""
    critic_epochs: int = 2
    """Passes of the critic over each batch."""
    train: str = "all"
    """What is trained: "all" weights, "low-rank" (LoRA over the blocks) or "norms" alone."""
    rank: int = 4
    """Of the low-rank factors."""
    train_norms: bool = True
    """With low-rank: norms and biases too."""
    start_blend: float = 0.0
    """With --start: how far the start lies back towards the base, 0 (the given model) to 1, in
    steps of 1/256."""
    learning_rate: float = 2e-4
    """Peak rate of AdamW."""
    beta1: float = 0.9
    """AdamW's decay of the mean gradient; nearer 1 averages over more steps."""
    beta2: float = 0.99
    """AdamW's decay of the mean square."""
    weight_decay: float = 0.0
    """Decoupled weight decay."""
    warmup_steps: int = 5
    """Steps until the full rate."""
    final_rate: float = 0.1
    """Rate at the end of the cosine, as a share of the peak."""
    grad_clip: float = 1.0
    """Largest norm of the gradient, of the loss per token."""
    ema_decay: float = 0.98
    """Weight of the old average in the moving average of the student, which is what is exported."""
    steps: int = 200
    """Optimiser steps, where minutes is 0."""
    minutes: float = 0.0
    """Stop after this many minutes; 0 counts steps instead."""
    micro_batch_size: int = 16
    """Clips a process handles at once; smaller needs less memory and changes nothing else."""
    measure_every: int = 10
    """Steps between measurements of both terms' gradient norms and the reward's signal to noise."""
    listen_every: int = 10
    """Steps between hearings of the clips: silence, repetition, held-out encoder, scorer."""
    save_minutes: float = 3.0
    """Minutes between saves."""
    precision: str = "auto"
    """fp32, bf16 (autocast over float32 weights), or auto: bf16 on a GPU that has it, else fp32."""
    seed: int = 0
    """Of prompts, clips and adapters."""
    guard_kl_rise: float = 0.5
    """Stop where the KL stays this share above the best it was; 0 never does."""
    guard_entropy: float = 0.3
    """Stop where the entropy falls below this share of its start; 0 never does."""
    guard_hacking: float = 0.05
    """Stop where the reward has risen while the held-out encoder's diversity or the scorer fell by
    this share; 0 never does."""
    guard_silence: float = 0.5
    """Stop where more than this share of clips is silent; 1 never does."""
    guard_repeats: float = 0.5
    """Stop where more than this share of frames repeats the frame before; 1 never does."""
    guard_objective: float = 0.0
    """Stop where -KL + beta D falls this share of the first KL below its start; 0 never does."""

    def __post_init__(self) -> None:
        """Check every field."""
        _check_weights(self)
        _check_sizes(self)
        _check_words(self)
        if self.credit == "clip" and self.baseline == "pairs" and self.clips_per_prompt < 3:
            raise ConfigError(
                f"baseline pairs needs clips_per_prompt >= 3, got {self.clips_per_prompt}"
            )
        if self.credit == "clip" and self.baseline == "pairs" and self.reward == "answered":
            raise ConfigError("baseline pairs knows plain cosines alone: use prompts, or none")
        require_number("answer_low", self.answer_low, -1.0, 1.0)
        require_number("answer_high", self.answer_high, -1.0, 1.0)
        require(
            self.answer_low < self.answer_high,
            f"answer_low {self.answer_low:g} must be below answer_high {self.answer_high:g}",
        )
        self.weights_of(1)

    def weights_of(self, num_codebooks: int) -> list[float] | None:
        """Read `codebook_weights` for K codebooks; None where all are 1.

        Raises:
            ConfigError: not numbers from 0 to 100, or all of them 0.
        """
        if not self.codebook_weights.strip():
            return None
        try:
            given = [float(part) for part in self.codebook_weights.split(",")]
        except ValueError:
            given = [math.nan]
        if not all(math.isfinite(x) and 0 <= x <= 100 for x in given) or not any(given):
            raise ConfigError(
                "codebook_weights takes numbers from 0 to 100 by commas, not all of them 0, got "
                f"{self.codebook_weights!r}"
            )
        return (given + [given[-1]] * num_codebooks)[:num_codebooks]


def _check_weights(config: EndpointConfig) -> None:
    beta = config.diversity_weight
    number = isinstance(beta, int | float) and math.isfinite(beta)
    require(
        number and 0 <= beta <= 1e6,
        f"diversity_weight must be 0 (quality) or above, for example 15, got {beta!r}",
    )
    require_number("guidance_scale", config.guidance_scale, 0, 50)
    require_number("kl_weight", config.kl_weight, 0, 1e6)
    require_number("kl_weight_final", config.kl_weight_final, -1, 1e6)
    for name in ("reward_delay", "reward_ramp", "forward_share", "gae_lambda", "start_blend",
                 "final_rate", "ema_decay", "guard_entropy", "guard_silence",
                 "guard_repeats"):  # fmt: skip
        require_number(name, getattr(config, name), 0, 1)
    require_number("kl_share", config.kl_share, 0.01, 1)
    for name in ("bank_keep", "beta1", "beta2"):
        require_number(name, getattr(config, name), 0, 0.9999)
    for name in ("learning_rate", "critic_lr", "weight_decay"):
        require_number(name, getattr(config, name), 0, 10)
    require(
        config.start_blend * 256 == round(config.start_blend * 256),
        f"start_blend must be a multiple of 1/256, for example 0.5, got {config.start_blend!r}",
    )
    require_number("ridge", config.ridge, 1e-4, 100)
    require_number("temperature", config.temperature, 0.05, 10)
    require_number("grad_clip", config.grad_clip, 1e-6, 1e6)
    for name in ("guard_kl_rise", "guard_hacking", "guard_objective"):
        require_number(name, getattr(config, name), 0, 1000)


def _check_sizes(config: EndpointConfig) -> None:
    N = config.clips_per_prompt
    require(
        isinstance(N, int) and N >= 2,
        f"clips_per_prompt must be at least 2 (diversity lies between clips), got {N!r}",
    )
    for name in ("prompts_per_step", "long_every", "critic_epochs", "rank", "steps",
                 "micro_batch_size", "measure_every", "listen_every"):  # fmt: skip
        value = getattr(config, name)
        require(isinstance(value, int) and value >= 1, f"{name} must be >= 1, got {value!r}")
    paid = config.reward_codebooks
    require(
        isinstance(paid, int) and paid >= 0, f"reward_codebooks must be 0 or more, got {paid!r}"
    )
    require_number("clip_s", config.clip_s, 0.05, 600, unit="s")
    require_number("long_clip_s", config.long_clip_s, 0, 600, unit="s")
    require_number("minutes", config.minutes, 0, 100_000)
    require_number("save_minutes", config.save_minutes, 0, 100_000)
    require_number("warmup_steps", config.warmup_steps, 0, 1_000_000)
    require_number("seed", config.seed, 0, 2**63 - 1)


def _check_words(config: EndpointConfig) -> None:
    for name, allowed in (
        ("credit", ("critic", "clip")),
        ("baseline", ("none", "prompts", "pairs")),
        ("reward", ("cosine", "determinant", "answered")),
        ("train", ("all", "low-rank", "norms")),
        ("precision", ("auto", "fp32", "bf16")),
    ):
        value = getattr(config, name)
        require(value in allowed, f"{name} must be {', '.join(allowed)}, got {value!r}")


def preset_names() -> list[str]:
    """List the presets, which are files of `training/presets`."""
    return sorted(path.stem for path in PRESETS.glob("*.toml"))


def read_preset(name: str, end: str) -> dict[str, Any]:
    """Read the settings of one end of a preset, as far as they differ from the defaults.

    Args:
        name: of a preset, for example "pocket".
        end: "quality" or "diversity".

    Raises:
        ConfigError: there is no such preset, or it sets what there is not.
    """
    path = PRESETS / f"{name}.toml"
    if name not in preset_names():
        raise ConfigError(f"unknown preset {name!r}: use {', '.join(preset_names())}")
    content = tomllib.loads(path.read_text(encoding="utf-8"))
    settings = {**content.get("both", {}), **content.get(end, {})}
    known = {field.name for field in dataclasses.fields(EndpointConfig)}
    unknown = sorted(set(settings) - known)
    if unknown:
        raise ConfigError(f"preset {name!r} sets {unknown[0]!r}, which is no option")
    return settings


def without_auto(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Put `TO_BE_FOUND` in the place of a weight that is "auto".

    Args:
        settings: fields of EndpointConfig.
    """
    auto = settings.get("diversity_weight") == AUTO
    return {**settings, "diversity_weight": TO_BE_FOUND} if auto else dict(settings)
