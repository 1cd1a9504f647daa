"""The run of one endpoint: steps, metrics, guards, saves, export.

A run is a folder:

    state/           everything needed to go on after a kill, bit for bit
    metrics.jsonl    one row a step (docs/metrics.md), one a hearing
    export/          the averaged endpoint, which `merge`, the slider and `generate` load

Nothing random is remembered: prompts, clips and orders follow from the seed and the step's number.
"""

import math
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from musicgen_rl.checkpoint import ModelInfo
from musicgen_rl.codec.base import Codec
from musicgen_rl.errors import CheckpointError, ConfigError
from musicgen_rl.lm.low_rank import blend
from musicgen_rl.lm.transformer import MusicLM
from musicgen_rl.rewards.diversity import pairwise_diversity
from musicgen_rl.text.base import TextEncoder
from musicgen_rl.training.adapters import ParameterAverage, Student
from musicgen_rl.training.advantages import EmbeddingBank
from musicgen_rl.training.checkpointing import (
    load_training_state,
    pack_optimizer,
    restore_optimizer,
    save_training_state,
)
from musicgen_rl.training.critic import CriticTrainer, EmbeddingCritic
from musicgen_rl.training.endpoint_config import EndpointConfig
from musicgen_rl.training.endpoint_export import export_endpoint, require_room, room_needed
from musicgen_rl.training.endpoint_step import Embed, EndpointStep, Gradients, Score
from musicgen_rl.training.guards import Guards
from musicgen_rl.training.metrics import MetricsLog, format_seconds
from musicgen_rl.training.optim import Plan, rate_factor
from musicgen_rl.training.pretrain import has_native_bf16
from musicgen_rl.training.prompts import prompts_of_step, require_enough
from musicgen_rl.training.rollout import frames_of

WARM_STEPS, TIMED_STEPS = 1, 2
"""A run by minutes measures its speed over these steps, after those, and then knows its length."""
FIXED = ("seed", "prompts_per_step", "clips_per_prompt", "train", "rank", "train_norms",
         "start_blend", "diversity_weight", "reward", "credit")  # fmt: skip
"""What may not change when a run goes on."""


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
    encoder: Embed | None = None
    """The training encoder."""
    held_out: Embed | None = None
    """An encoder that training never sees, for the guard."""
    scorer: Score | None = None
    """Text-audio scorer, for the guard."""
    notes: Mapping[str, Any] | None = None
    """For the card: command, preset, instruments."""


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
        CheckpointError: the folder's run was begun otherwise.
        StorageError: no room, or the disk is full; what was saved before is intact.
    """
    run = _Run(parts, config, Path(folder), name)
    run.restore()
    return run.go(stop, live)


class _Run:
    """The state of one run: what `save` writes and `restore` reads."""

    def __init__(
        self, parts: EndpointParts, config: EndpointConfig, folder: Path, name: str | None
    ) -> None:
        self.parts, self.config, self.folder = parts, config, folder
        end = "diversity" if config.diversity_weight else "quality"
        self.name = name or f"{parts.base.name}-{end}"
        self.accelerator = Accelerator()
        self.device = self.accelerator.device
        self.processes = self.accelerator.num_processes
        check_fit(parts, config, self.processes, self.device)
        device, lm = self.device, parts.base.lm
        base = {n: t.float() for n, t in parts.base_state.items()}
        self.start_state = blend(parts.start_state, parts.base_state, config.start_blend)
        self.student = Student(
            replace(lm, dropout=0.0), self.start_state, train=config.train, rank=config.rank,
            train_norms=config.train_norms, seed=config.seed % 2**31, device=device,
        )  # fmt: skip
        teacher = MusicLM(replace(lm, dropout=0.0))
        teacher.load_state_dict(base)
        teacher.to(device).eval().requires_grad_(False)
        require_room(folder, room_needed(parts.base, self.student.parameters))
        self.optimizer = torch.optim.AdamW(
            list(self.student.parameters.values()), lr=config.learning_rate,
            betas=(config.beta1, config.beta2), weight_decay=config.weight_decay,
        )  # fmt: skip
        self.average = ParameterAverage(self.student.parameters, config.ema_decay)
        self.bank = EmbeddingBank(config.bank_keep)
        self.critic = self._make_critic()
        self.guards = Guards(config)
        self.stepper = EndpointStep(
            config, self.student, teacher, parts.text, parts.codec, encoder=parts.encoder,
            critic=self.critic, bank=self.bank, device=device, autocast=self._autocast(),
        )  # fmt: skip
        self.step, self.seconds = 0, 0.0
        self.plan, self.planned = Plan(config.steps), config.minutes == 0
        self.signal = [0.0, 0.0, 0.0]  # sums of signal and of noise, and their weight
        self.stopped: str | None = None
        self.last: dict[str, Any] = {}

    def _make_critic(self) -> CriticTrainer | None:
        config, encoder = self.config, self.parts.encoder
        if not config.diversity_weight or config.credit != "critic" or encoder is None:
            return None
        rate = self.parts.codec.sample_rate
        heard = encoder.embed(torch.zeros(1, 2 * rate, device=self.device), rate)
        size = int(heard.shape[-1])
        state = torch.get_rng_state()
        torch.manual_seed(config.seed % 2**31)
        critic = EmbeddingCritic(self.parts.base.lm.hidden_size, size).to(self.device)
        torch.set_rng_state(state)
        return CriticTrainer(critic, config.critic_lr, config.critic_epochs, reduce=self._mean)

    def _autocast(self) -> Callable[[], AbstractContextManager[object]]:
        choice, device = self.config.precision, self.device
        on_gpu = choice == "auto" and device.type == "cuda" and has_native_bf16(device)
        if choice == "bf16" or on_gpu:
            return lambda: torch.autocast(device.type, torch.bfloat16)
        return nullcontext

    def _mean(self, tensor: Tensor) -> Tensor:
        if self.processes == 1:
            return tensor
        reduced: Tensor = self.accelerator.reduce(tensor.contiguous(), "mean")
        return reduced

    def restore(self) -> None:
        """Read the folder's state, if there is one."""
        found = load_training_state(self.folder / "state")
        if found is None:
            return
        tensors, state = found
        if state["start"] != self._start_identity():
            raise CheckpointError(
                f"{self.folder} holds a run of another base or start: use the same, or a new folder"
            )
        changed = [n for n in FIXED if state["config"].get(n) != getattr(self.config, n)]
        if changed:
            raise CheckpointError(
                f"{self.folder} was begun with another {' and '.join(changed)}: use the same, or a "
                "new folder"
            )
        with torch.no_grad():
            for name, parameter in self.student.parameters.items():
                parameter.copy_(tensors[f"student.{name}"])
                self.average.tensors[name].copy_(tensors[f"average.{name}"])
        restore_optimizer(self.optimizer, tensors, state["optimizer"])
        if self.critic is not None:
            weights = {n: tensors[f"critic.{n}"] for n in self.critic.critic.state_dict()}
            self.critic.critic.load_state_dict(weights)
            own = state["critic_optimizer"]
            restore_optimizer(self.critic.optimizer, tensors, own, prefix="critic_optimizer")
        self.bank.restore(tensors)
        self.guards.restore(state["guards"])
        self.step, self.seconds, self.signal = state["step"], state["seconds"], state["signal"]
        self.plan, self.planned = Plan(**state["plan"]), state["planned"]
        if self.config.minutes == 0:
            self.plan, self.planned = replace(self.plan, total_steps=self.config.steps), True
        self.last = state["last"]

    def save(self) -> None:
        """Write the state and the export, from the first process."""
        if self.accelerator.is_main_process:
            tensors: dict[str, Tensor] = dict(self.bank.pack())
            tensors |= {f"student.{n}": p for n, p in self.student.parameters.items()}
            tensors |= {f"average.{n}": t for n, t in self.average.tensors.items()}
            more, packed = pack_optimizer(self.optimizer)
            tensors |= more
            state = {
                "step": self.step, "seconds": self.seconds, "plan": asdict(self.plan),
                "planned": self.planned, "optimizer": packed, "signal": self.signal,
                "guards": self.guards.pack(), "config": asdict(self.config), "last": self.last,
                "start": self._start_identity(),
            }  # fmt: skip
            if self.critic is not None:
                more, state["critic_optimizer"] = pack_optimizer(
                    self.critic.optimizer, prefix="critic_optimizer"
                )
                tensors |= more
                critic = self.critic.critic.state_dict()
                tensors |= {f"critic.{n}": t for n, t in critic.items()}
            save_training_state(self.folder / "state", tensors, state)
            notes = {"endpoint": {**asdict(self.config), **(self.parts.notes or {})},
                     "training": self.figures()}  # fmt: skip
            start = self.parts.start or self.parts.base
            export_endpoint(
                self.folder / "export", self.name, self.parts.base, start, self.start_state,
                self.student, self.average.tensors, notes, share=self.config.start_blend,
            )  # fmt: skip
        self.accelerator.wait_for_everyone()

    def figures(self) -> dict[str, Any]:
        """What the run came to so far."""
        return {
            "steps": self.step, "seconds": round(self.seconds, 1), "finished": self.finished,
            "stopped": self.stopped, **self.last,
        }  # fmt: skip

    @property
    def finished(self) -> bool:
        """Whether every planned step is done."""
        return self.planned and self.step >= self.plan.total_steps

    def go(self, stop: Callable[[], bool], live: bool) -> dict[str, Any]:
        """Step until the plan is done, a guard objects, or `stop` says so."""
        main = self.accelerator.is_main_process
        path = self.folder / "metrics.jsonl"
        path = path if main else path.with_name(f"process{self.accelerator.process_index}.jsonl")
        shown = sys.stderr if live and main else None
        with MetricsLog(path, resume_step=self.step, live=shown) as log:
            begun, before, saved = time.monotonic(), self.seconds, self.seconds
            speed_from = (begun, self.step)
            asked = False
            while not self.finished and not asked and self.stopped is None:
                row = self._one_step(log)
                self.seconds = before + time.monotonic() - begun
                log.write("train", self.step, **row, seconds=self.seconds)
                asked = self._agree(stop())
                replanned = self.config.minutes > 0 and self._replan(speed_from)
                if replanned:
                    speed_from = (time.monotonic(), self.step)
                    log.write("plan", self.step, total_steps=self.plan.total_steps)
                last = self.finished or asked or self.stopped is not None
                due = self._agree(self.seconds - saved >= self.config.save_minutes * 60)
                if due or last or replanned:
                    saved = self.seconds
                    self.save()
                log.show(self._live_line(row), force=last)
            if self.stopped is not None:
                log.write("stop", self.step, why=self.stopped)
        return self.figures()

    def _one_step(self, log: MetricsLog) -> dict[str, Any]:
        """Make one step and look after it."""
        config, stepper = self.config, self.stepper
        stepper.clock.seconds = {}
        progress = self.plan.progress(self.step) if self.planned else 0.0
        beta, kl_weight = reward_weight_at(config, progress), kl_weight_at(config, progress)
        heard = config.diversity_weight > 0 or self.step % config.listen_every == 0
        batch = self._clips()
        if heard:
            stepper.hear(batch)
        measure = beta > 0 and self.step % config.measure_every == 0
        gradients, row, states = stepper.gradients(
            batch, kl_weight=kl_weight, reward_weight=beta, measure=measure
        )
        if batch.embeddings is not None:
            diversity = float(self._mean(pairwise_diversity(batch.embeddings).mean()))
            row["diversity"] = diversity
        with stepper.clock("update"):
            row |= self._update(gradients, measure, float(row["tokens_per_clip"]), progress)  # type: ignore[arg-type]
        if config.diversity_weight and batch.embeddings is not None:
            row |= self._learn(batch, states)
        for name in ("kl", "kl_per_token", "entropy"):
            row[name] = float(self._mean(torch.tensor(row[name], device=self.device)))
        row["objective"] = -float(row["kl"]) + config.diversity_weight * float(  # type: ignore[arg-type]
            row.get("diversity", 0.0)  # type: ignore[arg-type]
        )
        row |= {"beta": beta, "kl_weight": kl_weight, "clips": len(batch.codes) * self.processes}
        self.step += 1
        self._guard(batch, row, beta, log)
        row["time"] = {part: round(s, 3) for part, s in stepper.clock.seconds.items()}
        self.last |= {n: row[n] for n in ("kl", "diversity", "entropy", "objective") if n in row}
        return row

    def _clips(self) -> Any:
        """Roll out this process's share of the step's prompts."""
        config, parts = self.config, self.parts
        long = config.long_clip_s > 0 and self.step % config.long_every == config.long_every - 1
        duration = config.long_clip_s if long else config.clip_s
        chosen = prompts_of_step(
            config.seed, self.step, config.prompts_per_step, len(parts.prompts)
        )
        if long:  # fewer prompts for the same work, a multiple of the processes
            kept = round(len(chosen) * config.clip_s / config.long_clip_s / self.processes)
            chosen = chosen[: max(1, kept) * self.processes]
        share = len(chosen) // self.processes
        first = self.accelerator.process_index * share
        mine = chosen[first : first + share]
        clips = config.prompts_per_step * config.clips_per_prompt  # numbers that a step owns
        return self.stepper.make_clips(
            mine,
            [parts.prompts[index] for index in mine],
            seed=config.seed,
            first_clip=self.step * clips + first * config.clips_per_prompt,
            num_frames=frames_of(duration, parts.base.frame_rate),
        )

    def _update(
        self, gradients: Gradients, measured: bool, tokens: float, progress: float
    ) -> dict[str, Any]:
        """Average the gradient over processes, clip it and take the optimiser's step."""
        config, row = self.config, {}
        self._reduce(gradients.total)
        if measured:
            for part in (gradients.kl, *gradients.halves):
                self._reduce(part)
            row = self._measure(gradients, tokens)
        parameters = self.student.parameters
        for name, parameter in parameters.items():
            parameter.grad = gradients.total[name]
        norm = float(nn.utils.clip_grad_norm_(parameters.values(), config.grad_clip))
        if not math.isfinite(norm):
            raise ConfigError(
                f"the gradient is {norm} at step {self.step}: lower learning_rate "
                f"({config.learning_rate:g}) or diversity_weight ({config.diversity_weight:g}); "
                "the last save is intact"
            )
        factor = rate_factor(self.step, progress, config.warmup_steps, config.final_rate)
        for group in self.optimizer.param_groups:
            group["lr"] = factor * config.learning_rate
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.average.update(parameters, self.step + 1)
        return {"grad_norm": norm, "rate": factor, **row}

    def _measure(self, gradients: Gradients, tokens: float) -> dict[str, float]:
        """Compare the terms' gradients, and the reward's signal with its noise.

        Both halves of the prompts have half the true gradient as their mean, so four times their
        product is its squared norm without bias, and the square of their difference is the noise
        of the whole.
        """
        even, odd = gradients.halves
        product = sum(float((even[n] * odd[n]).sum()) for n in even)
        noise = sum(float((even[n] - odd[n]).pow(2).sum()) for n in even)
        signal = 4.0 * product * tokens**2
        noise *= tokens**2
        keep = 0.9
        self.signal = [
            keep * old + (1 - keep) * new
            for old, new in zip(self.signal, (signal, noise, 1.0), strict=True)
        ]
        return {
            "grad_norm_kl": tokens * _norm(gradients.kl),
            "grad_norm_reward": tokens * _norm({n: even[n] + odd[n] for n in even}),
            "reward_signal": signal,
            "reward_noise": noise,
            "reward_snr": self.signal[0] / max(self.signal[1], 1e-30),
        }

    def _learn(self, batch: Any, states: Tensor | None) -> dict[str, Any]:
        """Let the critic and the bank learn from a batch that was judged."""
        row: dict[str, Any] = {}
        if self.critic is not None and states is not None:
            row = dict(self.stepper.learn_values(batch, states, self.step))
        elif self.critic is not None and self.step == 0:
            self.critic.critic.start_at(self._mean(batch.embeddings.flatten(0, 1).mean(0)))
        prompts, embeddings = torch.tensor(batch.prompts), batch.embeddings
        if self.processes > 1:
            prompts = self.accelerator.gather(prompts.to(self.device)).cpu()
            embeddings = self.accelerator.gather(embeddings.contiguous())
        self.bank.update(prompts.tolist(), embeddings)
        return row

    def _guard(self, batch: Any, row: dict[str, Any], beta: float, log: MetricsLog) -> None:
        """Ask the guards; the first process decides for all."""
        long = float(row["tokens_per_clip"]) != self._usual_tokens()
        why = None if long else self.guards.after_step(row, beta)
        if (self.step - 1) % self.config.listen_every == 0 and batch.samples is not None:
            heard = self.stepper.listening(batch, self.parts.held_out, self.parts.scorer)
            if "diversity" in row:
                heard["diversity"] = float(row["diversity"])
            heard = {
                n: float(self._mean(torch.tensor(v, device=self.device))) for n, v in heard.items()
            }
            log.write("heard", self.step, **heard)
            self.last |= heard
            why = why or (None if long else self.guards.after_hearing(heard))
        if self._agree(why is not None):
            self.stopped = why or "another process was stopped by a guard"

    def _usual_tokens(self) -> float:
        base = self.parts.base
        return float(base.lm.num_codebooks * frames_of(self.config.clip_s, base.frame_rate))

    def _reduce(self, gradients: dict[str, Tensor]) -> None:
        """Average over processes, all tensors at once."""
        if self.processes == 1:
            return
        flat = self._mean(torch.cat([t.flatten() for t in gradients.values()]))
        start = 0
        for name, tensor in gradients.items():
            gradients[name] = flat[start : start + tensor.numel()].view(tensor.shape)
            start += tensor.numel()

    def _replan(self, speed_from: tuple[float, int]) -> bool:
        """Fit the steps to the minutes: after a few steps, then whenever an eighth is done."""
        begun_at, begun_step = speed_from
        since = self.step - begun_step
        wait = max(5, (self.plan.total_steps - self.plan.from_step) // 8)
        if self.finished or since < (wait if self.planned else WARM_STEPS + TIMED_STEPS):
            return False
        per_step = (time.monotonic() - begun_at) / since
        plan = self.plan if self.planned else Plan(total_steps=self.step, from_step=self.step)
        plan = plan.replan(self.step, self.config.minutes * 60 - self.seconds, per_step)
        self.plan = replace(plan, total_steps=round(self._from_main(plan.total_steps)))
        self.planned = True
        return True

    def _agree(self, mine: bool) -> bool:
        """The first process decides for all, or they would wait for each other forever."""
        return bool(self._from_main(float(mine)))

    def _from_main(self, value: float) -> float:
        if self.processes == 1:
            return value
        own = value if self.accelerator.is_main_process else 0.0
        number = torch.tensor(own, dtype=torch.float64, device=self.device)
        return float(self.accelerator.reduce(number, "sum"))

    def _start_identity(self) -> dict[str, Any]:
        """Tell one start from another: names, and a sum over the weights."""
        total = sum(float(t.double().sum()) for t in self.start_state.values())
        base = sum(float(t.double().sum()) for t in self.parts.base_state.values())
        return {"start": total, "base": base}

    def _live_line(self, row: Mapping[str, Any]) -> str:
        left = "?"
        if self.planned and self.step:
            left = format_seconds((self.plan.total_steps - self.step) * self.seconds / self.step)
        total = self.plan.total_steps if self.planned else "?"
        slowest = sorted(row["time"].items(), key=lambda part: -part[1])[:5]
        times = " ".join(f"{name} {seconds:.1f}" for name, seconds in slowest)
        diversity = f"  D {row['diversity']:.3f}" if "diversity" in row else ""
        return (
            f"step {self.step}/{total}  KL {row['kl']:.1f} ({row['kl_per_token']:.4f} a token)"
            f"{diversity}  entropy {row['entropy']:.2f}  {left} left  [s: {times}]"
        )


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
    longest = max(config.clip_s, config.long_clip_s)
    if frames_of(longest, base.frame_rate) > base.window.frames:
        raise ConfigError(
            f"clips of {longest:g} s are longer than the model's window of "
            f"{base.window.frames / base.frame_rate:g} s: lower clip_s or long_clip_s"
        )
    config.weights_of(base.lm.num_codebooks)
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


def reward_weight_at(config: EndpointConfig, progress: float) -> float:
    """Return beta at a share of the run: 0 during the delay, then a straight line to the full."""
    if progress < config.reward_delay:
        return 0.0
    if config.reward_ramp <= 0:
        return config.diversity_weight
    share = min(1.0, (progress - config.reward_delay) / config.reward_ramp)
    return config.diversity_weight * share


def kl_weight_at(config: EndpointConfig, progress: float) -> float:
    """Return the KL's weight at a share of the run, a straight line where an end is set."""
    if config.kl_weight_final < 0:
        return config.kl_weight
    return config.kl_weight + (config.kl_weight_final - config.kl_weight) * progress


def _norm(tensors: Mapping[str, Tensor]) -> float:
    return math.sqrt(sum(float(t.double().pow(2).sum()) for t in tensors.values()))
