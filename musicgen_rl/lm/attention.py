"""Attention of many steps at once, in the way that is fastest where it runs."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

MAX_SCORES = 1 << 20
"""Scores of one head, S x L, up to which they are kept for the backward pass, not made anew."""


def attention(
    q: Tensor, k: Tensor, v: Tensor, *, mask: Tensor | None = None, causal: bool = False
) -> Tensor:
    """Compute softmax(q k^T / sqrt(head)) v.

    torch's fused kernel is used, except where a CPU has to go back through short rows: there and
    back it took 1.6 to 4.5 times as long as plain products on an Intel Xeon, .7 to 1.2 times on an
    AMD EPYC (benchmarks/training_kernels.py).

    Args:
        q: queries [B, H, S, head].
        k: keys [B, H, L, head].
        v: values [B, H, L, head].
        mask: True where a step may look, broadcast to [B, H, S, L].
        causal: step s looks at the keys up to s; without a mask, and L = S.

    Returns:
        [B, H, S, head].
    """
    S, L = q.shape[2], k.shape[2]
    goes_back = torch.is_grad_enabled() and (q.requires_grad or k.requires_grad or v.requires_grad)
    if q.device.type == "cpu" and goes_back and S * L <= MAX_SCORES:
        return _by_products(q, k, v, mask, causal)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal)


def _by_products(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, causal: bool) -> Tensor:
    scale = 1 / math.sqrt(q.shape[-1])
    if causal:  # the mask goes in with the product, not in another pass over the scores
        mask = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool, device=q.device).tril()
        masked = _masked(mask, q.dtype).expand(q.shape[0] * q.shape[1], -1, -1)
        scores = torch.baddbmm(masked, q.flatten(0, 1), k.flatten(0, 1).mT, alpha=scale)
        scores = scores.view(*q.shape[:3], -1)
    else:
        scores = (q * scale) @ k.transpose(-1, -2)
        if mask is not None:
            scores = scores + _masked(mask, scores.dtype)
    return scores.softmax(-1).to(v.dtype) @ v


def _masked(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """Zero where a step may look, minus infinity elsewhere; of the mask's shape."""
    return torch.zeros_like(mask, dtype=dtype).masked_fill(~mask, -math.inf)
