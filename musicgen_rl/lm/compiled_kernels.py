"""The native kernels of `compiled`: one decoding step of the whole model is one call.

Importing this module compiles them (numba), or loads them from numba's cache on disk; import it
late.

How threads share the work: a step is a fixed list of lines (a program), each a number of
independent items. Every thread walks the same list and takes items by a shared counter until none
is left, then waits for those others still work on. A thread that comes late finds its items taken,
and a step never waits for a thread that does not come. What an item computes does not depend on who
takes it, on how many tokens there are, or on which row of the batch it is in.
"""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from numba import njit

from musicgen_rl.lm.compiled_layout import (
    ACTIVATION,
    ACTIVE,
    ADD,
    ATTEND,
    BAD_TOKEN,
    CACHE_DTYPE,
    CACHE_LIMIT,
    CLOSED,
    COLUMN,
    EMBED,
    KIND,
    LAYER,
    LINEAR,
    NORM,
    NORM_ADD,
    OUTPUTS,
    PHASES,
    PICK,
    PICKED,
    QUANTIZE,
    REMEMBER,
    SCALE_AT,
    TOKENS,
    WEIGHT_AT,
    WHICH,
    WIDTH,
    WIDTH_IN,
)
from musicgen_rl.lm.compiled_llvm import fetch_add, peek, yield_core
from musicgen_rl.lm.compiled_vectors import (
    F32,
    OPTIONS,
    attend,
    gelu,
    input_limit,
    layer_norm,
    matmul,
    native,
    quantize,
)


@native
def _linear_item(
    op: Any, item: int, tokens: int, weights: Any, scales: Any, out: Any, out_scale: Any, y: Any
) -> None:
    """Multiply by 128 rows of a weight and activate."""
    outputs = op[OUTPUTS]
    start, end = item * 128, min(item * 128 + 128, outputs)
    w_scale = scales[op[SCALE_AT] : op[SCALE_AT] + outputs]
    matmul(weights, op[WEIGHT_AT], op[WIDTH_IN], w_scale, out, out_scale, tokens, start, end, y)
    for n in range(tokens):
        part = y[n, start:end]
        if op[ACTIVATION] == 1:
            gelu(part)
        elif op[ACTIVATION] == 2:
            for i in range(part.size):
                part[i] = F32(0.0) if part[i] < F32(0.0) else part[i]


@native
def _norm_item(
    op: Any, n: int, to: int, x: Any, y: Any, norms: Any, out: Any, out_scale: Any
) -> None:
    """Add y to token n of the stream x, norm it, quantize it."""
    D = x.shape[1]
    padded = (D + WIDTH - 1) // WIDTH * WIDTH
    row, change = x[n], y[n, :D]
    if op[ADD]:
        for i in range(D):
            row[i] += change[i]
    layer_norm(row, norms[op[NORM], 0], norms[op[NORM], 1], change)
    out_scale[to] = quantize(change, out[to, :padded], input_limit(127, padded))


@native
def _embed_item(
    n: int, job: Any, tokens: Any, place: int, embed: Any, positions: Any, x: Any
) -> None:
    """Sum the embeddings and the position of a token."""
    K = tokens.shape[1]
    vocabulary = embed.shape[0] // K
    out = x[n]
    out[:] = 0
    for k in range(K):
        token = tokens[n, k]
        if token < 0 or token >= vocabulary:
            job[BAD_TOKEN] = 1
            token = 0
        vector = embed[k * vocabulary + token]
        for i in range(out.size):
            out[i] += vector[i]
    vector = positions[place]
    for i in range(out.size):
        out[i] += vector[i]


def run(
    thread: int, control: Any, program: Any, job: Any, tokens: Any, row: Any, place: Any,
    picks: Any, counts: Any, weights: Any, scales: Any, norms: Any, embed: Any, positions: Any,
    keys: Any, key_scales: Any, values: Any, value_scales: Any, x: Any, y: Any, z: Any, out: Any,
    out_scale: Any, query: Any, scores: Any, logits: Any,
) -> None:  # fmt: skip
    """Run `program` on thread number `thread`; number 0 begins and ends it, others help.

    Args:
        thread: from 0.
        control: int64, zeros but for a one at CLOSED; `PHASES` and two a line of the program.
        program: int64 [lines, fields], see KIND and the names after it.
        job: int64; how many tokens there are, how many of them are picked for logits.
        tokens: int64 [N, K].
        row: the batch row of each token, int64 [N].
        place: its step, or its place in the text, int64 [N].
        picks: which tokens want logits, int64 [rows].
        counts: real text states of each batch row, int64 [rows].
        weights: int8, all of them one after the other.
        scales: float32, one an output of a weight.
        norms: float32 [norms, 2, D].
        embed: float32 [K (V + 1), D].
        positions: float32 [steps, D].
        keys: of self- and of cross-attention, [layers, rows, heads, steps, head] each.
        key_scales: float32 [layers, rows, heads, steps] each.
        values: as keys.
        value_scales: as key_scales.
        x: the stream, float32 [N, D].
        y: what a linear layer made, float32 [N, widest output].
        z: what attention made, or text, float32 [N, D or text D].
        out: what the next linear layer takes, int16 [N, widest input].
        out_scale: its scales, float32 [N].
        query: int16 [threads, head].
        scores: float32 [threads, steps + head].
        logits: float32 [rows, K V].
    """
    if thread == 0:
        control[PHASES:] = 0
        fetch_add(control, CLOSED, -1)  # opens
    else:
        fetch_add(control, ACTIVE, 1)
        if peek(control, CLOSED) != 0:
            fetch_add(control, ACTIVE, -1)
            return
    N, heads, D = job[TOKENS], keys[0].shape[2], x.shape[1]
    head = D // heads
    for phase in range(program.shape[0]):
        op = program[phase]
        kind, which, layer = op[KIND], op[WHICH], op[LAYER]
        count = job[PICKED] if op[PICK] else N
        items = count
        if kind == LINEAR:
            items = (op[OUTPUTS] + 127) // 128 if count else 0
        elif kind in (ATTEND, REMEMBER):
            items = count * heads
        item = fetch_add(control, PHASES + 2 * phase, 1)
        while item < items:
            if kind == LINEAR:
                to = logits if op[PICK] else y
                _linear_item(op, item, count, weights, scales, out, out_scale, to)
            elif kind == NORM_ADD:
                n = picks[item] if op[PICK] else item
                _norm_item(op, n, item, x, y, norms, out, out_scale)
            elif kind == QUANTIZE:
                width = op[WIDTH_IN]
                padded = (width + WIDTH - 1) // WIDTH * WIDTH
                source = y[item, :width] if which else z[item, :width]
                out_scale[item] = quantize(source, out[item, :padded], input_limit(127, padded))
            elif kind == EMBED:
                _embed_item(item, job, tokens, place[item], embed, positions, x)
            else:
                n, h = item // heads, item % heads
                if kind == ATTEND:  # one head's queries after each other, while its keys are near
                    steps = N // counts.size
                    n = item // (steps * heads) * steps + item % steps
                    h = item // steps % heads
                r, t = row[n], place[n]
                k, v = keys[which][layer, r, h], values[which][layer, r, h]
                ks, vs = key_scales[which][layer, r, h], value_scales[which][layer, r, h]
                if kind == REMEMBER:
                    at = op[COLUMN] + h * head
                    ks[t] = quantize(y[n, at : at + head], k[t], F32(CACHE_LIMIT))
                    at += D
                    vs[t] = quantize(y[n, at : at + head], v[t], F32(CACHE_LIMIT))
                else:
                    seen = counts[r] if which else t + 1
                    part = slice(h * head, h * head + head)
                    limit = input_limit(CACHE_LIMIT, k.shape[1])
                    scale = quantize(y[n, part], query[thread], limit) / np.sqrt(F32(head))
                    attend(query[thread], scale, k, ks, v, vs, seen, scores[thread], z[n, part])
            fetch_add(control, PHASES + 2 * phase + 1, 1)
            item = fetch_add(control, PHASES + 2 * phase, 1)
        spins = 0
        while peek(control, PHASES + 2 * phase + 1) < items:
            spins += 1
            if spins > 2000:  # the other thread may need this very core
                yield_core()
    if thread == 0:
        fetch_add(control, CLOSED, 1)
        while peek(control, ACTIVE) > 0:
            yield_core()
    else:
        fetch_add(control, ACTIVE, -1)


def lerp_quantize(
    a: Any, b: Any, weight: float, mixed: Any, first: int, last: int, out: Any, out_scale: Any
) -> None:
    """Quantize rows `first` to `last` of a + weight (b - a), in one pass over memory.

    Args:
        a: float32 [outputs, inputs].
        b: likewise.
        weight: 0 gives a to the bit, 1 gives b (the same two-sided formula as torch.lerp).
        mixed: room for one row, float32 [inputs].
        first: first row.
        last: row after the last.
        out: int8 [outputs, inputs padded].
        out_scale: float32 [outputs].
    """
    near = weight < 0.5
    w = F32(weight) if near else F32(weight) - F32(1.0)
    for o in range(first, last):
        u, v = a[o], b[o]
        base = u if near else v
        for i in range(mixed.size):
            mixed[i] = base[i] + w * (v[i] - u[i])
        out_scale[o] = quantize(mixed, out[o], F32(127.0))


def _compile(function: Any, signature: str) -> Any:
    """Compile for one signature, from the cache on disk where there is one that can be used."""
    # numba's cache notices changes of this file only, so the name it goes by tells of all.
    sources = [
        Path(__file__).with_name(f"compiled_{part}.py") for part in ("layout", "llvm", "vectors")
    ]
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()[:12]
    function.__qualname__ = f"{function.__name__}_{digest}"
    try:
        return njit(signature, cache=True, **OPTIONS)(function)
    except (RuntimeError, OSError):  # no folder that can be written to
        return njit(signature, **OPTIONS)(function)


_n1, _n2, _f1, _f2, _f3 = "i8[::1]", "i8[:,::1]", "f4[::1]", "f4[:,::1]", "f4[:,:,::1]"
_cache = "UniTuple(i1[:,:,:,:,::1], 2)" if CACHE_DTYPE == "int8" else "UniTuple(i2[:,:,:,:,::1], 2)"
_cache_scale = "UniTuple(f4[:,:,:,::1], 2)"
run = _compile(
    run,
    f"void(i8, {_n1}, {_n2}, {_n1}, {_n2}, {_n1}, {_n1}, {_n1}, {_n1}, i1[::1], {_f1}, {_f3}, "
    f"{_f2}, {_f2}, {_cache}, {_cache_scale}, {_cache}, {_cache_scale}, {_f2}, {_f2}, {_f2}, "
    f"i2[:,::1], {_f1}, i2[:,::1], {_f2}, {_f2})",
)
lerp_quantize = _compile(lerp_quantize, f"void({_f2}, {_f2}, f8, {_f1}, i8, i8, i1[:,::1], {_f1})")
