"""What the run of an endpoint remembers, written to a folder and read back bit for bit."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from musicgen_rl.errors import CheckpointError
from musicgen_rl.training.adapters import Student
from musicgen_rl.training.advantages import Centre, EmbeddingBank
from musicgen_rl.training.checkpointing import (
    load_training_state,
    pack_optimizer,
    restore_optimizer,
    save_training_state,
)
from musicgen_rl.training.critic import CriticTrainer
from musicgen_rl.training.endpoint_config import EndpointConfig
from musicgen_rl.training.endpoint_update import Updater
from musicgen_rl.training.guards import Guards
from musicgen_rl.training.optim import Plan

STATE = "state"
FIXED = ("seed", "prompts_per_step", "clips_per_prompt", "train", "rank", "train_norms",
         "start_blend", "diversity_weight", "reward", "credit",
         "centred")  # fmt: skip
"""What may not change when a run goes on."""


@dataclass
class Progress:
    """How far a run is."""

    plan: Plan
    planned: bool
    """Whether the plan is known: a run by minutes measures its speed first."""
    step: int = 0
    seconds: float = 0.0
    """Of training, over all starts."""
    last: dict[str, Any] = field(default_factory=dict)
    """The last values of what was measured."""

    @property
    def finished(self) -> bool:
        """Whether every planned step is done."""
        return self.planned and self.step >= self.plan.total_steps

    @property
    def share(self) -> float:
        """Share of the run that is done, 0 where its length is not known yet."""
        return self.plan.progress(self.step) if self.planned else 0.0


@dataclass(frozen=True, kw_only=True)
class Memory:
    """All that a run remembers between two starts."""

    student: Student
    updater: Updater
    critic: CriticTrainer | None
    bank: EmbeddingBank
    centre: Centre
    guards: Guards
    progress: Progress

    def save(self, folder: Path, config: EndpointConfig, start: Mapping[str, float]) -> None:
        """Write everything.

        Args:
            folder: of the run.
            config: of the run.
            start: of `start_identity`.

        Raises:
            StorageError: the disk is full or not writable; what was saved before is intact.
        """
        now = self.progress
        tensors: dict[str, Tensor] = {**self.bank.pack(), **self.centre.pack()}
        tensors |= {f"student.{n}": p for n, p in self.student.parameters.items()}
        tensors |= {f"average.{n}": t for n, t in self.updater.average.tensors.items()}
        more, packed = pack_optimizer(self.updater.optimizer)
        tensors |= more
        state = {
            "step": now.step, "seconds": now.seconds, "plan": asdict(now.plan),
            "planned": now.planned, "optimizer": packed, "signal": self.updater.signal,
            "guards": self.guards.pack(), "config": asdict(config), "last": now.last,
            "start": dict(start),
        }  # fmt: skip
        if self.critic is not None:
            more, state["critic_optimizer"] = pack_optimizer(
                self.critic.optimizer, prefix="critic_optimizer"
            )
            tensors |= more
            tensors |= {f"critic.{n}": t for n, t in self.critic.critic.state_dict().items()}
        save_training_state(folder / STATE, tensors, state)

    def restore(self, folder: Path, config: EndpointConfig, start: Mapping[str, float]) -> None:
        """Read the folder's state, if there is one.

        Raises:
            CheckpointError: the folder's run was begun otherwise.
        """
        found = load_training_state(folder / STATE)
        if found is None:
            return
        tensors, state = found
        if state["start"] != start:
            raise CheckpointError(
                f"{folder} holds a run of another base or start: use the same, or a new folder"
            )
        changed = [n for n in FIXED if state["config"].get(n) != getattr(config, n)]
        if changed:
            raise CheckpointError(
                f"{folder} was begun with another {' and '.join(changed)}: use the same, or a new "
                "folder"
            )
        with torch.no_grad():
            for name, parameter in self.student.parameters.items():
                parameter.copy_(tensors[f"student.{name}"])
                self.updater.average.tensors[name].copy_(tensors[f"average.{name}"])
        restore_optimizer(self.updater.optimizer, tensors, state["optimizer"])
        if self.critic is not None:
            weights = {n: tensors[f"critic.{n}"] for n in self.critic.critic.state_dict()}
            self.critic.critic.load_state_dict(weights)
            own = state["critic_optimizer"]
            restore_optimizer(self.critic.optimizer, tensors, own, prefix="critic_optimizer")
        self.bank.restore(tensors)
        self.centre.restore(tensors)
        self.guards.restore(state["guards"])
        self.updater.signal = state["signal"]
        now = self.progress
        now.step, now.seconds, now.last = state["step"], state["seconds"], state["last"]
        now.plan, now.planned = Plan(**state["plan"]), state["planned"]
        if config.minutes == 0:
            now.plan, now.planned = replace(now.plan, total_steps=config.steps), True


def start_identity(start: Mapping[str, Tensor], base: Mapping[str, Tensor]) -> dict[str, float]:
    """Tell one start from another: sums over the weights of the start and of the base."""
    return {
        name: sum(float(t.double().sum()) for t in state.values())
        for name, state in (("start", start), ("base", base))
    }
