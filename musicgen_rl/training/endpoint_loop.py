"""The run of one endpoint: steps, metrics, guards, saves, export.

A run is a folder:

    state/           everything needed to go on after a kill, bit for bit
    metrics.jsonl    one row a step (docs/metrics.md), one a hearing
    export/          the averaged endpoint, which `merge`, the slider and `generate` load

Nothing random is remembered: prompts, clips and orders follow from the seed and the step's number.
"""

import sys
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from musicgen_rl.checkpoint import model_hash, read_info
from musicgen_rl.errors import ModelError
from musicgen_rl.lm.low_rank import blend
from musicgen_rl.lm.transformer import MusicLM
from musicgen_rl.pipeline.devices import has_native_bf16
from musicgen_rl.training.adapters import Student
from musicgen_rl.training.advantages import Centre, EmbeddingBank
from musicgen_rl.training.critic import CriticTrainer, EmbeddingCritic
from musicgen_rl.training.endpoint_clips import Batch, answers, listening
from musicgen_rl.training.endpoint_config import EndpointConfig
from musicgen_rl.training.endpoint_export import export_endpoint, require_room, room_needed
from musicgen_rl.training.endpoint_parts import EndpointParts, check_fit
from musicgen_rl.training.endpoint_pay import measure_pay
from musicgen_rl.training.endpoint_schedule import (
    duration_of,
    is_long,
    kl_weight_at,
    reward_weight_at,
    share_of_prompts,
)
from musicgen_rl.training.endpoint_state import Memory, Origin
from musicgen_rl.training.endpoint_step import EndpointStep
from musicgen_rl.training.endpoint_update import Updater
from musicgen_rl.training.guards import Guards, paid_figure, unguarded
from musicgen_rl.training.metrics import MetricsLog, format_seconds
from musicgen_rl.training.processes import Processes
from musicgen_rl.training.progress import Pace, Plan, Progress
from musicgen_rl.training.rollout import frames_of
from musicgen_rl.training.same_run import require_kind

WARM_STEPS, TIMED_STEPS = 1, 2
"""A run by minutes measures its speed over these steps, after those, and then knows its length."""


def train_endpoint(
    parts: EndpointParts,
    config: EndpointConfig,
    folder: str | Path,
    *,
    name: str | None = None,
    stop: Callable[[], bool] = lambda: False,
    live: bool = True,
) -> dict[str, Any]:
    """Train one end, or go on with what the folder holds.

    Args:
        parts: models, prompts, encoders.
        config: how.
        folder: of the run.
        name: of the exported model; made of the base's where None.
        stop: asked after each step; True saves and returns.
        live: show the live line on stderr.

    Returns:
        Figures: steps, seconds, finished, stopped (why a guard ended it, or None), and the last
        values of what was measured.

    Raises:
        ConfigError: options that do not fit the model or each other.
        InputError: too few prompts, or an encoder that cannot hear this codec.
        CheckpointError: the folder's run is of another kind, or was begun otherwise.
        StorageError: no room, or the disk is full; what was saved before is intact.
    """
    require_kind(folder, "endpoints")
    return _Run(parts, config, Path(folder), name).go(stop, live)


def autocast_of(
    config: EndpointConfig, device: torch.device
) -> Callable[[], AbstractContextManager[object]]:
    """Choose what both passes multiply in: bfloat16 where asked for or on a GPU, else float32."""
    on_gpu = config.precision == "auto" and device.type == "cuda" and has_native_bf16(device)
    if config.precision == "bf16" or on_gpu:
        return lambda: torch.autocast(device.type, torch.bfloat16)
    return nullcontext


def actor_dtype_of(config: EndpointConfig, device: torch.device) -> torch.dtype:
    """Choose the dtype of the actor's matrices: that of both passes.

    But float32 with factors, see `adapters`, and on a CPU, where attention over one query is slow
    in bfloat16.
    """
    if device.type != "cuda" or config.train == "low-rank":
        return torch.float32
    return torch.float32 if autocast_of(config, device) is nullcontext else torch.bfloat16


class _Run:
    """One run, from what it remembers to what it leaves."""

    def __init__(
        self, parts: EndpointParts, config: EndpointConfig, folder: Path, name: str | None
    ) -> None:
        self.parts, self.config, self.folder = parts, config, folder
        end = "diversity" if config.diversity_weight else "quality"
        self.name = name or f"{parts.base.name}-{end}"
        self.processes = Processes()
        device = self.processes.device
        check_fit(parts, config, self.processes.count, device)
        lm = replace(parts.base.lm, dropout=0.0)
        self.start_state = blend(parts.start_state, parts.base_state, config.start_blend)
        self.student = Student(
            lm, self.start_state, train=config.train, rank=config.rank,
            train_norms=config.train_norms, seed=config.seed % 2**31, device=device,
            actor_dtype=actor_dtype_of(config, device),
        )  # fmt: skip
        teacher = MusicLM(lm)
        teacher.load_state_dict({n: t.float() for n, t in parts.base_state.items()})
        teacher.to(device).eval().requires_grad_(False)
        require_room(folder, room_needed(parts.base, self.student.parameters))
        self.critic = self._make_critic()
        bank = EmbeddingBank(config.bank_keep)
        self.stepper = EndpointStep(
            config, self.student, teacher, parts.text, parts.codec, encoder=parts.encoder,
            critic=self.critic, bank=bank, device=device, autocast=autocast_of(config, device),
        )  # fmt: skip
        self.centre = Centre()
        self.updater = Updater(config, self.student.parameters, self.processes)
        self.progress = Progress(Plan(config.steps), planned=config.minutes == 0)
        self.guards = Guards(config)
        self.memory = Memory(
            student=self.student, updater=self.updater, critic=self.critic, bank=bank,
            centre=self.centre, guards=self.guards, progress=self.progress,
        )  # fmt: skip
        self.origin = self._origin()
        self.memory.restore(folder, config, self.origin)
        self.stopped: str | None = None
        self.hashes: tuple[str, str] | None = None
        """Of base and start, from the first export on."""

    def _origin(self) -> Origin:
        parts, config = self.parts, self.config
        encoder = parts.encoder if config.diversity_weight > 0 else None
        scorer = parts.scorer if paid_figure(config) == "answered" else None
        return Origin(
            self.start_state, parts.base_state, parts.prompts,
            text_encoder=parts.text_hash, codec=parts.codec_hash,
            encoder=None if encoder is None else encoder.identity,
            scorer=None if scorer is None else scorer.identity,
        )  # fmt: skip

    def _make_critic(self) -> CriticTrainer | None:
        config, encoder, device = self.config, self.parts.encoder, self.processes.device
        if not config.diversity_weight or config.credit != "critic" or encoder is None:
            return None
        rate = self.parts.codec.sample_rate
        heard = encoder.embed(torch.zeros(1, 2 * rate, device=device), rate)
        size = int(heard.shape[-1]) + (config.reward == "answered")
        state = torch.get_rng_state()
        torch.manual_seed(config.seed % 2**31)
        critic = EmbeddingCritic(self.parts.base.lm.hidden_size, size).to(device)
        torch.set_rng_state(state)
        mean = self.processes.mean
        return CriticTrainer(critic, config.critic_lr, config.critic_epochs, reduce=mean)

    def save(self) -> None:
        """Write the state and the export, from the first process."""
        if self.processes.main:
            self.memory.save(self.folder, self.config, self.origin)
            self._export()
        self.processes.wait()

    def _export(self) -> None:
        """Write the averaged endpoint."""
        notes = {"endpoint": {**asdict(self.config), **(self.parts.notes or {})},
                 "training": self.figures()}  # fmt: skip
        base, start = self.parts.base, self.parts.start or self.parts.base
        if self.hashes is None:
            base_hash = model_hash(base)
            self.hashes = base_hash, base_hash if start is base else model_hash(start)
        export_endpoint(
            self.folder / "export", self.name, base, start, self.start_state, self.student,
            self.updater.average.tensors, notes, base_sha256=self.hashes[0],
            start_sha256=self.hashes[1], share=self.config.start_blend,
        )  # fmt: skip

    def _complete_export(self) -> None:
        """Write the export if it is missing or of another step than the state."""
        if self.processes.main:
            try:
                told = read_info(self.folder / "export").notes.get("training", {})
            except ModelError:
                told = {}
            if told.get("steps") != self.progress.step:
                self._export()
        self.processes.wait()

    def figures(self) -> dict[str, Any]:
        """What the run came to so far."""
        now = self.progress
        return {
            "steps": now.step, "seconds": round(now.seconds, 1), "finished": now.finished,
            "stopped": self.stopped, **now.last,
        }  # fmt: skip

    def go(self, stop: Callable[[], bool], live: bool) -> dict[str, Any]:
        """Step until the plan is done, a guard objects, or `stop` says so."""
        config, now, agree = self.config, self.progress, self.processes.agree
        path = self.folder / "metrics.jsonl"
        if not self.processes.main:
            path = path.with_name(f"process{self.processes.index}.jsonl")
        shown = sys.stderr if live and self.processes.main else None
        heard_by = {"held_out": self.parts.held_out, "scorer": self.parts.scorer}
        missing = unguarded(**{name: judge is not None for name, judge in heard_by.items()})
        if now.finished:
            self._complete_export()
        elif shown is not None and missing is not None:
            shown.write(f"{missing}\n")
        with MetricsLog(path, resume_step=now.step, live=shown) as log:
            begun, before, saved = time.monotonic(), now.seconds, now.seconds
            pace = Pace(
                now, config.minutes, warm=WARM_STEPS, timed=TIMED_STEPS, least=5,
                decide=self.processes.from_main,
            )  # fmt: skip
            asked = False
            while not now.finished and not asked and self.stopped is None:
                row = self._one_step(log)
                now.seconds = before + time.monotonic() - begun
                log.write("train", now.step, **row, seconds=now.seconds)
                asked = agree(stop())
                replanned = pace.replan()
                if replanned:
                    log.write("plan", now.step, total_steps=now.plan.total_steps)
                last = now.finished or asked or self.stopped is not None
                due = agree(now.seconds - saved >= config.save_minutes * 60)
                if due or last or replanned:
                    saved = now.seconds
                    self.save()
                log.show(self._live_line(row), force=last)
            if self.stopped is not None:
                log.write("stop", now.step, why=self.stopped)
        return self.figures()

    def _one_step(self, log: MetricsLog) -> dict[str, Any]:
        """Make one step and look after it."""
        config, stepper, now = self.config, self.stepper, self.progress
        stepper.clock.seconds = {}
        step, progress = now.step, now.share
        beta, kl_weight = reward_weight_at(config, progress), kl_weight_at(config, progress)
        batch = self._clips()
        if config.diversity_weight > 0 or step % config.listen_every == 0:
            stepper.hear(batch)
        if config.centred and batch.embeddings is not None:
            mean = self.processes.mean(batch.embeddings.flatten(0, 1).mean(0))
            batch.embeddings = self.centre.take_off(batch.embeddings, mean)
        row: dict[str, Any] = {}
        if batch.embeddings is not None:
            row |= self._diversity(batch)
        measure = beta > 0 and step % config.measure_every == 0
        gradients, found, states = stepper.gradients(
            batch, kl_weight=kl_weight, reward_weight=beta, measure=measure
        )
        row |= found
        with stepper.clock("update"):
            row |= self.updater.take(
                gradients, step=step, progress=progress, tokens=row["tokens_per_clip"],
                measured=measure,
            )  # fmt: skip
        if config.diversity_weight and batch.embeddings is not None:
            row |= self._learn(batch, states)
        for name in ("kl", "kl_per_token", "entropy"):
            row[name] = self.processes.mean_number(row[name])
        paid = row.get(paid_figure(config), 0.0)
        row["objective"] = -row["kl"] + config.diversity_weight * paid
        clips = len(batch.codes) * self.processes.count
        row |= {"beta": beta, "kl_weight": kl_weight, "clips": clips}
        now.step += 1
        self._guard(batch, row, beta, log)
        row["time"] = {part: round(s, 3) for part, s in stepper.clock.seconds.items()}
        told = ("kl", "diversity", paid_figure(config), "entropy", "objective")
        now.last |= {n: row[n] for n in told if n in row}
        return row

    def _diversity(self, batch: Batch) -> dict[str, float]:
        """Measure a batch's diversity and what is paid; weigh embeddings for "answered"."""
        config, scorer, weights = self.config, self.parts.scorer, None
        if paid_figure(config) == "answered" and scorer is not None:
            with self.stepper.clock("scorer"):
                weights = answers(
                    batch, scorer, self.parts.codec.sample_rate,
                    low=config.answer_low, high=config.answer_high,
                )  # fmt: skip
        found = measure_pay(batch, config, weights)
        return {name: float(self.processes.mean(value)) for name, value in found.items()}

    def _clips(self) -> Batch:
        """Roll out this process's share of the step's prompts."""
        config, parts, step = self.config, self.parts, self.progress.step
        first, mine = share_of_prompts(
            config, step, len(parts.prompts), self.processes.index, self.processes.count
        )
        clips = config.prompts_per_step * config.clips_per_prompt  # numbers that a step owns
        return self.stepper.make_clips(
            mine,
            [parts.prompts[index] for index in mine],
            seed=config.seed,
            first_clip=step * clips + first * config.clips_per_prompt,
            num_frames=frames_of(duration_of(config, step), parts.base.frame_rate),
            first_prompt=first,
        )

    def _learn(self, batch: Batch, states: Tensor | None) -> dict[str, Any]:
        """Let the critic and the bank learn from a batch that was judged."""
        assert batch.embeddings is not None
        row: dict[str, Any] = {}
        if self.critic is not None and states is not None:
            row = dict(self.stepper.learn_values(batch, states, self.progress.step))
        prompts = self.processes.gather(torch.tensor(batch.prompts)).cpu()
        self.stepper.bank.update(prompts.tolist(), self.processes.gather(batch.embeddings))
        return row

    def _guard(self, batch: Batch, row: dict[str, Any], beta: float, log: MetricsLog) -> None:
        """Ask the guards; the first process decides for all."""
        step = self.progress.step - 1  # which was just made
        long = is_long(self.config, step)
        why = None if long else self.guards.after_step(row, beta)
        if step % self.config.listen_every == 0 and batch.samples is not None:
            parts = self.parts
            with self.stepper.clock("listening"):
                heard = listening(
                    batch, parts.held_out, parts.scorer, parts.codec.sample_rate,
                    take_off_mean=self.config.centred,
                )  # fmt: skip
            for name in ("diversity", paid_figure(self.config)):
                if name in row:
                    heard[name] = float(row[name])
            heard = {n: self.processes.mean_number(v) for n, v in heard.items()}
            log.write("heard", self.progress.step, **heard)
            self.progress.last |= heard
            why = why or (None if long else self.guards.after_hearing(heard))
        if self.processes.agree(why is not None):
            self.stopped = why or "another process was stopped by a guard"

    def _live_line(self, row: Mapping[str, Any]) -> str:
        now, left = self.progress, "?"
        if now.planned and now.step:
            left = format_seconds((now.plan.total_steps - now.step) * now.seconds / now.step)
        total = now.plan.total_steps if now.planned else "?"
        slowest = sorted(row["time"].items(), key=lambda part: -part[1])[:5]
        times = " ".join(f"{name} {seconds:.1f}" for name, seconds in slowest)
        diversity = f"  D {row['diversity']:.3f}" if "diversity" in row else ""
        return (
            f"step {now.step}/{total}  KL {row['kl']:.1f} ({row['kl_per_token']:.4f} a token)"
            f"{diversity}  entropy {row['entropy']:.2f}  {left} left  [s: {times}]"
        )
