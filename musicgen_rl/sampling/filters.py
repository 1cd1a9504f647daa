"""From logits to tokens: temperature, top-k, top-p and the draw itself."""

import numpy as np
import torch
from torch import Tensor


def sample_tokens(
    logits: Tensor, uniform: Tensor, *, temperature: float, top_k: int, top_p: float
) -> Tensor:
    """Draw one token from each distribution by inverting its cumulative sum.

    The randomness is given as numbers in [0, 1), so the same numbers give the same tokens on any
    device, alone or in a batch, and nearby distributions give nearby tokens.

    Args:
        logits: [..., V].
        uniform: one number in [0, 1) for each draw, [...].
        temperature: divides the logits; 0 takes the likeliest token.
        top_k: keep the k likeliest; 0 keeps all.
        top_p: of those, keep the likeliest that hold this share of the probability; 1 keeps all.

    Returns:
        Tokens, long [...].
    """
    if temperature == 0:
        return logits.argmax(-1)
    logits = logits.float()
    order = None
    if top_p < 1:  # the nucleus needs an order
        k = top_k if 0 < top_k < logits.shape[-1] else logits.shape[-1]
        logits, order = logits.topk(k, dim=-1)  # likeliest first
    elif 0 < top_k < logits.shape[-1]:
        logits = logits.masked_fill(logits < _kth_largest(logits, top_k), -torch.inf)
    cumulative = (logits / temperature).softmax(-1).cumsum(-1)  # [..., kept]
    total = cumulative[..., -1:]
    if top_p < 1:
        # The nucleus is the shortest run of likeliest tokens that holds top_p of what top_k left.
        last = (cumulative < top_p * total).sum(-1, keepdim=True)
        total = cumulative.gather(-1, last.clamp_(max=cumulative.shape[-1] - 1))
    # Counting the sums at or below the target passes over tokens of probability zero.
    drawn = (cumulative <= uniform.unsqueeze(-1) * total).sum(-1, keepdim=True)
    drawn.clamp_(max=cumulative.shape[-1] - 1)
    if order is not None:
        drawn = order.gather(-1, drawn)
    return drawn.squeeze(-1)


def _kth_largest(logits: Tensor, k: int) -> Tensor:
    """Find the k-th largest of each row, [..., 1]; on a CPU by numpy, ten times torch's speed."""
    if logits.device.type == "cpu":
        place = logits.shape[-1] - k
        return torch.from_numpy(
            np.partition(logits.detach().numpy(), place, axis=-1)[..., place, None]
        )
    return logits.topk(k, dim=-1).values[..., -1:]


def filtered_distribution(
    logits: Tensor, *, temperature: float, top_k: int, top_p: float
) -> Tensor:
    """Return the probabilities [..., V] that `sample_tokens` draws from; temperature above 0."""
    logits = logits.float()
    V = logits.shape[-1]
    k = top_k if 0 < top_k < V else V
    kept, order = logits.topk(k, dim=-1)
    p = (kept / temperature).softmax(-1)
    if top_p < 1:
        before = p.cumsum(-1) - p  # probability of the likelier ones
        p = torch.where(before < top_p, p, 0.0)
        p = p / p.sum(-1, keepdim=True)
    return torch.zeros_like(logits).scatter(-1, order, p)
