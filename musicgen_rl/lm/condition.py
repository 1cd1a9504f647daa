"""What the language model attends to: text states and which of them are real."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Condition:
    """Text states of a batch of prompts."""

    hidden: Tensor
    """[B, L, D] float; zero where `mask` is False."""
    mask: Tensor
    """[B, L] bool; True marks a real state."""

    def to(self, device: torch.device | str, dtype: torch.dtype | None = None) -> "Condition":
        """Move to a device and, where given, to a floating dtype."""
        return Condition(self.hidden.to(device, dtype), self.mask.to(device))


def null_condition(batch: int, text_hidden_size: int, device: torch.device | str) -> Condition:
    """Make the condition of no prompt: one state of zeros that the mask hides.

    Cross-attention over it is exactly zero, as with transformers' null condition (states times
    zero under a zero mask), whatever its length.

    Args:
        batch: B.
        text_hidden_size: D.
        device: where the tensors live.

    Returns:
        hidden [B, 1, D] of zeros, mask [B, 1] of False.
    """
    hidden = torch.zeros(batch, 1, text_hidden_size, device=device)
    return Condition(hidden, torch.zeros(batch, 1, dtype=torch.bool, device=device))
