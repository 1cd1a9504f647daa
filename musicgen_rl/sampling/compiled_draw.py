"""Guidance, filters and the draw as one native call: `guide` and `sample_tokens` for a CPU.

In eager torch they are thirty operations on a few thousand numbers, half a millisecond a step where
a small decoder takes one and a half. Imported by `compiled_native` alone, and only to compile.

The random numbers and what is done with them are those of `filters.sample_tokens`. Sums are kept in
float64 here, so the two may choose differently where a random number lies within a few millionths
of the border between two tokens.
"""

from typing import Any

import numpy as np

from musicgen_rl.lm.compiled_llvm import (
    bits_of,
    doubles_1,
    floats_1,
    floats_2,
    floats_3,
    ints_1,
    longs_1,
    longs_2,
)
from musicgen_rl.lm.compiled_vectors import F32, exp_shifted, native

_LOWEST, _HIGHEST = np.int32(-0x80000000), np.int32(0x7FFFFFFF)


@native
def _ranks(x: Any, ranks: Any) -> None:
    """Write whole numbers that are ordered as the floats are; nan comes last or first by sign."""
    for i in range(x.size):
        bits = bits_of(x[i])
        ranks[i] = np.int32(bits ^ ((bits >> 31) & _HIGHEST))


@native
def _threshold(ranks: Any, k: int) -> Any:
    """Find a rank that as few as possible, but at least k, reach; found by halving."""
    low, high = np.int64(_LOWEST), np.int64(_HIGHEST)
    while low < high:
        middle = np.int32((low + high + 1) >> 1)
        reached = np.int32(0)
        for i in range(ranks.size):
            reached += np.int32(ranks[i] >= middle)
        if reached == k:
            return middle
        if reached > k:
            low = np.int64(middle)
        else:
            high = np.int64(middle) - 1
    return np.int32(low)


@native
def _sift(values: Any, tokens: Any, root: int, count: int) -> None:
    """Let the value at `root` sink to its place in a heap whose top is the likeliest."""
    value, token = values[root], tokens[root]
    while True:
        child = 2 * root + 1
        if child >= count:
            break
        other = child + 1
        if other < count and (
            values[other] > values[child]
            or (values[other] == values[child] and tokens[other] < tokens[child])
        ):
            child = other
        if values[child] < value or (values[child] == value and tokens[child] > token):
            break
        values[root], tokens[root] = values[child], tokens[child]
        root = child
    values[root], tokens[root] = value, token


@native
def _nucleus(values: Any, tokens: Any, count: int, top_p: float, total: float) -> Any:
    """Sort the likeliest that hold top_p of the total to the front, likeliest first.

    Returns:
        How many they are.
    """
    for root in range(count // 2 - 1, -1, -1):
        _sift(values, tokens, root, count)
    # The heap is taken apart from the end of the arrays backwards, then turned round.
    left, held = count, 0.0
    while left > 0:
        left -= 1
        value, token = values[0], tokens[0]
        values[0], tokens[0] = values[left], tokens[left]
        _sift(values, tokens, 0, left)
        values[left], tokens[left] = value, token
        held += np.float64(value)
        if held >= top_p * total:
            break
    kept = count - left
    for i in range(count // 2):
        j = count - 1 - i
        values[i], values[j] = values[j], values[i]
        tokens[i], tokens[j] = tokens[j], tokens[i]
    return kept


@native
def _sum(values: Any, count: int) -> Any:
    total = 0.0
    for i in range(count):
        total += np.float64(values[i])
    return total


@native
def _draw_one(
    x: Any, uniform: Any, temperature: Any, top_k: int, top_p: float, ranks: Any, values: Any,
    tokens: Any,
) -> Any:  # fmt: skip
    """Draw a token from logits x; the last three are room for a number a token."""
    V = x.size
    _ranks(x, ranks)
    least = _threshold(ranks, top_k) if 0 < top_k < V else _LOWEST
    count, top, best = 0, _LOWEST, 0
    for i in range(V):
        values[count], tokens[count] = x[i], i
        count += int(ranks[i] >= least)
        best = i if ranks[i] > top else best
        top = max(top, ranks[i])
    if temperature == F32(0.0):
        return best
    highest = x[best] / temperature
    for i in range(count):
        values[i] /= temperature
    exp_shifted(values[:count], highest)
    for i in range(count):  # its smallest result, exp(-87), stands for all below
        values[i] = F32(0.0) if values[i] < F32(2e-38) else values[i]
    if top_p < 1:
        count = _nucleus(values, tokens, count, top_p, _sum(values, count))
    target = np.float64(uniform) * _sum(values, count)
    held, at = 0.0, 0
    for i in range(count):
        held += np.float64(values[i])
        at += int(held <= target)
    return tokens[min(at, count - 1)]


def draw(thread: int, block: int) -> None:
    """Draw the tokens of one column.

    `block` holds:
        logits: float32 [rows, K, V]; twice as many rows as clips under guidance, nulls behind.
        uniform: float32 [B, K] in [0, 1).
        settings: float64 [4]: guidance scale, temperature (0 takes the likeliest), top_k and top_p
            (0 and 1 keep all).
        mixed, ranks, values, tokens: room for V numbers, float32, int32, float32, int64.
        out: int64 [B, K].
    """
    logits, uniform, settings = floats_3(block, 0), floats_2(block, 1), doubles_1(block, 2)
    mixed, ranks, values = floats_1(block, 3), ints_1(block, 4), floats_1(block, 5)
    tokens, out = longs_1(block, 6), longs_2(block, 7)
    guidance_scale, temperature = F32(settings[0]), F32(settings[1])
    top_k, top_p = np.int64(settings[2]), settings[3]
    B, K = uniform.shape
    for b in range(B):
        for k in range(K):
            given = logits[b, k]
            if logits.shape[0] > B:
                null = logits[B + b, k]
                for i in range(mixed.size):
                    mixed[i] = null[i] + guidance_scale * (given[i] - null[i])
                given = mixed
            out[b, k] = _draw_one(
                given, uniform[b, k], temperature, top_k, top_p, ranks, values, tokens
            )
