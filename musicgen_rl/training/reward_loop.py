"""The loop of reward models and other small networks: steps, schedule, resume, metrics.

What is learnt is a function from the step's number to a loss. A run killed at any moment goes on
from its last saving; with `steps` set it ends bit for bit where it would have.
"""

import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from musicgen_rl.config import require, require_number
from musicgen_rl.errors import CheckpointError, InputError
from musicgen_rl.training.checkpointing import (
    load_training_state,
    pack_optimizer,
    read_training_state,
    restore_optimizer,
    save_training_state,
)
from musicgen_rl.training.metrics import MetricsLog, format_seconds
from musicgen_rl.training.optim import build_optimizers, rate_factor, set_rate
from musicgen_rl.training.same_run import require_kind, short

WAYS = {
    "start": "give the encoder of that time by --start, or none if there was none",
    "text encoder": "name the text encoder of that time (--text-encoder)",
    "recordings": "give the audio and the manifest of that time",
}
"""What a run does not go on without beside its options, told by hashes, and the way out."""


@dataclass(frozen=True, kw_only=True)
class LoopConfig:
    """One run of the loop."""

    minutes: float = 8.0
    """Length of the run in minutes of processor time; ignored where steps is set."""
    steps: int = 0
    """Length of the run in steps; 0 takes minutes."""
    batch_size: int = 96
    """Pieces a step."""
    learning_rate: float = 1e-3
    """AdamW's peak; cosine to a hundredth of it."""
    muon_learning_rate: float = 0.02
    """Muon's peak for the matrices of transformer blocks; 0 gives them to AdamW."""
    weight_decay: float = 0.02
    """Of matrices, decoupled."""
    warmup_steps: int = 20
    """Steps of linear warm-up."""
    clip_norm: float = 5.0
    """Gradients are scaled down to this norm."""
    save_every_s: float = 60.0
    """Seconds between savings of the state."""
    seed: int = 0
    """Of the weights and of every draw."""

    def __post_init__(self) -> None:
        """Check every field."""
        require_number("minutes", self.minutes, 0.001, 100_000)
        require_number("steps", self.steps, 0, 1e9)
        require_number("batch_size", self.batch_size, 2, 65536)
        require_number("learning_rate", self.learning_rate, 1e-7, 1.0)
        require_number("muon_learning_rate", self.muon_learning_rate, 0.0, 1.0)
        require_number("weight_decay", self.weight_decay, 0.0, 10.0)
        require_number("warmup_steps", self.warmup_steps, 0, 1e9)
        require_number("clip_norm", self.clip_norm, 1e-3, 1e6)
        require_number("save_every_s", self.save_every_s, 0.0, 1e6)


@dataclass(frozen=True, kw_only=True)
class RewardTrainConfig(LoopConfig):
    """One run of reward training."""

    shortest_s: float = 1.6
    """Length of the shortest crop, in seconds."""
    longest_s: float = 5.0
    """Length of the longest crop, in seconds."""
    coded_share: float = 0.4
    """Share of crops heard as the codec plays them, of pieces for which that was prepared."""

    def __post_init__(self) -> None:
        """Check every field."""
        super().__post_init__()
        require_number("shortest_s", self.shortest_s, 1.0, 60.0, unit="s")
        require_number("longest_s", self.longest_s, 1.0, 60.0, unit="s")
        require_number("coded_share", self.coded_share, 0.0, 1.0)
        require(
            self.shortest_s <= self.longest_s,
            f"shortest_s {self.shortest_s} is above longest_s {self.longest_s}",
        )


@dataclass(frozen=True)
class RunSummary:
    """What a finished run took."""

    steps: int
    """Optimiser steps."""
    seconds: float
    """Of processor time."""


def require_same_run(folder: Path, kind: str, begun_with: Mapping[str, Any]) -> None:
    """Refuse to go on with a run of another kind, or one begun otherwise; reads no tensor.

    Args:
        folder: of the run; it need not exist.
        kind: encoder, scorer, probe, beat or key.
        begun_with: JSON values as of `run_training`; those not known yet may be left out, and what
            the state does not tell of is not compared.

    Raises:
        CheckpointError: names the kind, or the value that was another.
    """
    require_kind(folder, kind)
    before = (read_training_state(folder) or {}).get("begun_with", {})
    known = [name for name in (*WAYS, *before) if name in before and name in begun_with]
    for name in known:
        then, now = before[name], begun_with[name]
        if then != now:
            if name in WAYS:
                then, now = short(then), short(now)
            raise CheckpointError(
                f"the run in {folder} was begun with {name} {then}, not {now}: "
                f"{WAYS.get(name, 'use the same value')}, or another folder"
            )


def run_training(
    net: nn.Module,
    config: LoopConfig,
    folder: Path,
    kind: str,
    loss_at: Callable[[int], tuple[Tensor, dict[str, float]]],
    begun_with: dict[str, Any],
    stop: Callable[[], bool] = lambda: False,
) -> RunSummary:
    """Train a network, or go on with the run in a folder.

    Args:
        net: trained in place.
        config: how.
        folder: of the run: state, metrics.jsonl.
        kind: encoder, scorer, probe, beat or key.
        loss_at: step -> (loss, numbers for the metrics); draws depend on the step alone.
        begun_with: JSON values a resumed run must share.
        stop: asked after every step; True saves and returns.

    Raises:
        CheckpointError: the folder holds a run of another kind, or one begun otherwise.
        InputError: the loss is not finite.
        StorageError: the disk is full; what was saved is intact.
    """
    require_same_run(folder, kind, begun_with)
    optimizers = build_optimizers(
        net, muon_lr=config.muon_learning_rate, adamw_lr=config.learning_rate,
        muon_decay=config.weight_decay, adamw_decay=config.weight_decay, muon_steps=5,
    )  # fmt: skip
    step, seconds = _resume(net, optimizers, folder)

    def progress() -> float:
        if config.steps:
            return min(1.0, step / config.steps)
        return min(1.0, seconds / (60.0 * config.minutes))

    def save() -> None:
        tensors = {f"model.{name}": t for name, t in net.state_dict().items()}
        state: dict[str, Any] = {
            "kind": kind, "step": step, "seconds": seconds, "begun_with": begun_with
        }  # fmt: skip
        for index, optimizer in enumerate(optimizers):
            packed, state[f"optimizer{index}"] = pack_optimizer(optimizer, f"optimizer{index}")
            tensors |= packed
        save_training_state(folder, tensors, state)

    with MetricsLog(folder / "metrics.jsonl", resume_step=step, live=sys.stderr) as log:
        saved_at = time.monotonic()
        net.train()
        while progress() < 1.0 and not stop():
            started = time.process_time()
            factor = rate_factor(step, progress(), config.warmup_steps, 0.01)
            set_rate(optimizers, factor)
            torch.manual_seed(config.seed * 1_000_003 + step)
            loss, numbers = loss_at(step)
            for optimizer in optimizers:
                optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            norm = torch.nn.utils.clip_grad_norm_(net.parameters(), config.clip_norm)
            if not bool(torch.isfinite(norm)):
                raise InputError(
                    f"the loss is not finite at step {step}: lower learning_rate (now "
                    f"{config.learning_rate:g})"
                )
            for optimizer in optimizers:
                optimizer.step()
            step += 1
            seconds += time.process_time() - started
            if step % 10 == 0 or progress() >= 1.0:
                rounded = {k: round(v, 4) for k, v in numbers.items()}
                log.write("train", step, loss=round(loss.item(), 4), **rounded,
                          seconds=round(seconds, 1))  # fmt: skip
            left = format_seconds(seconds * (1 - progress()) / max(progress(), 1e-6))
            log.show(f"step {step}, {progress():.0%}, loss {loss.item():.3f}, {left} left")
            if time.monotonic() - saved_at > config.save_every_s:
                save()
                saved_at = time.monotonic()
        save()
    net.eval()
    return RunSummary(step, round(seconds, 1))


def _resume(
    net: nn.Module,
    optimizers: list[torch.optim.Optimizer],
    folder: Path,
) -> tuple[int, float]:
    found = load_training_state(folder)
    if found is None:
        return 0, 0.0
    tensors, state = found
    weights = {k.removeprefix("model."): v for k, v in tensors.items() if k.startswith("model.")}
    net.load_state_dict(weights)
    for index, optimizer in enumerate(optimizers):
        name = f"optimizer{index}"
        restore_optimizer(optimizer, tensors, state[name], name)
    return int(state["step"]), float(state["seconds"])
