"""Random numbers: one generator a clip, derived from (seed, index of the clip).

So clip 3 of seed 7 hears the same numbers alone, among eight, or made on another device.
"""

import hashlib

import torch
from torch import Tensor

_BLOCK = 256  # steps drawn at once


def clip_seed(seed: int, index: int) -> int:
    """Derive the 63-bit seed of clip `index` of a request with `seed`."""
    digest = hashlib.sha256(f"musicgen-rl clip {seed} {index}".encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


class ClipUniforms:
    """Streams of uniform numbers, one for each clip, in step order.

    Args:
        seeds: one a clip, from `clip_seed`.
        num_codebooks: K numbers a step.
    """

    def __init__(self, seeds: list[int], num_codebooks: int) -> None:
        self._generators = [torch.Generator().manual_seed(s) for s in seeds]
        self._num_codebooks = num_codebooks
        self._block = torch.empty(0)
        self._used = _BLOCK

    def next(self) -> Tensor:
        """Draw for the next step: [B, K] in [0, 1), on the CPU."""
        if self._used == _BLOCK:
            shape = (_BLOCK, self._num_codebooks)
            drawn = [torch.rand(shape, generator=g) for g in self._generators]
            self._block, self._used = torch.stack(drawn, dim=1), 0  # [steps, B, K]
        self._used += 1
        return self._block[self._used - 1]
