"""The decoding cache: keys and values of what was decoded so far, allocated once.

Two ways to write it, same numbers:
- `length` is a Python int and attention reads the slice that is filled: fewest bytes on a CPU.
- `position` is a tensor on the device, shapes never change and a mask hides what is not filled:
  what a CUDA graph needs.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from musicgen_rl.config import LMConfig


@dataclass
class CrossStates:
    """Keys and values of the text for one block, computed once a clip."""

    keys: Tensor
    """[B, H, L, head]."""
    values: Tensor
    """[B, H, L, head]."""
    mask: Tensor
    """[B, 1, 1, L] bool, True where attention may look."""


class LayerCache:
    """Self-attention keys and values of one block, [B, H, max_steps, head] each."""

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        self.keys = keys
        self.values = values

    def extend(self, keys: Tensor, values: Tensor, start: int) -> tuple[Tensor, Tensor]:
        """Write new keys and values [B, H, S, head] from step `start`; return all up to there."""
        end = start + keys.shape[2]
        self.keys[:, :, start:end] = keys
        self.values[:, :, start:end] = values
        return self.keys[:, :, :end], self.values[:, :, :end]

    def extend_static(self, keys: Tensor, values: Tensor, position: Tensor) -> None:
        """Write the keys and values of one step at `position` [1], without changing a shape."""
        self.keys.index_copy_(2, position, keys.to(self.keys.dtype))
        self.values.index_copy_(2, position, values.to(self.values.dtype))


class DecodeCache:
    """All that decoding keeps between steps for B rows.

    Args:
        config: shape of the model.
        batch: B rows; guidance has two rows a clip.
        max_steps: longest sequence that will be decoded before `reset`.
        device: where it lives.
        dtype: of keys and values; float32 even for bf16 weights on a CPU, whose attention over
            one query is slow in bf16.
    """

    def __init__(
        self,
        config: LMConfig,
        batch: int,
        max_steps: int,
        device: torch.device,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        shape = (batch, config.num_heads, max_steps, config.head_size)
        self.layers = [
            LayerCache(
                torch.zeros(shape, device=device, dtype=dtype),
                torch.zeros(shape, device=device, dtype=dtype),
            )
            for _ in range(config.num_layers)
        ]
        self.cross: list[CrossStates] = []
        self.batch = batch
        self.max_steps = max_steps
        self.dtype = dtype
        self.length = 0
        self.position = torch.zeros(1, dtype=torch.long, device=device)
        self._steps = torch.arange(max_steps, device=device)

    def reset(self) -> None:
        """Forget what was decoded; the memory and the text states stay."""
        self.length = 0
        self.position.zero_()

    def visible(self) -> Tensor:
        """Mark the steps up to and including `position`: bool [1, 1, 1, max_steps]."""
        return (self._steps <= self.position).view(1, 1, 1, -1)
