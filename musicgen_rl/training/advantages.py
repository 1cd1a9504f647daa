"""From embeddings of clips to advantages: how much better than expected each step was.

The reward of a set of N clips of one prompt is its diversity. For the mean pairwise 1 - cosine

    grad D = -2 E[(mu . e(y)) grad log pi(y)],    mu = E[e(y)] for the prompt,

so clip i is paid `-2 mu_{-i} . e_i`, where mu_{-i} never contains clip i. What a clip is paid may
be shifted by anything that does not depend on it (a baseline) without bias; subtracting a mean that
contains it scales the gradient by (N-2)/N (the group's mean) or (N-2)/(N-1) (the others' rewards,
which depend on it): both are zero at N = 2. tests/training/test_advantages.py enumerates a policy
of four clips to see which estimators hold.

Source: arXiv:2410.06084 (reward); arXiv:1506.02438 (GAE); arXiv:2602.01062 (leave-one-out gains of
a determinant); the rest is ours.
"""

import torch
from torch import Tensor

from musicgen_rl.errors import ConfigError
from musicgen_rl.rewards.diversity import centred


def means_of_others(embeddings: Tensor) -> Tensor:
    """Average the other N - 1 clips' embeddings: [P, N, d] to mu_{-i}, [P, N, d].

    Raises:
        ConfigError: N < 2.
    """
    N = _at_least_two(embeddings)
    return (embeddings.sum(1, keepdim=True) - embeddings) / (N - 1)


def others_of(embeddings: Tensor) -> Tensor:
    """List each clip's N - 1 others: [P, N, d] to [P, N, N - 1, d].

    Raises:
        ConfigError: N < 2.
    """
    N = _at_least_two(embeddings)
    index = torch.tensor([[j for j in range(N) if j != i] for i in range(N)])
    return embeddings[:, index.to(embeddings.device)]


def cosine_values(mu: Tensor, embeddings: Tensor) -> Tensor:
    """Value embeddings by the gradient of the mean pairwise 1 - cosine.

    Args:
        mu: of each clip, without that clip, [B, d].
        embeddings: true ones [B, d], or a critic's of every step [B, S, d].

    Returns:
        -2 mu . e, [B] or [B, S].
    """
    if embeddings.dim() == 3:
        each: Tensor = -2.0 * (embeddings @ mu.unsqueeze(-1)).squeeze(-1)
        return each
    return -2.0 * (mu * embeddings).sum(-1)


def answering(embeddings: Tensor, weights: Tensor) -> Tensor:
    """Put how far each clip answers its caption into its embedding: w (1, e).

    Two clips are then worth w w' (1 - cos) to each other, which is linear in either: what pays for
    plain cosines, and the critic that predicts embeddings, serve as they are.

    Args:
        embeddings: unit vectors [P, N, d].
        weights: w of each clip, 0 to 1, [P, N].

    Returns:
        [P, N, d + 1], each halved in square, so that none is longer than 1.
    """
    one = torch.ones_like(embeddings[..., :1])
    both: Tensor = torch.cat([one, embeddings], dim=-1) * (weights.unsqueeze(-1) * 0.5**0.5)
    return both


def answered_values(mu: Tensor, embeddings: Tensor) -> Tensor:
    """Value embeddings by the gradient of the mean pairwise w w' (1 - cosine).

    Args:
        mu: of each clip, without that clip, of `answering`, [B, d + 1].
        embeddings: true ones [B, d + 1], or a critic's of every step [B, S, d + 1].

    Returns:
        2 w (m_0 - m . e) with m the others' mean of w (1, e), [B] or [B, S].
    """
    turned = torch.cat([-2.0 * mu[..., :1], 2.0 * mu[..., 1:]], dim=-1)
    return cosine_values(turned, embeddings)


def determinant_values(others: Tensor, embeddings: Tensor, ridge: float) -> Tensor:
    """Value embeddings by what they add to the log-determinant of the set's kernel.

    The set's diversity is log det(Z Z' + ridge I); with Z_i the clips but i, clip i adds
    log(1 + ridge - e' Z_i' (Z_i Z_i' + ridge I)^-1 Z_i e). It does not pay, as the mean cosine
    does, for driving two tight clusters apart.

    Args:
        others: Z_i of each clip, unit vectors [B, N - 1, d].
        embeddings: true ones [B, d], or a critic's of every step [B, S, d], no longer than 1.
        ridge: above 0; how near two clips may come before they count as one.

    Returns:
        [B] or [B, S].

    Source: arXiv:2509.04784 (log-determinant diversity); arXiv:2602.01062 (leave-one-out gains).
    """
    steps = embeddings if embeddings.dim() == 3 else embeddings.unsqueeze(1)  # [B, S, d]
    kernel = others @ others.mT
    kernel = kernel + ridge * torch.eye(kernel.shape[-1], device=others.device)
    seen = others @ steps.mT  # [B, N - 1, S]
    explained = (seen * torch.linalg.solve(kernel, seen)).sum(1)  # [B, S]
    values: Tensor = (1.0 + ridge - explained).clamp(min=1e-6).log()
    return values if embeddings.dim() == 3 else values.squeeze(1)


def determinant_worths(embeddings: Tensor, ridge: float) -> Tensor:
    """Tell what the pay of `determinant_values` raises: a set's log-determinant over its size.

    Args:
        embeddings: unit vectors [P, N, d].
        ridge: as in `determinant_values`.

    Returns:
        log det(Z Z' + ridge I) / N of each prompt, [P].
    """
    N = _at_least_two(embeddings)
    eye = torch.eye(N, dtype=embeddings.dtype, device=embeddings.device)
    worths: Tensor = torch.logdet(embeddings @ embeddings.mT + ridge * eye) / N
    return worths


def other_pairs_baseline(embeddings: Tensor) -> Tensor:
    """Predict clip i's pay by the pairs among the others, which do not depend on it.

    Args:
        embeddings: unit vectors [P, N, d], N >= 3.

    Returns:
        Mean of -2 cos over the pairs without i, [P, N].

    Raises:
        ConfigError: N < 3 leaves no such pair.
    """
    N = embeddings.shape[1]
    if N < 3:
        raise ConfigError(f"the baseline of other pairs needs clips_per_prompt >= 3, got {N}")
    cosine = embeddings @ embeddings.mT
    cosine = cosine - torch.diag_embed(cosine.diagonal(dim1=1, dim2=2))
    without = cosine.sum((1, 2)).unsqueeze(1) - 2 * cosine.sum(-1)  # [P, N]
    return -2.0 * without / ((N - 1) * (N - 2))


def other_prompts_baseline(values: Tensor) -> Tensor:
    """Predict a clip's pay by the mean pay of the other prompts' clips: [P, N] to [P, N].

    Zero where there is one prompt only.
    """
    P, N = values.shape
    if P < 2:
        return torch.zeros_like(values)
    others = (values.sum() - values.sum(1)) / ((P - 1) * N)  # [P]
    return others.unsqueeze(1).expand(P, N)


def gae(values: Tensor, final: Tensor, lam: float) -> Tensor:
    """Spread the pay over the steps by the change of the expected pay.

    With u_s what the critic expects before step s and u_S the true pay, step s gets
    sum_l lam^l (u_{s+l+1} - u_{s+l}): all that came after it at lam = 1 (unbiased, whatever the
    critic), only the next change at lam = 0 (least variance). There is no discount.

    Args:
        values: u_0 .. u_{S-1}, [..., S].
        final: u_S, [...].
        lam: 0 to 1.

    Returns:
        Advantages [..., S].

    Source: arXiv:1506.02438, equation 16, with gamma = 1 and a reward at the end only.
    """
    following = torch.cat([values[..., 1:], final.unsqueeze(-1)], dim=-1)
    change = following - values
    advantages = torch.zeros_like(change)
    running = torch.zeros_like(final)
    for s in range(change.shape[-1] - 1, -1, -1):
        running = change[..., s] + lam * running
        advantages[..., s] = running
    return advantages


class Centre:
    """The running mean of all clips' embeddings: what they share, which is no variety.

    Up to `MEMORY` steps weigh the same, older ones less and less. It comes from earlier steps; the
    first step alone is centred on itself.
    """

    MEMORY = 50

    def __init__(self) -> None:
        """Start with nothing."""
        self.mean: Tensor | None = None
        self.steps = 0

    def take_off(self, embeddings: Tensor, mean: Tensor) -> Tensor:
        """Centre a step's clips, then take them in.

        Args:
            embeddings: unit vectors [P, N, d].
            mean: of this step's unit vectors, over all processes, [d].

        Returns:
            Unit vectors of what is left, [P, N, d].
        """
        if self.mean is None:
            self.mean = mean.detach().clone()
        left = centred(embeddings, self.mean.to(embeddings))
        self.steps = min(self.steps + 1, self.MEMORY)
        self.mean.lerp_(mean.to(self.mean), 1.0 / self.steps)
        return left

    def pack(self) -> dict[str, Tensor]:
        """Lay out for the training state."""
        if self.mean is None:
            return {}
        return {"centre.mean": self.mean.cpu(), "centre.steps": torch.tensor(self.steps)}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Read what `pack` laid out; nothing where there is nothing."""
        if "centre.mean" in tensors:
            self.mean, self.steps = tensors["centre.mean"].clone(), int(tensors["centre.steps"])


class EmbeddingBank:
    """Remembers where each prompt's clips lay lately, so that mu is less noise.

    The mean of a few clips is mostly noise: with |mu|^2 = .12, that of three others has .41. What
    the bank holds comes from earlier steps, so it never contains the clip that is judged.
    """

    def __init__(self, keep: float) -> None:
        """Start empty.

        Args:
            keep: weight of what is remembered, 0 to below 1; 0 remembers nothing.
        """
        self.keep = keep
        self.means: dict[int, Tensor] = {}

    def blend(self, prompts: list[int], others: Tensor) -> Tensor:
        """Mix the others' means with what is remembered: mu_{-i}, [P, N, d] both."""
        mixed = others.clone()
        for row, prompt in enumerate(prompts):
            if self.keep and prompt in self.means:
                mixed[row].lerp_(self.means[prompt].to(mixed).expand_as(mixed[row]), self.keep)
        return mixed

    def update(self, prompts: list[int], embeddings: Tensor) -> None:
        """Take in new clips [P, N, d], after they were judged."""
        for row, prompt in enumerate(prompts):
            mean = embeddings[row].mean(0).detach().cpu().clone()
            if self.keep and prompt in self.means:
                mean = torch.lerp(mean, self.means[prompt], self.keep)
            if self.keep:
                self.means[prompt] = mean

    def pack(self) -> dict[str, Tensor]:
        """Lay out for the training state."""
        if not self.means:
            return {}
        order = sorted(self.means)
        return {
            "bank.prompts": torch.tensor(order),
            "bank.means": torch.stack([self.means[prompt] for prompt in order]),
        }

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Read what `pack` laid out; nothing where there is nothing."""
        if "bank.prompts" in tensors:
            means = tensors["bank.means"].clone()
            self.means = dict(zip(tensors["bank.prompts"].tolist(), means, strict=True))


def explained_share(predicted: Tensor, embeddings: Tensor) -> Tensor:
    """Tell how much of the embeddings' variance a critic explains at each step.

    Args:
        predicted: [B, S, d].
        embeddings: [B, d].

    Returns:
        1 - squared error over variance, [S]; below 0 is worse than the batch's mean.
    """
    error = (predicted - embeddings.unsqueeze(1)).pow(2).sum(-1).mean(0)  # [S]
    spread = (embeddings - embeddings.mean(0)).pow(2).sum(-1).mean().clamp(min=1e-12)
    return 1.0 - error / spread


def _at_least_two(embeddings: Tensor) -> int:
    N = embeddings.shape[1]
    if N < 2:
        raise ConfigError(f"diversity needs clips_per_prompt >= 2, got {N}")
    return N
