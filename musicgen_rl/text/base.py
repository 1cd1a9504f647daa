"""The seam to text encoders: what the rest of the package needs of one."""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


@dataclass(frozen=True)
class Condition:
    """Text states that the LM attends to."""

    hidden: Tensor
    """[B, L, D] float; zero where `mask` is False."""
    mask: Tensor
    """[B, L] bool; True marks a real state."""

    def to(self, device: torch.device, dtype: torch.dtype) -> "Condition":
        """Move to a device and dtype."""
        return Condition(self.hidden.to(device, dtype), self.mask.to(device))


class TextEncoder(Protocol):
    """Turns prompts into text states."""

    @property
    def hidden_size(self) -> int:
        """D."""
        ...

    def encode(self, prompts: list[str]) -> Condition:
        """Encode B prompts to states [B, L, D] and mask [B, L], L = the longest of them."""
        ...
