"""The units of work: batches of clips, the parts they are made in."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """Clips that are decoded side by side."""

    prompts: list[str]
    indices: list[int]
    text_length: int = 0
    """Pad text states to at least this many; a replay asks for the length of its batch."""
    seeds: list[int] | None = None
    """Seed of each clip; the request's for all of them where None."""

    def seeds_or(self, seed: int) -> list[int]:
        """Return the seed of each clip; `seed` is the request's."""
        return [seed] * len(self.prompts) if self.seeds is None else self.seeds

    def part(self, start: int, stop: int) -> "Batch":
        """Take the clips from position `start` up to `stop`."""
        return replace(
            self,
            prompts=self.prompts[start:stop],
            indices=self.indices[start:stop],
            seeds=None if self.seeds is None else self.seeds[start:stop],
        )


@dataclass(frozen=True)
class Chunk:
    """The next part of every clip of a batch."""

    codes: NDArray[np.int64]
    """[B, K, t]; may be ahead of `samples`."""
    samples: NDArray[np.float32]
    """[B, C, m]."""
    last: bool
    """Whether nothing follows."""


class Taker:
    """Passes samples on: some left out at the start, no more than asked for in all."""

    def __init__(self, missing: int, skip: int = 0) -> None:
        self.missing, self._skip = missing, skip
        self._held: list[Tensor] = []

    def push(self, samples: Tensor) -> None:
        """Take samples [B, C, m] as they are decoded."""
        left_out = min(self._skip, samples.shape[-1])
        self._skip -= left_out
        kept = samples[..., left_out : left_out + self.missing]
        self.missing -= kept.shape[-1]
        self._held.append(kept)

    def ready(self) -> NDArray[np.float32]:
        """Hand out what has come since the last time, [B, C, m]."""
        joined = torch.cat(self._held, dim=-1)
        self._held.clear()
        return joined.float().cpu().numpy()
