"""What the run of an endpoint remembers, written to a folder and read back bit for bit."""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from musicgen_rl.errors import CheckpointError
from musicgen_rl.training.adapters import Student
from musicgen_rl.training.advantages import Centre, EmbeddingBank
from musicgen_rl.training.checkpointing import (
    hash_tensors,
    load_training_state,
    pack_optimizer,
    restore_optimizer,
    save_training_state,
)
from musicgen_rl.training.critic import CriticTrainer
from musicgen_rl.training.endpoint_config import EndpointConfig
from musicgen_rl.training.endpoint_update import Updater
from musicgen_rl.training.guards import Guards
from musicgen_rl.training.progress import Progress
from musicgen_rl.training.same_run import require_same_options, require_same_parts

STATE = "state"
MAY_CHANGE = frozenset((
    # How long, and when it is saved.
    "steps", "minutes", "save_minutes",
    # What the machine at hand can do: a step is the same up to rounding.
    "micro_batch_size", "precision",
    # How fast the weights follow: a run whose gradient broke goes on with a lower rate.
    "learning_rate", "beta1", "beta2", "weight_decay", "warmup_steps", "final_rate", "grad_clip",
    "ema_decay", "critic_lr",
    # What is looked at, and when that stops the run.
    "measure_every", "listen_every", "guard_kl_rise", "guard_entropy", "guard_hacking",
    "guard_silence", "guard_repeats", "guard_objective",
))  # fmt: skip
"""Options that may be others when a run goes on; all the rest say what a step computes."""

WAYS = {
    "prompts": "give the same file as it was",
    "text encoder": "name the base with the text encoder of that time",
    "codec": "name the base with the codec of that time",
    "training encoder": "give that one, by --encoder or --instruments",
    "training scorer": "give that one, by --instruments",
}
"""What else a run does not go on without beside its weights, and the way out where it differs."""


class Origin:
    """What a run begins with; one that goes on must begin with the same.

    Args:
        start: weights the student starts from.
        base: the teacher's.
        prompts: whose numbers the bank remembers.
        text_encoder: hash of what reads the prompts, where it is known.
        codec: hash of what sounds the clips, where it is known.
        encoder: identity of the training encoder, where it is paid by.
        scorer: identity of the training scorer, where it is paid by.
    """

    def __init__(
        self,
        start: Mapping[str, Tensor],
        base: Mapping[str, Tensor],
        prompts: list[str],
        *,
        text_encoder: str | None = None,
        codec: str | None = None,
        encoder: object = None,
        scorer: object = None,
    ) -> None:
        self._weights = {"start": start, "base": base}
        self._hashes = {part: hash_tensors(state) for part, state in self._weights.items()}
        self._data = {
            "prompts": hashlib.sha256(json.dumps(prompts).encode()).hexdigest(),
            "text encoder": text_encoder,
            "codec": codec,
            "training encoder": None if encoder is None else str(encoder),
            "training scorer": None if scorer is None else str(scorer),
        }

    def pack(self) -> dict[str, Any]:
        """Lay out for the training state."""
        return {"start": self._hashes, "data": self._data}

    def require_same(self, folder: Path, state: Mapping[str, Any]) -> None:
        """Check that a run's state was begun with the same.

        What a state does not tell of is taken at its word; one that holds sums of weights in
        place of hashes is compared with sums.

        Raises:
            CheckpointError: it was begun with something else; says with what.
        """
        told = state["start"]
        by_sums = any(isinstance(value, float) for value in told.values())
        if not (self._sums_match(told) if by_sums else told == self._hashes):
            raise CheckpointError(
                f"{folder} holds a run of another base or start: use the same, or a new folder"
            )
        require_same_parts(folder, state.get("data", {}), self._data, WAYS)

    def _sums_match(self, told: Mapping[str, float]) -> bool:
        """Compare sums, whose last digits depend on the number of threads."""
        return told.keys() == self._weights.keys() and all(
            math.isclose(
                told[part], sum(float(t.double().sum()) for t in weights.values()),
                rel_tol=1e-9, abs_tol=1e-6,
            )
            for part, weights in self._weights.items()
        )  # fmt: skip


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

    def save(self, folder: Path, config: EndpointConfig, origin: Origin) -> None:
        """Write everything.

        Args:
            folder: of the run.
            config: of the run.
            origin: of the run.

        Raises:
            StorageError: the disk is full or not writable; what was saved before is intact.
        """
        tensors: dict[str, Tensor] = {**self.bank.pack(), **self.centre.pack()}
        tensors |= {f"student.{n}": p for n, p in self.student.parameters.items()}
        tensors |= {f"average.{n}": t for n, t in self.updater.average.tensors.items()}
        more, packed = pack_optimizer(self.updater.optimizer)
        tensors |= more
        state = {
            "kind": "endpoints", **self.progress.pack(), "optimizer": packed,
            "signal": self.updater.signal, "guards": self.guards.pack(), "config": asdict(config),
            "last": self.progress.last, **origin.pack(),
        }  # fmt: skip
        if self.critic is not None:
            more, state["critic_optimizer"] = pack_optimizer(
                self.critic.optimizer, prefix="critic_optimizer"
            )
            tensors |= more
            tensors |= {f"critic.{n}": t for n, t in self.critic.critic.state_dict().items()}
        save_training_state(folder / STATE, tensors, state)

    def restore(self, folder: Path, config: EndpointConfig, origin: Origin) -> None:
        """Read the folder's state, if there is one; of the options, `MAY_CHANGE` are the config's.

        Raises:
            CheckpointError: the folder's run was begun otherwise.
        """
        found = load_training_state(folder / STATE)
        if found is None:
            return
        tensors, state = found
        require_same_options(folder, state["config"], config, MAY_CHANGE)
        origin.require_same(folder, state)
        with torch.no_grad():
            for name, parameter in self.student.parameters.items():
                parameter.copy_(tensors[f"student.{name}"])
                self.updater.average.tensors[name].copy_(tensors[f"average.{name}"])
        restore_optimizer(self.updater.optimizer, tensors, state["optimizer"], keep_options=True)
        if self.critic is not None:
            weights = {n: tensors[f"critic.{n}"] for n in self.critic.critic.state_dict()}
            self.critic.critic.load_state_dict(weights)
            restore_optimizer(
                self.critic.optimizer, tensors, state["critic_optimizer"],
                prefix="critic_optimizer", keep_options=True,
            )  # fmt: skip
        self.bank.restore(tensors)
        self.centre.restore(tensors)
        self.guards.restore(state["guards"])
        self.updater.signal = state["signal"]
        self.progress.restore(state, state["last"], minutes=config.minutes, steps=config.steps)
