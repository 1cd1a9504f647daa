"""Train the language model on tokens and captions.

The loss is the cross-entropy of every real code of all K codebooks, in float32; places outside the
delay pattern (arXiv:2306.05284) and frames a short piece lacks are left out. A run is a folder:

    state/           everything needed to go on after a kill, bit for bit
    metrics.jsonl    one row a step, one an evaluation
    export/          the averaged weights, in the format that `generate --model` loads
"""

import hashlib
import math
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any, ClassVar, TypeAlias

import torch
from accelerate.utils import set_seed
from torch import Tensor, nn

from musicgen_rl.checkpoint import read_info
from musicgen_rl.config import LMConfig, require
from musicgen_rl.errors import ConfigError, MusicgenRLError
from musicgen_rl.lm.condition import Condition
from musicgen_rl.lm.delay import shift_right
from musicgen_rl.lm.transformer import MusicLM
from musicgen_rl.pipeline.devices import has_native_bf16
from musicgen_rl.training.checkpointing import hash_tensors
from musicgen_rl.training.dataset import TextStates, TokenDataset, hash_codes
from musicgen_rl.training.lm_loss import chunks_of, evaluate, token_losses
from musicgen_rl.training.metrics import MetricsLog, format_seconds
from musicgen_rl.training.optim import WeightAverage, build_optimizers, rate_factor, set_rate
from musicgen_rl.training.pretrain_config import PretrainConfig
from musicgen_rl.training.pretrain_crops import Crops
from musicgen_rl.training.pretrain_state import Memory
from musicgen_rl.training.processes import Processes, make_accelerator
from musicgen_rl.training.progress import Pace, Plan, Progress

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
    text_hash: str | None = None,
    manifest_hash: str | None = None,
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
        text_hash: of the text encoder that made the states, likewise.
        manifest_hash: of what the manifest says of the pieces, likewise; their codes are hashed
            here.
        export: writes the averaged weights; called at every save, and at the start of a finished
            run whose export is missing or not of its last step.
        stop: asked after each step; True saves and returns.
        live: show the live line on stderr.

    Returns:
        Last evaluation, steps done, seconds spent, and whether the run is finished.

    Raises:
        ConfigError: sizes do not fit each other.
        CheckpointError: the folder's state is of another kind of run, or of another model, codec,
            text encoder, start, manifest or music.
        StorageError: the disk is full; what was saved before is intact.
    """
    trainer = Trainer(
        model_config, config, train_data, valid_data, text, Path(folder), start,
        codec_hash=codec_hash, text_hash=text_hash, manifest_hash=manifest_hash,
    )  # fmt: skip
    trainer.restore()
    return trainer.run(export, stop, live)


def step_seed(seed: int, step: int, process: int) -> int:
    """Derive the 63-bit seed of what a process draws in a step beside its crops: dropout.

    Args:
        seed: of the run.
        step: its number.
        process: number of the process; its rows are not those of another.
    """
    digest = hashlib.sha256(f"musicgen-rl step {seed} {step} {process}".encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


class Trainer:
    """One run, from what it remembers to what it leaves."""

    kind: ClassVar[str] = "lm"
    """The command whose run it is."""
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
        text_hash: str | None = None,
        manifest_hash: str | None = None,
    ) -> None:
        self.accelerator = make_accelerator()
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
        self.crops = Crops(
            config, model_config, train_data, text,
            process=self.accelerator.process_index, processes=processes,
        )  # fmt: skip
        # By minutes the plan is not known before the speed is.
        self.progress = Progress(Plan(config.steps), planned=config.minutes == 0)
        self.memory = Memory(
            model=self.model, average=self.average, optimizers=self.optimizers,
            progress=self.progress, kind=self.kind,
            begun_with={
                "codec": codec_hash, "text encoder": text_hash, "manifest": manifest_hash,
                "start": None if start is None else hash_tensors(start),
                "recordings": hash_codes([*train_data.pieces, *valid_data.pieces]),
            },
        )  # fmt: skip

    def restore(self) -> None:
        """Read the folder's state, if there is one."""
        self.memory.restore(self.folder, self.config)

    def save(self, export: Export | None) -> None:
        """Write the state, then the export, from the first process."""
        if self.accelerator.is_main_process:
            self.memory.save(self.folder, self.config)
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
        now = self.progress
        frames = now.step * self.config.batch_size * self.config.crop_frames
        return {
            "steps": now.step, "frames": frames, "seconds": round(now.seconds, 1),
            "finished": now.finished, **now.last,
        }  # fmt: skip

    def run(self, export: Export | None, stop: Callable[[], bool], live: bool) -> dict[str, Any]:
        """Step until the plan is done or `stop` says so."""
        main, now = self.accelerator.is_main_process, self.progress
        if now.finished:  # the last save may have died after the state
            if main and not self._is_exported():
                self._export(export)
            self.accelerator.wait_for_everyone()
        path = self.folder / "metrics.jsonl"
        path = path if main else path.with_name(f"process{self.accelerator.process_index}.jsonl")
        model = self.accelerator.prepare(self.model)
        if self.config.compile:
            model = torch.compile(model)
        with MetricsLog(
            path, resume_step=now.step, live=sys.stderr if live and main else None
        ) as log:
            begun, before = time.monotonic(), now.seconds
            evaluated = saved = now.seconds
            pace = Pace(
                now, self.config.minutes, warm=WARM_STEPS, timed=TIMED_STEPS, least=10,
                decide=self.processes.from_main,
            )  # fmt: skip
            stopped = False
            while not now.finished and not stopped:
                started = time.monotonic()
                # Dropout draws from torch's own generator: what a step draws follows from its
                # number, so that no process has a state to save.
                torch.manual_seed(
                    step_seed(self.config.seed, now.step, self.accelerator.process_index)
                )
                row = self._train_step(model)
                done = time.monotonic()
                now.seconds = before + done - begun
                frames_per_s = self.config.batch_size * self.config.crop_frames / (done - started)
                log.write("train", now.step, **row, frames_per_s=frames_per_s, seconds=now.seconds)
                stopped = self.processes.agree(stop())
                replanned = pace.replan()
                if replanned:
                    log.write("plan", now.step, total_steps=now.plan.total_steps)
                last = now.finished or stopped
                if self._due(evaluated, self.config.eval_minutes) or now.finished:
                    evaluated = now.seconds
                    self._evaluate(log)
                if self._due(saved, self.config.save_minutes) or last or replanned:
                    saved = now.seconds
                    self.save(export)
                log.show(self._live_line(row, frames_per_s), force=last)
        return self.figures()

    def _train_step(self, model: nn.Module) -> dict[str, Any]:
        config, model_config, now = self.config, self.model_config, self.progress
        pad, device = model_config.pad_token, self.accelerator.device
        rows = self.crops.rows(now.share)
        targets, condition = self.crops.take(now.step, now.share)
        targets, condition = targets.to(device), condition.to(device)
        counts = self.accelerator.reduce((targets != pad).sum((0, 2)), "sum")  # [K]
        # Gradients are averaged over processes, and each holds a share of the sum.
        scale = self.accelerator.num_processes / counts.sum()
        sums = torch.zeros(model_config.num_codebooks, device=device)
        factor = rows // self.crops.each
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
            self.crops.draw_ahead(now.step + 1, now.share_after(now.step + 1))
        taken = self._update()
        sums = self.accelerator.reduce(sums, "sum")
        return {
            "loss": (sums.sum() / counts.sum()).item(),
            "loss_per_codebook": (sums / counts).tolist(),
            **taken,
        }

    def _update(self) -> dict[str, float]:
        """Step with the gradients at hand; returns their norm and the share of the peak rate."""
        config, now = self.config, self.progress
        norm = float(nn.utils.clip_grad_norm_(self.model.parameters(), config.grad_clip))
        if not math.isfinite(norm):
            raise ConfigError(
                f"the gradient is {norm} at step {now.step}: lower muon_lr "
                f"({config.muon_lr}) or adamw_lr ({config.adamw_lr}); the last save is intact"
            )
        rate = rate_factor(now.step, now.share, config.warmup_steps, config.final_rate)
        set_rate(self.optimizers, rate)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        now.step += 1
        self.average.update(self.model, now.step)
        return {"grad_norm": norm, "rate": rate}

    def _evaluate(self, log: MetricsLog) -> None:
        if not self.accelerator.is_main_process:
            return
        now = self.progress
        self.average.swap(self.model)
        now.last = evaluate(
            self.model, self.model_config, self.valid_data, self.text, rows=self.config.eval_rows,
            crop_frames=self.config.crop_frames, micro_batch_size=self.config.micro_batch_size,
            device=self.accelerator.device,
        )  # fmt: skip
        self.average.swap(self.model)
        log.write("valid", now.step, **now.last, seconds=now.seconds)
        both = f"{now.last['loss']:.3f} with prompt, {now.last['loss_null']:.3f} without"
        log.show(f"step {now.step}: held out {both}", force=True)

    def _due(self, last: float, minutes: float) -> bool:
        return self.processes.agree(self.progress.seconds - last >= minutes * 60)

    def _live_line(self, row: dict[str, Any], frames_per_s: float) -> str:
        now, left = self.progress, "?"
        if now.planned and now.step:
            left = format_seconds((now.plan.total_steps - now.step) * now.seconds / now.step)
        total = now.plan.total_steps if now.planned else "?"
        return (
            f"step {now.step}/{total}  loss {row['loss']:.3f}  "
            f"{frames_per_s:.0f} frames/s  {left} left"
        )
