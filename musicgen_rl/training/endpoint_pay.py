"""What a step's clips are worth, what each is paid, and which of its steps gets how much."""

from collections.abc import Callable

import torch
from torch import Tensor

from musicgen_rl.rewards.diversity import pairwise_diversity
from musicgen_rl.training import advantages as adv
from musicgen_rl.training.critic import EmbeddingCritic
from musicgen_rl.training.endpoint_clips import Batch
from musicgen_rl.training.endpoint_config import EndpointConfig
from musicgen_rl.training.guards import paid_figure


def measure_pay(
    batch: Batch, config: EndpointConfig, weights: Tensor | None = None
) -> dict[str, Tensor]:
    """Measure a batch's diversity and what is paid.

    Args:
        batch: with embeddings, into which the weights are put.
        config: of the run.
        weights: how far each clip answers its caption, 0 to 1, [P, N], where that is paid.

    Returns:
        Scalars: diversity, and by the reward determinant, or answering and answered.
    """
    assert batch.embeddings is not None
    found = {"diversity": pairwise_diversity(batch.embeddings).mean()}
    if paid_figure(config) == "determinant":
        found["determinant"] = adv.determinant_worths(batch.embeddings, config.ridge).mean()
    if weights is not None:
        batch.embeddings = adv.answering(batch.embeddings, weights)
        flat = batch.embeddings.flatten(0, 1)
        others = adv.means_of_others(batch.embeddings).flatten(0, 1)
        found["answering"] = weights.mean()
        found["answered"] = adv.answered_values(others, flat).mean() / 2.0
    return found


def prepare_pay(
    batch: Batch,
    config: EndpointConfig,
    bank: adv.EmbeddingBank,
    critic: EmbeddingCritic | None,
) -> Callable[[Tensor, Tensor], Tensor]:
    """Prepare the advantages of a batch.

    Args:
        batch: with embeddings.
        config: says what pays (`reward`) and who is paid (`credit`, `baseline`, `gae_lambda`).
        bank: of prompts' embeddings.
        critic: needed with credit "critic".

    Returns:
        A function of (clips [b], states before their steps [b, S, D]) to advantages [b, S].
    """
    assert batch.embeddings is not None
    e = batch.embeddings  # [P, N, d]
    flat = e.flatten(0, 1)
    mu = bank.blend(batch.prompts, adv.means_of_others(e)).flatten(0, 1)
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
        assert critic is not None
        return adv.gae(value(clips, critic(states)), final[clips], config.gae_lambda)

    return pay
