"""The clips of one step, and what judges hear in them."""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from musicgen_rl.lm.condition import Condition
from musicgen_rl.rewards.diversity import centred, pairwise_diversity, unit
from musicgen_rl.training.rollout import repeated_share, silent_share


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

    @property
    def captions(self) -> list[str]:
        """The text of each clip, [B]."""
        N = len(self.codes) // len(self.prompts)
        return [text for text in self.texts for _ in range(N)]


@torch.no_grad()
def answers(batch: Batch, scorer: Score, sample_rate: int, *, low: float, high: float) -> Tensor:
    """Tell how far each clip answers its caption.

    Args:
        batch: with samples.
        scorer: the training scorer.
        sample_rate: of the samples, Hz.
        low: score at which a clip counts for nothing.
        high: score from which on it counts in full.

    Returns:
        0 to 1, [P, N].
    """
    assert batch.samples is not None
    scores = scorer.score(batch.samples, sample_rate, batch.captions).to(batch.samples.device)
    return ((scores - low) / (high - low)).clamp(0.0, 1.0).view(len(batch.prompts), -1)


@torch.no_grad()
def listening(
    batch: Batch,
    held_out: Embed | None,
    scorer: Score | None,
    sample_rate: int,
    *,
    take_off_mean: bool = False,
) -> dict[str, float]:
    """Measure what is heard in a batch: silence, repetition, held-out diversity, adherence.

    Args:
        batch: with samples.
        held_out: an encoder that training never sees.
        scorer: of sound and text.
        sample_rate: of the samples, Hz.
        take_off_mean: compare clips after what these share is taken off.

    Returns:
        Figures of the judges that are there.
    """
    assert batch.samples is not None
    found = {"silent": silent_share(batch.samples), "repeated": repeated_share(batch.codes)}
    if held_out is not None:
        e = held_out.embed(batch.samples, sample_rate)
        e = e.view(len(batch.prompts), -1, e.shape[-1])  # [P, N, d]
        e = centred(e) if take_off_mean else unit(e)
        found["held_out_diversity"] = float(pairwise_diversity(e).mean())
    if scorer is not None:
        scores = scorer.score(batch.samples, sample_rate, batch.captions)
        found["score"] = float(scores.mean())
    return found
