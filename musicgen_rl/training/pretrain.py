"""Train the language model on tokens and captions.

The loss is the cross-entropy of every real code of all K codebooks, in float32; places outside the
delay pattern (arXiv:2306.05284) and frames a short piece lacks are left out. A run is a folder:

    state/           everything needed to go on after a kill, bit for bit
    metrics.jsonl    one row a step, one an evaluation
    export/          the averaged weights, in the format that `generate --model` loads
"""

import math
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, TypeAlias

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import Tensor, nn

from musicgen_rl.checkpoint import read_info
from musicgen_rl.config import LMConfig, require
from musicgen_rl.errors import CheckpointError, ConfigError, MusicgenRLError
from musicgen_rl.lm.condition import Condition
from musicgen_rl.lm.delay import apply_delay, shift_right
from musicgen_rl.lm.transformer import MusicLM
from musicgen_rl.pipeline.devices import has_native_bf16
from musicgen_rl.training.checkpointing import (
    hash_tensors,
    load_training_state,
    pack_optimizer,
    pack_rng,
    restore_optimizer,
    restore_rng,
    save_training_state,
)
from musicgen_rl.training.dataset import TextStates, TokenDataset
from musicgen_rl.training.lm_loss import chunks_of, evaluate, token_losses
from musicgen_rl.training.metrics import MetricsLog, format_seconds
from musicgen_rl.training.optim import (
    Plan,
    WeightAverage,
    build_optimizers,
    rate_factor,
    set_rate,
)
from musicgen_rl.training.pretrain_config import PretrainConfig
from musicgen_rl.training.processes import Processes

Export: TypeAlias = Callable[[Path, LMConfig, dict[str, Tensor], dict[str, Any]], object]
"""Called with (folder, config, averaged weights, figures of the run)."""

WARM_STEPS, TIMED_STEPS = 3, 6
"""A run by minutes measures its speed over these steps, after those, and then knows its length."""


def pretrain(
    model_config: LMConfig,
    config: PretrainConfig,
    train_data: TokenDataset,
    valid_data: TokenDataset,
    text: TextStates,
    folder: str | Path,
    *,
    start: Mapping[str, Tensor] | None = None,
    codec_hash: str | None = None,
    export: Export | None = None,
    stop: Callable[[], bool] = lambda: False,
    live: bool = True,
) -> dict[str, Any]:
    """Train, or go on with what the folder holds.

    Args:
        model_config: shape of the model.
        config: how to train.
        train_data: pieces to learn from.
        valid_data: held-out pieces.
        text: states of all captions of both.
        folder: of the run; a state in it is continued.
        start: weights to begin with, as `MusicLM.state_dict` names them; drawn at random where
            None. A run that goes on has its own, and refuses to go on from others.
        codec_hash: of the codec that made the codes; a run does not go on with others.
        export: writes the averaged weights; called at every save, and at the start of a finished
            run whose export is missing or not of its last step.
        stop: asked after each step; True saves and returns.
        live: show the live line on stderr.

    Returns:
        Last evaluation, steps done, seconds spent, and whether the run is finished.

    Raises:
        ConfigError: sizes do not fit each other.
        CheckpointError: the folder's state is of another model, codec or start.
        StorageError: the disk is full; what was saved before is intact.
    """
    trainer = Trainer(
        model_config, config, train_data, valid_data, text, Path(folder), start,
        codec_hash=codec_hash,
    )  # fmt: skip
    trainer.restore()
    return trainer.run(export, stop, live)


@dataclass(frozen=True)
class _Drawn:
    """What one process learns from in one step, still on the CPU."""

    key: tuple[int, int, float]
    """Step, rows, share of loops: what it follows from."""
    targets: Tensor
    """Delayed codes [B, K, S]."""
    condition: Condition
    """Of B prompts."""


class Trainer:
    """The state of one run: what `save` writes and `restore` reads."""

    note: ClassVar[str] = "training"
    """Where the exported card's notes hold the figures of the run."""

    def __init__(
        self,
        model_config: LMConfig,
        config: PretrainConfig,
        train_data: TokenDataset,
        valid_data: TokenDataset,
        text: TextStates,
        folder: Path,
        start: Mapping[str, Tensor] | None = None,
        *,
        codec_hash: str | None = None,
    ) -> None:
        self.accelerator = Accelerator()
        self.processes = Processes()
        device = self.accelerator.device
        processes = self.accelerator.num_processes
        require(
            config.batch_size % processes == 0,
            f"batch_size {config.batch_size} is not a multiple of the {processes} processes",
        )
        if text.hidden_size != model_config.text_hidden_size:
            raise ConfigError(
                f"the text states are {text.hidden_size} wide, the model expects "
                f"{model_config.text_hidden_size}: set text_hidden_size"
            )
        K = train_data.pieces[0].codes.shape[0]
        require(
            model_config.num_codebooks == K,
            f"the tokens have {K} codebooks, the model {model_config.num_codebooks}",
        )
        bf16 = config.precision == "bf16"
        bf16 = bf16 or (config.precision == "auto" and has_native_bf16(device))
        self.bf16, self.config, self.model_config, self.folder = bf16, config, model_config, folder
        self.train_data, self.valid_data, self.text = train_data, valid_data, text
        set_seed(config.seed % 2**32)  # numpy takes no more bits
        self.model = MusicLM(model_config).to(device)
        nn.init.normal_(self.model.embed.weight, std=config.embedding_std)
        if start is not None:
            self.model.load_state_dict(dict(start))
        self.begun_with = {
            "codec": codec_hash, "start": None if start is None else hash_tensors(start),
        }  # fmt: skip
        """Hashes of what a run does not go on without."""
        self.average = WeightAverage(self.model, config.ema_decay)
        self.optimizers = build_optimizers(
            self.model,
            muon_lr=config.muon_lr,
            adamw_lr=config.adamw_lr,
            muon_decay=config.muon_decay,
            adamw_decay=config.adamw_decay,
            muon_steps=config.muon_steps,
            dtype=torch.bfloat16 if has_native_bf16(device) else torch.float32,
        )
        self.step = 0
        self.seconds = 0.0
        self.plan = Plan(config.steps)
        self.planned = config.minutes == 0  # by minutes: not before the speed is known
        self.timing: tuple[float, int] | None = None
        self.ahead: _Drawn | None = None
        self.last_eval: dict[str, Any] = {}

    def restore(self) -> None:
        """Read the folder's state, if there is one."""
        found = load_training_state(self.folder / "state")
        if found is None:
            return
        tensors, state = found
        if state["model"] != asdict(self.model_config):
            raise CheckpointError(
                f"{self.folder} holds a run of another model ({state['model']}): "
                "train with the same sizes, or into a new folder"
            )
        changed = [name for name in ("seed", "batch_size", "crop_frames")
                   if state["config"][name] != getattr(self.config, name)]  # fmt: skip
        if changed:
            raise CheckpointError(
                f"{self.folder} was begun with another {' and '.join(changed)}: "
                "use the same, or a new folder"
            )
        self._require_same_beginning(state.get("begun_with", {}))
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
        restore_rng(tensors)
        self.step, self.seconds = state["step"], state["seconds"]
        self.plan, self.planned = Plan(**state["plan"]), state["planned"]
        if self.config.minutes == 0:
            self.plan, self.planned = replace(self.plan, total_steps=self.config.steps), True
        self.last_eval = state["last_eval"]

    def _require_same_beginning(self, before: Mapping[str, str | None]) -> None:
        """Refuse to go on with other codes or other start weights; a state may not tell of them."""
        ways = {
            "codec": "name the tokens and the codec of that time",
            "start": "begin with the same model",
        }
        for name, way in ways.items():
            then, now = before.get(name), self.begun_with[name]
            unknown = name not in before or (name == "codec" and None in (then, now))
            if then != now and not unknown:
                raise CheckpointError(
                    f"{self.folder} was begun with another {name} ({_short(then)}, now "
                    f"{_short(now)}): {way}, or train into a new folder"
                )

    def save(self, export: Export | None) -> None:
        """Write the state, then the export, from the first process."""
        if self.accelerator.is_main_process:
            tensors: dict[str, Tensor] = dict(pack_rng())
            packed: list[Any] = []
            for index, optimizer in enumerate(self.optimizers):
                more, rest = pack_optimizer(optimizer, prefix=f"optimizer{index}")
                tensors.update(more)
                packed.append(rest)
            tensors |= {f"model.{n}": t for n, t in self.model.state_dict().items()}
            tensors |= {f"average.{n}": t for n, t in self.average.tensors.items()}
            state = {
                "step": self.step, "seconds": self.seconds, "plan": asdict(self.plan),
                "planned": self.planned, "optimizers": packed, "last_eval": self.last_eval,
                "model": asdict(self.model_config), "config": asdict(self.config),
                "begun_with": self.begun_with,
            }  # fmt: skip
            save_training_state(self.folder / "state", tensors, state)
            self._export(export)
        self.accelerator.wait_for_everyone()

    def _export(self, export: Export | None) -> None:
        if export is not None:
            export(self.folder / "export", self.model_config, self.average.tensors, self.figures())

    def _is_exported(self) -> bool:
        """Whether the export is there and tells of the very figures of this state."""
        try:
            told = read_info(self.folder / "export").notes.get(self.note)
        except MusicgenRLError:
            return False
        return isinstance(told, Mapping) and self.figures().items() <= told.items()

    def figures(self) -> dict[str, Any]:
        """What the run came to so far."""
        frames = self.step * self.config.batch_size * self.config.crop_frames
        return {
            "steps": self.step, "frames": frames, "seconds": round(self.seconds, 1),
            "finished": self.finished, **self.last_eval,
        }  # fmt: skip

    @property
    def finished(self) -> bool:
        """Whether every planned step is done."""
        return self.planned and self.step >= self.plan.total_steps

    def run(self, export: Export | None, stop: Callable[[], bool], live: bool) -> dict[str, Any]:
        """Step until the plan is done or `stop` says so."""
        main = self.accelerator.is_main_process
        if self.finished:  # the last save may have died after the state
            if main and not self._is_exported():
                self._export(export)
            self.accelerator.wait_for_everyone()
        path = self.folder / "metrics.jsonl"
        path = path if main else path.with_name(f"process{self.accelerator.process_index}.jsonl")
        model = self.accelerator.prepare(self.model)
        if self.config.compile:
            model = torch.compile(model)
        with MetricsLog(
            path, resume_step=self.step, live=sys.stderr if live and main else None
        ) as log:
            begun, before = time.monotonic(), self.seconds
            evaluated = saved = self.seconds
            speed_from = (begun, self.step)
            stopped = False
            while not self.finished and not stopped:
                started = time.monotonic()
                row = self._train_step(model)
                now = time.monotonic()
                self.seconds = before + now - begun
                frames_per_s = self.config.batch_size * self.config.crop_frames / (now - started)
                log.write(
                    "train", self.step, **row, frames_per_s=frames_per_s, seconds=self.seconds
                )
                stopped = self.processes.agree(stop())
                replanned = self.config.minutes > 0 and self._replan(speed_from)
                if replanned:
                    speed_from = (time.monotonic(), self.step)
                    log.write("plan", self.step, total_steps=self.plan.total_steps)
                last = self.finished or stopped
                if self._due(evaluated, self.config.eval_minutes) or self.finished:
                    evaluated = self.seconds
                    self._evaluate(log)
                if self._due(saved, self.config.save_minutes) or last or replanned:
                    saved = self.seconds
                    self.save(export)
                log.show(self._live_line(row, frames_per_s), force=last)
        return self.figures()

    def _train_step(self, model: nn.Module) -> dict[str, Any]:
        config, model_config = self.config, self.model_config
        pad, device = model_config.pad_token, self.accelerator.device
        rows = self._rows(self.step)
        targets, condition = self._drawn(self.step)
        targets, condition = targets.to(device), condition.to(device)
        counts = self.accelerator.reduce((targets != pad).sum((0, 2)), "sum")  # [K]
        # Gradients are averaged over processes, and each holds a share of the sum.
        scale = self.accelerator.num_processes / counts.sum()
        sums = torch.zeros(model_config.num_codebooks, device=device)
        factor = rows // (config.batch_size // self.accelerator.num_processes)
        chunks = list(chunks_of(range(rows), factor * config.micro_batch_size))
        model.train()
        for index, chunk in enumerate(chunks):
            part = slice(chunk.start, chunk.stop)
            waits = index + 1 < len(chunks) and self.accelerator.num_processes > 1
            with self.accelerator.no_sync(model) if waits else nullcontext():
                given = Condition(condition.hidden[part], condition.mask[part])
                with torch.autocast(device.type, torch.bfloat16, enabled=self.bf16):
                    logits = model(shift_right(targets[part], pad), given)
                losses = token_losses(logits, targets[part], pad)  # [b, K, S]
                self.accelerator.backward(losses.sum() * scale)
            sums += losses.detach().sum((0, 2))
        if device.type == "cuda":  # it is busy until the norm is read: draw meanwhile
            self.ahead = self._draw(self.step + 1)
        taken = self._update()
        sums = self.accelerator.reduce(sums, "sum")
        return {
            "loss": (sums.sum() / counts.sum()).item(),
            "loss_per_codebook": (sums / counts).tolist(),
            **taken,
        }

    def _update(self) -> dict[str, float]:
        """Step with the gradients at hand; returns their norm and the share of the peak rate."""
        config = self.config
        norm = float(nn.utils.clip_grad_norm_(self.model.parameters(), config.grad_clip))
        if not math.isfinite(norm):
            raise ConfigError(
                f"the gradient is {norm} at step {self.step}: lower muon_lr "
                f"({config.muon_lr}) or adamw_lr ({config.adamw_lr}); the last save is intact"
            )
        rate = rate_factor(
            self.step, self._progress(self.step), config.warmup_steps, config.final_rate
        )
        set_rate(self.optimizers, rate)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.step += 1
        self.average.update(self.model, self.step)
        return {"grad_norm": norm, "rate": rate}

    def _progress(self, step: int) -> float:
        """Share of the run that is done after `step` steps."""
        return self.plan.progress(step) if self.planned else 0.0

    def _rows(self, step: int) -> int:
        """Crops of this process in a step: more of them where they are short."""
        short = self._progress(step) < self.config.short_share
        factor = self.config.short_factor if short else 1
        each: int = self.config.batch_size // self.accelerator.num_processes
        return factor * each

    def _drawn(self, step: int) -> tuple[Tensor, Condition]:
        """Give a step's delayed codes and its prompts, drawn ahead where the plan still holds."""
        ahead, self.ahead = self.ahead, None
        if ahead is None or ahead.key != self._draw_key(step):
            ahead = self._draw(step)
        return ahead.targets, ahead.condition

    def _draw_key(self, step: int) -> tuple[int, int, float]:
        return step, self._rows(step), self.config.loops_at(self._progress(step))

    def _draw(self, step: int) -> "_Drawn":
        """Draw a step's crops, on the CPU."""
        config, model_config = self.config, self.model_config
        _, rows, loops = key = self._draw_key(step)
        full = config.batch_size // self.accelerator.num_processes
        # Every step owns the numbers of its shortest crops, so that no row comes twice.
        first = config.short_factor * step * config.batch_size
        first += self.accelerator.process_index * rows
        batch = self.train_data.draw(
            config.seed,
            range(first, first + rows),
            config.crop_frames * full // rows,
            config.caption_dropout,
            loops,
        )
        targets = apply_delay(batch.codes, model_config.pad_token, model_config.audio_channels)
        return _Drawn(key, targets, self.text.condition(batch.captions))

    def _replan(self, speed_from: tuple[float, int]) -> bool:
        """Fit the steps to the minutes: after a few steps, then whenever an eighth is done.

        Args:
            speed_from: (time, step) since which speed is measured.

        Returns:
            Whether the plan changed.
        """
        begun_at, begun_step = speed_from
        since = self.step - begun_step
        if not self.planned:
            # The first steps warm up caches and the compiler, so the clock starts after them.
            if since == WARM_STEPS:
                self.timing = (time.monotonic(), self.step)
            if self.timing is None or since < WARM_STEPS + TIMED_STEPS:
                return False
            begun_at, begun_step = self.timing
        elif self.finished or since < max(10, (self.plan.total_steps - self.plan.from_step) // 8):
            return False
        per_step = (time.monotonic() - begun_at) / (self.step - begun_step)
        plan = self.plan if self.planned else Plan(total_steps=self.step, from_step=self.step)
        plan = plan.replan(self.step, self.config.minutes * 60 - self.seconds, per_step)
        self.plan = replace(plan, total_steps=round(self.processes.from_main(plan.total_steps)))
        self.planned = True
        return True

    def _evaluate(self, log: MetricsLog) -> None:
        if not self.accelerator.is_main_process:
            return
        self.average.swap(self.model)
        self.last_eval = evaluate(
            self.model,
            self.model_config,
            self.valid_data,
            self.text,
            rows=self.config.eval_rows,
            crop_frames=self.config.crop_frames,
            micro_batch_size=self.config.micro_batch_size,
            device=self.accelerator.device,
        )
        self.average.swap(self.model)
        log.write("valid", self.step, **self.last_eval, seconds=self.seconds)
        both = (
            f"{self.last_eval['loss']:.3f} with prompt, {self.last_eval['loss_null']:.3f} without"
        )
        log.show(f"step {self.step}: held out {both}", force=True)

    def _due(self, last: float, minutes: float) -> bool:
        return self.processes.agree(self.seconds - last >= minutes * 60)

    def _live_line(self, row: dict[str, Any], frames_per_s: float) -> str:
        left = "?"
        if self.planned and self.step:
            left = format_seconds((self.plan.total_steps - self.step) * self.seconds / self.step)
        total = self.plan.total_steps if self.planned else "?"
        return (
            f"step {self.step}/{total}  loss {row['loss']:.3f}  "
            f"{frames_per_s:.0f} frames/s  {left} left"
        )


def _short(hashed: str | None) -> str:
    return "none" if hashed is None else hashed[:12]
