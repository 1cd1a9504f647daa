"""One step of an endpoint: clips, rewards, advantages, both passes, the gradient of both terms.

Order within a step, for P prompts of N clips:

    codes      rollout of the student's actor, one row a clip           rollout.py
    e          codec, then the training encoder; only for the reward     [B, d]
    mu         the other clips' mean, with what the bank remembers       [B, d]
    teacher    one teacher-forced pass of two rows, guided               [b, S, K, V]
    student    one teacher-forced pass with gradient                     [b, S, K, V]
    advantage  critic on the frozen base's states, GAE                   [b, S]
    gradient   closed form at the logits, then through the student
    critic     fitted to this batch, after it has judged it
"""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor

from musicgen_rl.codec.base import Codec
from musicgen_rl.lm.condition import Condition, null_condition
from musicgen_rl.lm.delay import apply_delay, shift_right
from musicgen_rl.lm.transformer import MusicLM
from musicgen_rl.rewards.diversity import unit
from musicgen_rl.text.base import TextEncoder
from musicgen_rl.training.adapters import Student
from musicgen_rl.training.advantages import EmbeddingBank
from musicgen_rl.training.critic import CriticTrainer
from musicgen_rl.training.endpoint_clips import Batch, Embed
from musicgen_rl.training.endpoint_config import EndpointConfig
from musicgen_rl.training.endpoint_gradients import Gradients
from musicgen_rl.training.endpoint_pay import prepare_pay
from musicgen_rl.training.losses import guided_teacher, logit_gradients, token_weights
from musicgen_rl.training.rollout import repeat_condition, rollout, sound, take_rows


class Clock:
    """Adds up the seconds of each part of a step.

    Args:
        device: a GPU is waited for.
        now: gives seconds.
    """

    def __init__(self, device: torch.device, now: Callable[[], float] = time.perf_counter) -> None:
        self._cuda, self._clock = device.type == "cuda", now
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        """Time a part."""
        start = self._now()
        try:
            yield
        finally:
            self.seconds[part] = self.seconds.get(part, 0.0) + self._now() - start

    def _now(self) -> float:
        if self._cuda:
            torch.cuda.synchronize()
        return self._clock()


class EndpointStep:
    """Makes steps of one run; holds what does not change between them.

    Args:
        config: of the run.
        student: what is trained.
        teacher: the frozen base.
        text: encodes prompts.
        codec: of the model.
        encoder: the training encoder; needed where diversity_weight > 0.
        critic: needed with credit "critic" where diversity_weight > 0.
        bank: of prompts' embeddings.
        device: of the models.
        autocast: makes the context of both passes, and of an actor that is as narrow as they are.
    """

    def __init__(
        self,
        config: EndpointConfig,
        student: Student,
        teacher: MusicLM,
        text: TextEncoder,
        codec: Codec,
        *,
        encoder: Embed | None,
        critic: CriticTrainer | None,
        bank: EmbeddingBank,
        device: torch.device,
        autocast: Callable[[], AbstractContextManager[object]] = nullcontext,
    ) -> None:
        self.config, self.student, self.teacher, self.text = config, student, teacher, text
        self.codec, self.encoder, self.critic, self.bank = codec, encoder, critic, bank
        self.device, self.autocast = device, autocast
        lm = teacher.config
        given = config.weights_of(lm.num_codebooks)
        self.codebook_weights = None if given is None else torch.tensor(given)
        self.negative = text.encode([config.negative_prompt]) if config.negative_prompt else None
        self.clock = Clock(device)

    def make_clips(
        self,
        prompts: list[int],
        texts: list[str],
        *,
        seed: int,
        first_clip: int,
        num_frames: int,
        first_prompt: int = 0,
    ) -> Batch:
        """Roll out N clips of each prompt.

        Args:
            prompts: numbers of P prompts.
            texts: the prompts.
            seed: of the run.
            first_clip: number of the first clip in the run.
            num_frames: T.
            first_prompt: how many of the step's prompts other processes take before these.
        """
        with self.clock("text"):
            condition = self.text.encode(texts).to("cpu")
            condition = repeat_condition(condition, self.config.clips_per_prompt)
        with self.clock("rollout"):
            self.student.sync_actor()
            codes = rollout(
                self.student.actor,
                condition,
                seed=seed,
                first_clip=first_clip,
                num_frames=num_frames,
                temperature=self.config.temperature,
                autocast=self.autocast,
            )
        generator = torch.Generator().manual_seed((seed * 1_000_003 + first_clip) % 2**63)
        order = torch.randperm(len(codes), generator=generator)
        if self.config.kl_share == 1.0:
            order = torch.arange(len(codes))
        condition = condition.to(self.device)
        return Batch(prompts, texts, condition, codes, order, first_prompt=first_prompt)

    def hear(self, batch: Batch) -> None:
        """Decode and embed the clips."""
        with self.clock("codec"):
            batch.samples = sound(self.codec, batch.codes, self.device)
        if self.encoder is not None:
            with self.clock("encoder"), torch.no_grad():
                found = self.encoder.embed(batch.samples, self.codec.sample_rate)
                found = unit(found.to(self.device)).clone()
            batch.embeddings = found.view(len(batch.prompts), self.config.clips_per_prompt, -1)

    def gradients(
        self, batch: Batch, *, kl_weight: float, reward_weight: float, measure: bool
    ) -> tuple[Gradients, dict[str, object], Tensor | None]:
        """Compute the gradient of the objective per token, and the figures of the batch.

        Args:
            batch: with embeddings where the reward counts, now or later in the run.
            kl_weight: of this step.
            reward_weight: beta of this step; at 0 the reward brings no gradient.
            measure: keep both terms' gradients apart.

        Returns:
            Gradients; figures; the states the critic learns from, by row, [B, S, D], or None where
            there is no critic or no reward in the whole run.
        """
        config, lm = self.config, self.teacher.config
        B, K, T = batch.codes.shape
        place = token_weights(K, T, lm.audio_channels, self.codebook_weights).to(self.device)
        tokens_per_clip = float(K * T)
        with_kl = max(1, round(config.kl_share * B))
        targets = apply_delay(batch.codes[batch.order], lm.pad_token, lm.audio_channels)
        targets = targets.to(self.device)  # [B, K, S] by row
        pay = None
        if reward_weight or self._learns_from(batch):
            critic = None if self.critic is None else self.critic.critic
            pay = prepare_pay(batch, config, self.bank, critic)
        found = Gradients.zeros(self.student.parameters, apart=measure)
        sums = {"kl": torch.zeros(K), "forward": torch.zeros(K), "entropy": torch.zeros(K)}
        states: list[Tensor] = []
        spread = torch.zeros(2, dtype=torch.float64)
        for rows in _slices(B, with_kl, config.micro_batch_size):
            clips = batch.order[rows]
            given = take_rows(batch.condition, clips)
            inputs = shift_right(targets[rows], lm.pad_token)
            aims = targets[rows].transpose(1, 2)  # [b, S, K]
            teacher, hidden_t = None, None
            if rows.start < with_kl:
                with self.clock("teacher"):
                    teacher, hidden_t = self._teach(inputs, given)
            with self.clock("student"), self.autocast():
                hidden = self.student.model.hidden_states(inputs, given)
                logits = self.student.model.logits(hidden).float().transpose(1, 2)
            advantages = None
            if pay is not None:
                with self.clock("critic"):
                    seen = hidden_t if config.kl_share == 1.0 else hidden.detach()
                    assert seen is not None
                    advantages = pay(clips, seen.float())
                    states.append(seen.float())
                    spread += torch.stack([advantages.sum(), advantages.pow(2).sum()]).cpu()
            with self.clock("loss"):
                terms = logit_gradients(
                    logits.detach(), aims, place, teacher=teacher,
                    advantages=advantages if reward_weight else None,
                    temperature=config.temperature, forward_share=config.forward_share,
                    paid_codebooks=config.reward_codebooks,
                )  # fmt: skip
                scale_kl = kl_weight / (with_kl * tokens_per_clip)
                scale_reward = reward_weight / (B * tokens_per_clip)
            with self.clock("student"):
                prompts = batch.first_prompt + clips // config.clips_per_prompt
                found.add(
                    self.student.parameters, logits, terms, kl_scale=scale_kl,
                    reward_scale=scale_reward, prompts=prompts,
                )  # fmt: skip
            sums["entropy"] += terms.entropy.sum(0).cpu() / B
            sums["kl"] += terms.kl.sum(0).cpu() / with_kl
            sums["forward"] += terms.forward.sum(0).cpu() / with_kl
        figures: dict[str, object] = {
            "kl": float(sums["kl"].sum()),
            "kl_per_token": float(sums["kl"].sum()) / tokens_per_clip,
            "kl_per_codebook": (sums["kl"] / T).tolist(),
            "entropy": float(sums["entropy"].sum()) / tokens_per_clip,
            "tokens_per_clip": tokens_per_clip,
        }
        if config.forward_share:
            figures["forward_kl"] = float(sums["forward"].sum())
        if pay is not None:
            steps = float(B * targets.shape[-1])
            figures["advantage_mean"] = float(spread[0] / steps)
            figures["advantage_rms"] = float((spread[1] / steps).sqrt())
        return found, figures, torch.cat(states) if states and config.credit == "critic" else None

    @torch.no_grad()
    def kl_of(self, batch: Batch) -> Tensor:
        """Measure each clip's KL to the guided teacher, summed over its tokens, unweighted.

        Args:
            batch: of `make_clips`.

        Returns:
            Nats, by clip, [B].
        """
        lm = self.teacher.config
        B, K, T = batch.codes.shape
        place = token_weights(K, T, lm.audio_channels).to(self.device)
        targets = apply_delay(batch.codes, lm.pad_token, lm.audio_channels).to(self.device)
        each: list[Tensor] = []
        for rows in _slices(B, B, self.config.micro_batch_size):
            given = take_rows(batch.condition, rows)
            inputs = shift_right(targets[rows], lm.pad_token)
            teacher, _ = self._teach(inputs, given)
            with self.autocast():
                hidden = self.student.model.hidden_states(inputs, given)
                logits = self.student.model.logits(hidden).float().transpose(1, 2)
            terms = logit_gradients(
                logits, targets[rows].transpose(1, 2), place, teacher=teacher,
                temperature=self.config.temperature,
            )  # fmt: skip
            each.append(terms.kl.sum(1))
        return torch.cat(each)

    def learn_values(self, batch: Batch, states: Tensor, seed: int) -> dict[str, float]:
        """Fit the critic to a batch that it has judged, and let the bank remember it."""
        assert batch.embeddings is not None
        assert self.critic is not None
        with self.clock("critic"):
            flat = batch.embeddings.flatten(0, 1)[batch.order.to(self.device)]
            return self.critic.update(states, flat, seed)

    def _teach(self, inputs: Tensor, given: Condition) -> tuple[Tensor, Tensor]:
        """Run the frozen base with the prompt and without: log-probabilities, prompted states."""
        config, b = self.config, inputs.shape[0]
        with torch.no_grad(), self.autocast():
            hidden = self.teacher.hidden_states(inputs, given)
            conditional = self.teacher.logits(hidden).float().transpose(1, 2)
            if config.guidance_scale == 1.0:
                return conditional.log_softmax(-1), hidden
            if self.negative is None:
                null = null_condition(b, given.hidden.shape[-1], self.device)
            else:
                null = repeat_condition(self.negative.to(self.device), b)
            other = self.teacher.logits(self.teacher.hidden_states(inputs, null))
            other = other.float().transpose(1, 2)
        return guided_teacher(conditional, other, config.guidance_scale), hidden

    def _learns_from(self, batch: Batch) -> bool:
        """Tell whether the critic learns from a batch, be the reward paid by now or not."""
        comes = self.config.diversity_weight > 0 and self.config.credit == "critic"
        return comes and self.critic is not None and batch.embeddings is not None


def _slices(total: int, first_part: int, size: int) -> Iterator[slice]:
    """Cut rows into micro-batches, none across the end of the first part."""
    for begin, end in ((0, first_part), (first_part, total)):
        for start in range(begin, end, size):
            yield slice(start, min(end, start + size))
