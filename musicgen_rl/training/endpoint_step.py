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
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from musicgen_rl.codec.base import Codec
from musicgen_rl.lm.condition import Condition, null_condition
from musicgen_rl.lm.delay import apply_delay, shift_right
from musicgen_rl.lm.transformer import MusicLM
from musicgen_rl.rewards.diversity import centred, pairwise_diversity, unit
from musicgen_rl.text.base import TextEncoder
from musicgen_rl.training import advantages as adv
from musicgen_rl.training.adapters import Student
from musicgen_rl.training.critic import CriticTrainer
from musicgen_rl.training.endpoint_config import EndpointConfig
from musicgen_rl.training.losses import (
    LogitGradients,
    guided_teacher,
    logit_gradients,
    token_weights,
)
from musicgen_rl.training.rollout import (
    repeat_condition,
    repeated_share,
    rollout,
    silent_share,
    sound,
    take_rows,
)


class Embed(Protocol):
    """What a step needs of an audio encoder."""

    @property
    def sample_rate(self) -> int:
        """Hz that it was trained at."""
        ...

    @property
    def identity(self) -> object:
        """What tells it from others, as text."""
        ...

    def embed(self, samples: Tensor, sample_rate: int) -> Tensor:
        """Embed samples [B, M] to unit vectors [B, d]."""
        ...


class Score(Protocol):
    """What a step needs of a text-audio scorer."""

    @property
    def identity(self) -> object:
        """What tells it from others, as text."""
        ...

    def score(self, samples: Tensor, sample_rate: int, captions: list[str]) -> Tensor:
        """Score each clip against its caption, [B]."""
        ...


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


@dataclass
class Batch:
    """The clips of one step, in rows; those whose KL is computed come first."""

    prompts: list[int]
    texts: list[str]
    condition: Condition
    codes: Tensor
    """[B, K, T]."""
    order: Tensor
    """Row -> clip, long [B]; clip i belongs to prompt i // N."""
    embeddings: Tensor | None = None
    """[P, N, d] by clip, not by row."""
    samples: Tensor | None = None
    """[B, M] by clip."""
    first_prompt: int = 0
    """How many of the step's prompts other processes take before these."""


@dataclass
class Gradients:
    """What a step's clips say about the parameters, apart where it was asked for."""

    total: dict[str, Tensor]
    kl: dict[str, Tensor] = field(default_factory=dict)
    halves: list[dict[str, Tensor]] = field(default_factory=list)
    """Of the reward: from the even and from the odd prompts of the whole step."""


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
        bank: adv.EmbeddingBank,
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

    def answers(self, batch: Batch, scorer: Score) -> Tensor:
        """Tell how far each clip answers its caption, 0 to 1, [P, N], by the training scorer."""
        assert batch.samples is not None
        low, high = self.config.answer_low, self.config.answer_high
        texts = [text for text in batch.texts for _ in range(self.config.clips_per_prompt)]
        with self.clock("scorer"), torch.no_grad():
            scores = scorer.score(batch.samples, self.codec.sample_rate, texts).to(self.device)
        return ((scores - low) / (high - low)).clamp(0.0, 1.0).view(len(batch.prompts), -1)

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
        pay = self._pay(batch) if reward_weight or self._learns_from(batch) else None
        found = Gradients({n: torch.zeros_like(p) for n, p in self.student.parameters.items()})
        if measure:
            found.kl = {n: torch.zeros_like(t) for n, t in found.total.items()}
            found.halves = [{n: torch.zeros_like(t) for n, t in found.total.items()} for _ in "01"]
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
                self._backward(found, logits, terms, scale_kl, scale_reward, prompts, measure)
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

    def listening(
        self, batch: Batch, held_out: Embed | None, scorer: Score | None
    ) -> dict[str, float]:
        """Measure what is heard in a batch: silence, repetition, held-out diversity, adherence."""
        assert batch.samples is not None
        P, N, rate = len(batch.prompts), self.config.clips_per_prompt, self.codec.sample_rate
        found = {"silent": silent_share(batch.samples), "repeated": repeated_share(batch.codes)}
        with self.clock("listening"), torch.no_grad():
            if held_out is not None:
                e = held_out.embed(batch.samples, rate).view(P, N, -1)
                e = centred(e) if self.config.centred else unit(e)
                found["held_out_diversity"] = float(pairwise_diversity(e).mean())
            if scorer is not None:
                texts = [text for text in batch.texts for _ in range(N)]
                found["score"] = float(scorer.score(batch.samples, rate, texts).mean())
        return found

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

    def _pay(self, batch: Batch) -> Callable[[Tensor, Tensor], Tensor]:
        """Prepare the advantages: a function of (clips [b], states [b, S, D]) to [b, S]."""
        config = self.config
        assert batch.embeddings is not None
        e = batch.embeddings  # [P, N, d]
        flat = e.flatten(0, 1)
        mu = self.bank.blend(batch.prompts, adv.means_of_others(e)).flatten(0, 1)
        others = adv.others_of(e).flatten(0, 1) if config.reward == "determinant" else None

        def value(clips: Tensor, embeddings: Tensor) -> Tensor:
            if others is not None:
                return adv.determinant_values(others[clips], embeddings, config.ridge)
            if config.reward == "answered":
                return adv.answered_values(mu[clips], embeddings)
            return adv.cosine_values(mu[clips], embeddings)

        everyone = torch.arange(len(flat), device=flat.device)
        final = value(everyone, flat)  # [B]
        baseline = torch.zeros_like(final)
        if config.credit == "clip" and config.baseline == "pairs":
            baseline = adv.other_pairs_baseline(e).flatten()
        elif config.credit == "clip" and config.baseline == "prompts":
            baseline = adv.other_prompts_baseline(final.view(e.shape[:2])).flatten()

        @torch.no_grad()
        def pay(clips: Tensor, states: Tensor) -> Tensor:
            clips = clips.to(flat.device)
            if config.credit == "clip":
                paid = final[clips] - baseline[clips]
                return paid.unsqueeze(1).expand(-1, states.shape[1])
            assert self.critic is not None
            values = value(clips, self.critic.critic(states))
            return adv.gae(values, final[clips], config.gae_lambda)

        return pay

    def _backward(
        self,
        found: Gradients,
        logits: Tensor,
        terms: LogitGradients,
        scale_kl: float,
        scale_reward: float,
        prompts: Tensor,
        measure: bool,
    ) -> None:
        """Carry the gradients at the logits through the student, and add them up.

        `prompts` numbers each row's prompt within the whole step.
        """
        pushes: list[tuple[dict[str, Tensor], Tensor]] = []
        kl = terms.by_kl.mul_(scale_kl) if terms.by_kl.numel() else None
        reward = terms.by_reward.mul_(scale_reward) if terms.by_reward.numel() else None
        if measure and reward is not None:
            odd = (prompts % 2).to(reward).view(-1, 1, 1, 1)
            pushes += [(found.halves[0], reward * (1 - odd)), (found.halves[1], reward * odd)]
            pushes += [(found.kl, kl)] if kl is not None else []
        else:
            both = reward if kl is None else kl if reward is None else kl.add_(reward)
            pushes += [(found.total, both)] if both is not None else []
        names, parameters = zip(*self.student.parameters.items(), strict=True)
        for index, (target, push) in enumerate(pushes):
            pulled = torch.autograd.grad(
                logits, parameters, push, retain_graph=index + 1 < len(pushes), allow_unused=True
            )
            for name, gradient in zip(names, pulled, strict=True):
                if gradient is not None:
                    target[name] += gradient
                    if target is not found.total:
                        found.total[name] += gradient


def _slices(total: int, first_part: int, size: int) -> Iterator[slice]:
    """Cut rows into micro-batches, none across the end of the first part."""
    for begin, end in ((0, first_part), (first_part, total)):
        for start in range(begin, end, size):
            yield slice(start, min(end, start + size))
