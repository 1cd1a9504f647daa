"""What the run of a language model remembers, written to a folder and read back bit for bit."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.optim import Optimizer

from musicgen_rl.errors import CheckpointError
from musicgen_rl.lm.transformer import MusicLM
from musicgen_rl.training.checkpointing import (
    load_training_state,
    pack_optimizer,
    restore_optimizer,
    save_training_state,
)
from musicgen_rl.training.optim import WeightAverage
from musicgen_rl.training.pretrain_config import PretrainConfig
from musicgen_rl.training.progress import Progress
from musicgen_rl.training.same_run import require_kind, require_same_options, require_same_parts

STATE = "state"
MAY_CHANGE = frozenset((
    # How long, and when it is saved.
    "minutes", "steps", "save_minutes",
    # What the machine at hand can do: a step is the same up to rounding.
    "micro_batch_size", "precision", "compile",
    # How fast the weights follow: a run whose gradient broke goes on with a lower rate.
    "muon_lr", "adamw_lr", "muon_decay", "adamw_decay", "warmup_steps", "final_rate", "grad_clip",
    "ema_decay",
    # What is looked at.
    "eval_minutes", "eval_rows",
))  # fmt: skip
"""Options that may be others when a run goes on. All the rest say what it learns from and how much
of each: a share of the run too, for the part that is done has been as it was."""
WAYS = {
    "codec": "name the tokens and the codec of that time",
    "text encoder": "name the text encoder of that time (--text-encoder)",
    "start": "begin with the same model",
    "manifest": "give the manifest or the tokens of that time",
    "recordings": "name the tokens of that time (--tokens)",
}
"""What else a run does not go on without, each told by a hash, and the way out where it differs."""


def require_same_beginning(
    folder: Path, state: Mapping[str, Any] | None, now: Mapping[str, str | None]
) -> None:
    """Refuse to go on with what a run was not begun with.

    Args:
        folder: of the run.
        state: what it remembers, None where there is nothing; it may not tell of everything.
        now: hashes of what there is now, by the names of `WAYS`; None is unknown, of "start" that
            there is none.

    Raises:
        CheckpointError: something is another than it was.
    """
    before = {} if state is None else state.get("begun_with", {})
    require_same_parts(folder, before, now, WAYS, or_none=("start",))


@dataclass(frozen=True, kw_only=True)
class Memory:
    """All that a run remembers between two starts."""

    model: MusicLM
    average: WeightAverage
    optimizers: Sequence[Optimizer]
    progress: Progress
    begun_with: Mapping[str, str | None]
    """Hashes, by the names of `WAYS`."""
    kind: str = "lm"
    """The command whose run it is."""

    def save(self, folder: Path, config: PretrainConfig) -> None:
        """Write everything.

        Args:
            folder: of the run.
            config: of the run.

        Raises:
            StorageError: the disk is full or not writable; what was saved before is intact.
        """
        tensors: dict[str, Tensor] = {}
        packed: list[Any] = []
        for index, optimizer in enumerate(self.optimizers):
            more, rest = pack_optimizer(optimizer, prefix=f"optimizer{index}")
            tensors.update(more)
            packed.append(rest)
        tensors |= {f"model.{n}": t for n, t in self.model.state_dict().items()}
        tensors |= {f"average.{n}": t for n, t in self.average.tensors.items()}
        state = {
            "kind": self.kind, **self.progress.pack(), "optimizers": packed,
            "last_eval": self.progress.last, "model": asdict(self.model.config),
            "config": asdict(config), "begun_with": dict(self.begun_with),
        }  # fmt: skip
        save_training_state(folder / STATE, tensors, state)

    def restore(self, folder: Path, config: PretrainConfig) -> None:
        """Read the folder's state, if there is one; of the options, `MAY_CHANGE` are the config's.

        Raises:
            CheckpointError: the folder's run is of another kind, or was begun otherwise.
        """
        require_kind(folder, self.kind)
        found = load_training_state(folder / STATE)
        if found is None:
            return
        tensors, state = found
        if state["model"] != asdict(self.model.config):
            raise CheckpointError(
                f"{folder} holds a run of another model ({state['model']}): "
                "train with the same sizes, or into a new folder"
            )
        require_same_options(folder, state["config"], config, MAY_CHANGE)
        require_same_beginning(folder, state, self.begun_with)
        if len(state["optimizers"]) != len(self.optimizers):  # at 0 there is no Muon
            raise CheckpointError(
                f"{folder} was begun with muon_lr {state['config']['muon_lr']!r}, now "
                f"{config.muon_lr!r}: 0 stays 0, and what is above stays above, or train into a "
                "new folder"
            )
        self.model.load_state_dict(
            {n.removeprefix("model."): t for n, t in tensors.items() if n.startswith("model.")}
        )
        for name, average in self.average.tensors.items():
            average.copy_(tensors[f"average.{name}"])
        for index, optimizer in enumerate(self.optimizers):
            packed = state["optimizers"][index]
            restore_optimizer(
                optimizer, tensors, packed, prefix=f"optimizer{index}", keep_options=True
            )
        self.progress.restore(state, state["last_eval"], minutes=config.minutes, steps=config.steps)
