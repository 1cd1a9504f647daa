"""The cross-entropy of many codes, with one pass over the logits each way."""

from typing import Any

import torch
from torch import Tensor

ROWS = {"cpu": 512}
"""Rows of logits taken at a time, so that their float32 copies stay in a core's cache."""
MANY_ROWS = 1 << 16
"""The same elsewhere, where a call costs more than memory does."""


def cross_entropy(logits: Tensor, targets: Tensor, pad: int) -> Tensor:
    """Compute -log softmax(logits)[target], in float32 whatever the logits' dtype.

    `F.cross_entropy` keeps float32 logits and log-probabilities of the whole batch for the backward
    pass; this keeps the logits as they came and one number a row (benchmarks/training_kernels.py).

    Args:
        logits: [..., V], any float dtype.
        targets: long [...], in [0, V); `pad` marks places that do not count.
        pad: outside [0, V).

    Returns:
        Nats, float32 [...], zero where the target is `pad`.
    """
    losses: Tensor = _CrossEntropy.apply(  # type: ignore[no-untyped-call]
        logits.reshape(-1, logits.shape[-1]), targets.reshape(-1), pad
    )
    return losses.view(targets.shape)


class _CrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, targets: Tensor, pad: int) -> Tensor:
        real = targets != pad
        index = torch.where(real, targets, 0).unsqueeze(1)
        total = logits.new_empty(len(logits), dtype=torch.float32)
        taken = torch.empty_like(total)
        for part in _parts(logits):
            x = logits[part].float()
            total[part] = x.logsumexp(1)
            taken[part] = x.gather(1, index[part]).squeeze(1)
        ctx.save_for_backward(logits, total, index, real)
        return (total - taken) * real

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor, None, None]:
        logits, total, index, real = ctx.saved_tensors
        scale = (upstream[0] * real).unsqueeze(1)
        gradient = torch.empty_like(logits)
        for part in _parts(logits):
            p = (logits[part].float() - total[part].unsqueeze(1)).exp_()
            p.scatter_add_(1, index[part], p.new_full((len(p), 1), -1.0))
            gradient[part] = p.mul_(scale[part])
        return gradient, None, None


def _parts(logits: Tensor) -> list[slice]:
    rows = ROWS.get(logits.device.type, MANY_ROWS)
    return [slice(first, first + rows) for first in range(0, len(logits), rows)]
