"""A model told by its distance from another: two thin factors a matrix, and a few whole tensors.

`W = W_over + b a`, with b [out, r] and a [r, in]. The factors are stored in float16 on a grid so
coarse that every sum of products is exact in float64, whatever the order of the additions: so the
composed weights are the same bits on every machine, with any number of threads.

Source: arXiv:2106.09685 (LoRA); the exact composition is ours.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from musicgen_rl.errors import CheckpointError

A, B = ".a", ".b"
"""Endings of the factors' names in a file; a name without them is a whole tensor."""
_EXACT_BITS = 52
_FINEST = 24  # float16 holds no digit below 2 ** -24
_LARGEST = 65504.0


@dataclass(frozen=True)
class LowRankDelta:
    """What is added to, or put in place of, another model's tensors; names as in `MusicLM`."""

    factors: Mapping[str, tuple[Tensor, Tensor]]
    """Name of a matrix -> (a [r, in], b [out, r])."""
    whole: Mapping[str, Tensor]
    """Name -> tensor that replaces the other model's."""

    def tensors(self) -> dict[str, Tensor]:
        """Lay out for a file: factors in float16, whole tensors in float32."""
        found = {name: t.detach().float().cpu().contiguous() for name, t in self.whole.items()}
        for name, (a, b) in self.factors.items():
            found |= {name + A: a.detach().cpu().half(), name + B: b.detach().cpu().half()}
        return found

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], source: str) -> "LowRankDelta":
        """Read what `tensors` laid out.

        Raises:
            CheckpointError: one factor is without the other, or something is not finite.
        """
        factors: dict[str, tuple[Tensor, Tensor]] = {}
        whole: dict[str, Tensor] = {}
        for name, tensor in tensors.items():
            if not torch.isfinite(tensor).all():
                raise CheckpointError(f"{source}: {name!r} holds nan or inf: it is damaged")
            if name.endswith(A):
                other = tensors.get(name.removesuffix(A) + B)
                if other is None or other.shape[-1] != tensor.shape[0]:
                    raise CheckpointError(f"{source}: {name!r} lacks its other factor")
                factors[name.removesuffix(A)] = (tensor, other)
            elif not name.endswith(B):
                whole[name] = tensor
            elif name.removesuffix(B) + A not in tensors:
                raise CheckpointError(f"{source}: {name!r} lacks its other factor")
        return cls(factors, whole)


@torch.no_grad()
def blend(
    state: Mapping[str, Tensor], towards: Mapping[str, Tensor], share: float
) -> dict[str, Tensor]:
    """Move weights part of the way to another model's: (1 - share) state + share towards.

    Exact in float64 where both are float16 and the share has few digits, and rounded once: the
    same bits on every machine.

    Args:
        state: any floating dtype.
        towards: the same names and shapes.
        share: 0 to 1, a multiple of 1/256.

    Returns:
        float32; `state` itself, in float32, at share 0.

    Raises:
        CheckpointError: names differ, or the share is another number.
    """
    if not 0 <= share <= 1 or share * 256 != round(share * 256):
        raise CheckpointError(f"a blend's share must be a multiple of 1/256 in 0..1, got {share!r}")
    mixed: dict[str, Tensor] = {}
    for name, tensor in state.items():
        _require(name, tuple(tensor.shape), towards)
        if share:
            exact = (1 - share) * tensor.double() + share * towards[name].double()
            mixed[name] = exact.float()
        else:
            mixed[name] = tensor.float()
    return mixed


def on_grid(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Round two factors so that float16 holds them and float64 adds their products exactly.

    A product of multiples of 2^-g is a multiple of 2^-2g; while the sum stays below
    2^(52 - 2g), float64 has a bit for every one of its digits.

    Args:
        a: [r, in], below 65504.
        b: [out, r], below 65504.

    Returns:
        Both in float32, to the nearest multiple of 2^-g, g at most 24, and rounded to float16.

    Raises:
        CheckpointError: a value is too large for float16, or not finite.
    """
    largest = [float(t.detach().abs().max()) if t.numel() else 0.0 for t in (a, b)]
    if not all(math.isfinite(x) and x < _LARGEST for x in largest):
        raise CheckpointError(f"factors as large as {max(largest):g} do not fit into float16")
    bits = sum(math.ceil(math.log2(x)) + 1 for x in largest if x > 0) + math.ceil(
        math.log2(max(1, a.shape[0]))
    )
    grid = float(2 ** min(_FINEST, (_EXACT_BITS - bits) // 2))
    first, second = (((t.detach().double() * grid).round() / grid).half().float() for t in (a, b))
    return first, second


@torch.no_grad()
def compose(over: Mapping[str, Tensor], delta: LowRankDelta) -> dict[str, Tensor]:
    """Add a delta to a model's weights.

    Args:
        over: state dict, any floating dtype.
        delta: factors on the grid of `on_grid` give the same bits everywhere.

    Returns:
        A new state dict. Changed tensors are float32, rounded once from the exact sum; the others
        are the very tensors of `over`.

    Raises:
        CheckpointError: the delta is not of this model; names the tensor.
    """
    state = dict(over)
    for name, (a, b) in delta.factors.items():
        _require(name, (b.shape[0], a.shape[1]), over)
        added = b.to(torch.float64) @ a.to(torch.float64)
        state[name] = (over[name].to(torch.float64) + added).float()
    for name, tensor in delta.whole.items():
        _require(name, tuple(tensor.shape), over)
        state[name] = tensor.float()
    return state


def _require(name: str, shape: tuple[int, ...], over: Mapping[str, Tensor]) -> None:
    if name not in over or tuple(over[name].shape) != shape:
        found = tuple(over[name].shape) if name in over else "nothing"
        raise CheckpointError(
            f"the low-rank file changes {name!r} {shape}, the model it lies over has {found}: "
            "they are not of one model"
        )
