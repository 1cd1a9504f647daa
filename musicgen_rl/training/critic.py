"""A critic that predicts where a clip will lie, not what it will be paid.

From the hidden state before step s it predicts the embedding e(y) of the finished clip. Projected
on the other clips' mean this is the expected pay, for every prompt and whatever the others are: one
critic serves all batches, and the advantages stay unbiased at GAE's lambda = 1.

Source: ours; the value function of arXiv:1506.02438, made vector-valued.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from musicgen_rl.training.advantages import explained_share


class EmbeddingCritic(nn.Module):
    """Predicts the finished clip's embedding at every step.

    Args:
        hidden_size: width of the language model's states.
        embedding_size: d.
        width: of the hidden layer.
    """

    def __init__(self, hidden_size: int, embedding_size: int, width: int = 512) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.LayerNorm(hidden_size), nn.Linear(hidden_size, width), nn.GELU()
        )
        self.out = nn.Linear(width, embedding_size)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, hidden: Tensor) -> Tensor:
        """Predict from states [..., hidden_size]: [..., d], no longer than 1."""
        found: Tensor = self.out(self.body(hidden))
        shorter: Tensor = found / found.norm(dim=-1, keepdim=True).clamp(min=1.0)
        return shorter

    @torch.no_grad()
    def start_at(self, mean: Tensor) -> None:
        """Begin with the mean of the first clips' embeddings [d]."""
        self.out.bias.copy_(mean)


class CriticTrainer:
    """Fits a critic to the clips of the last few batches, after they were judged with it.

    Args:
        critic: in place.
        learning_rate: of AdamW.
        epochs: passes over the newest batch a step.
        rows: states of one update.
        reduce: averages a gradient over processes.
    """

    def __init__(
        self,
        critic: EmbeddingCritic,
        learning_rate: float,
        epochs: int,
        rows: int = 1024,
        reduce: Callable[[Tensor], Tensor] = lambda tensor: tensor,
    ) -> None:
        self.critic, self.epochs, self.rows, self._reduce = critic, epochs, rows, reduce
        self.optimizer = torch.optim.AdamW(critic.parameters(), lr=learning_rate, weight_decay=1e-3)

    def update(self, hidden: Tensor, embeddings: Tensor, seed: int) -> dict[str, float]:
        """Fit to one batch.

        Args:
            hidden: states before each step, [B, S, D], of a frozen model or detached.
            embeddings: of the finished clips, [B, d].
            seed: of the order of states.

        Returns:
            Share of variance explained before this update at the first, middle and last step, and
            the error after it.
        """
        if not bool(self.critic.out.bias.any()):  # the very first batch
            self.critic.start_at(self._reduce(embeddings.mean(0)))
        B, S, _ = hidden.shape
        with torch.no_grad():
            share = explained_share(self.critic(hidden), embeddings)
        generator = torch.Generator().manual_seed(seed)
        flat, loss = hidden.reshape(B * S, -1), torch.zeros(())
        for _ in range(self.epochs):
            order = torch.randperm(B * S, generator=generator)
            for first in range(0, B * S, self.rows):
                chosen = order[first : first + self.rows].to(hidden.device)
                error = self.critic(flat[chosen]) - embeddings[chosen // S]
                loss = error.pow(2).sum(-1).mean()
                self.optimizer.zero_grad(set_to_none=True)
                loss.backward()
                for parameter in self.critic.parameters():
                    if parameter.grad is not None:
                        parameter.grad.copy_(self._reduce(parameter.grad))
                self.optimizer.step()
        return {
            "critic_start": float(share[0]),
            "critic_middle": float(share[S // 2]),
            "critic_end": float(share[-1]),
            "critic_error": float(loss.detach()),
        }
