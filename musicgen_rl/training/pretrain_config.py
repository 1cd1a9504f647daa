"""Configuration of the language model's trainings: apart, so that the command line is fast."""

from dataclasses import dataclass

from musicgen_rl.config import require, require_number


@dataclass(frozen=True, kw_only=True)
class PretrainConfig:
    """How the language model is trained."""

    minutes: float = 0.0
    """Stop after this many minutes of training; 0 counts steps instead."""
    steps: int = 10_000
    """Optimiser steps, where minutes is 0."""
    batch_size: int = 8
    """Crops of one optimiser step, over all processes."""
    micro_batch_size: int = 8
    """Crops a process handles at once; smaller needs less memory and changes nothing else."""
    crop_frames: int = 500
    """Frames of a crop; 500 are 10 s at 50 frames a second."""
    short_share: float = 0.0
    """Share of the run, from its start, with shorter crops and more of them: more music and more
    prompts for the same work, before the long crops teach form."""
    short_factor: int = 2
    """How many times shorter, and more, those crops are."""
    caption_dropout: float = 0.15
    """Share of crops that get no prompt, which is what guidance needs."""
    loop_share: float = 0.0
    """Share of crops, at the run's start, that are a stretch of music over and over: they teach the
    model to look back for what it heard before, which a short run on music alone does not."""
    loop_until: float = 0.5
    """Share of the run over which those loops grow fewer, until there are none."""
    muon_lr: float = 0.02
    """Peak rate of the blocks' matrices (Muon); 0 trains them with AdamW."""
    muon_steps: int = 5
    """Newton-Schulz iterations of Muon."""
    adamw_lr: float = 2e-3
    """Peak rate of everything else (AdamW)."""
    muon_decay: float = 0.05
    """Weight decay of the blocks' matrices."""
    adamw_decay: float = 0.01
    """Weight decay of embeddings and heads."""
    embedding_std: float = 0.35
    """Deviation of the codes' embeddings at the start: K = 4 of them then weigh as much as the
    position, which has an amplitude of 1; MusicGen's 0.02 lets the position drown them at first."""
    warmup_steps: int = 20
    """Steps until the full rate."""
    final_rate: float = 0.02
    """Rate at the end of the cosine, as a share of the peak."""
    grad_clip: float = 1.0
    """Largest norm of the gradient."""
    ema_decay: float = 0.99
    """Weight of the old average in the moving average of weights, which is what is exported."""
    eval_minutes: float = 5.0
    """Minutes between evaluations on held-out pieces."""
    eval_rows: int = 16
    """Held-out crops of one evaluation."""
    save_minutes: float = 3.0
    """Minutes between saves."""
    precision: str = "auto"
    """fp32, bf16 (autocast over float32 weights), or auto: bf16 where the machine has it."""
    compile: bool = False
    """Compile the model first: 40 s, then about a tenth faster on a CPU."""
    seed: int = 0
    """Of the weights, the crops and the captions."""

    def __post_init__(self) -> None:
        """Check every field."""
        require_number("minutes", self.minutes, 0, 100_000)
        for name in (
            "steps",
            "batch_size",
            "micro_batch_size",
            "crop_frames",
            "eval_rows",
            "short_factor",
        ):
            value = getattr(self, name)
            require(isinstance(value, int) and value >= 1, f"{name} must be >= 1, got {value!r}")
        require(
            self.short_share == 0 or self.crop_frames % self.short_factor == 0,
            f"crop_frames {self.crop_frames} is not a multiple of short_factor {self.short_factor}",
        )
        for name in ("caption_dropout", "short_share", "loop_share", "loop_until", "final_rate",
                     "ema_decay"):  # fmt: skip
            require_number(name, getattr(self, name), 0, 1)
        for name in ("muon_lr", "adamw_lr", "muon_decay", "adamw_decay"):
            require_number(name, getattr(self, name), 0, 10)
        require_number("embedding_std", self.embedding_std, 1e-6, 10)
        require_number("grad_clip", self.grad_clip, 1e-6, 1e6)
        require_number("eval_minutes", self.eval_minutes, 0, 100_000)
        require_number("save_minutes", self.save_minutes, 0, 100_000)
        require_number("muon_steps", self.muon_steps, 1, 20)
        require_number("warmup_steps", self.warmup_steps, 0, 1_000_000)
        require_number("seed", self.seed, 0, 2**63 - 1)
        require(
            self.precision in ("auto", "fp32", "bf16"),
            f"precision must be auto, fp32 or bf16, got {self.precision!r}",
        )

    def loops_at(self, progress: float) -> float:
        """Say which share of the crops is a loop when `progress` of the run is done, 0 to 1."""
        if progress >= self.loop_until:
            return 0.0
        return self.loop_share * (1.0 - progress / self.loop_until)


@dataclass(frozen=True, kw_only=True)
class ContrastConfig(PretrainConfig):
    """How words are taught; `crop_frames` are what the captions are judged on."""

    steps: int = 300
    batch_size: int = 32
    micro_batch_size: int = 4
    crop_frames: int = 100
    caption_dropout: float = 0.0
    muon_lr: float = 0.003
    """Peak rate of the blocks' matrices (Muon); 0 trains them with AdamW."""
    adamw_lr: float = 2e-4
    """Peak rate of everything else (AdamW)."""
    muon_decay: float = 0.0
    adamw_decay: float = 0.0
    warmup_steps: int = 10
    final_rate: float = 0.05
    ema_decay: float = 0.97
    eval_rows: int = 64
    anchor: float = 0.05
    """Weight of the divergence from the model as it was, both in nats a crop."""

    def __post_init__(self) -> None:
        """Check every field."""
        super().__post_init__()
        require_number("anchor", self.anchor, 0, 1000)
        for name in ("caption_dropout", "loop_share", "short_share"):
            require(getattr(self, name) == 0, f"{name} must be 0 where rivals are compared")
