"""What a step's clips say about the parameters: both terms' gradients, together or apart."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from musicgen_rl.training.losses import LogitGradients


@dataclass
class Gradients:
    """What a step's clips say about the parameters, apart where it was asked for."""

    total: dict[str, Tensor]
    kl: dict[str, Tensor] = field(default_factory=dict)
    halves: list[dict[str, Tensor]] = field(default_factory=list)
    """Of the reward: from the even and from the odd prompts of the whole step."""

    @classmethod
    def zeros(cls, parameters: Mapping[str, nn.Parameter], *, apart: bool) -> "Gradients":
        """Begin with nothing.

        Args:
            parameters: what is trained.
            apart: keep both terms' gradients apart too.
        """

        def none() -> dict[str, Tensor]:
            return {name: torch.zeros_like(p) for name, p in parameters.items()}

        return cls(none(), none(), [none(), none()]) if apart else cls(none())

    def add(
        self,
        parameters: Mapping[str, nn.Parameter],
        logits: Tensor,
        terms: LogitGradients,
        *,
        kl_scale: float,
        reward_scale: float,
        prompts: Tensor,
    ) -> None:
        """Carry the gradients at the logits through the student, and add them up.

        Args:
            parameters: what is trained.
            logits: of some rows, with their graph, [b, S, K, V].
            terms: the gradients at them; overwritten.
            kl_scale: factor of the KL's.
            reward_scale: factor of the reward's.
            prompts: number of each row's prompt within the whole step, [b].
        """
        pushes: list[tuple[dict[str, Tensor], Tensor]] = []
        kl = terms.by_kl.mul_(kl_scale) if terms.by_kl.numel() else None
        reward = terms.by_reward.mul_(reward_scale) if terms.by_reward.numel() else None
        if self.halves and reward is not None:
            odd = (prompts % 2).to(reward).view(-1, 1, 1, 1)
            pushes += [(self.halves[0], reward * (1 - odd)), (self.halves[1], reward * odd)]
            pushes += [(self.kl, kl)] if kl is not None else []
        else:
            both = reward if kl is None else kl if reward is None else kl.add_(reward)
            pushes += [(self.total, both)] if both is not None else []
        names, tensors = zip(*parameters.items(), strict=True)
        for index, (target, push) in enumerate(pushes):
            pulled = torch.autograd.grad(
                logits, tensors, push, retain_graph=index + 1 < len(pushes), allow_unused=True
            )
            for name, gradient in zip(names, pulled, strict=True):
                if gradient is not None:
                    target[name] += gradient
                    if target is not self.total:
                        self.total[name] += gradient
