"""The native kernels of `compiled`: one decoding step of the whole model is one call.

Imported by `compiled_native` alone, and only to compile them.

How threads share the work: a step is a fixed list of lines (a program), each a number of
independent items. Every thread walks the same list and takes items by a shared counter until none
is left, then waits for those others still work on. A thread that comes late finds its items taken,
and a step never waits for a thread that does not come. What an item computes does not depend on who
takes it, on how many tokens there are, or on which row of the batch it is in.
"""

from typing import Any

import numpy as np

from musicgen_rl.lm.compiled_layout import (
    ACTIVATION,
    ACTIVE,
    ADD,
    ATTEND,
    BAD_TOKEN,
    BEAT,
    CACHE_LIMIT,
    CLOSED,
    COLUMN,
    EMBED,
    FOLLOW,
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
from musicgen_rl.lm.compiled_llvm import (
    bytes_1,
    bytes_2,
    bytes_5,
    doubles_1,
    fetch_add,
    floats_1,
    floats_2,
    floats_3,
    floats_4,
    longs_1,
    longs_2,
    peek,
    shorts_2,
    yield_core,
)
from musicgen_rl.lm.compiled_vectors import (
    F32,
    attend,
    gelu,
    input_limit,
    layer_norm,
    matmul,
    native,
    quantize,
    towards,
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
    op: Any,
    n: int,
    to: int,
    x: Any,
    y: Any,
    norms: Any,
    out: Any,
    out_scale: Any,
    follows: int,
    told: Any,
) -> None:
    """Add y to token n of the stream x, then the beat it is told; norm it, quantize it."""
    D = x.shape[1]
    padded = (D + WIDTH - 1) // WIDTH * WIDTH
    row, change = x[n], y[n, :D]
    if op[ADD]:
        for i in range(D):
            row[i] += change[i]
    if follows:
        for i in range(D):
            row[i] += told[i]
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


def run(thread: int, block: int) -> None:
    """Run a program on thread number `thread`; number 0 begins and ends it, others help.

    `block` holds:
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
        keys, key_scales, values, value_scales: of self-attention; int8 [layers, rows, heads, steps,
            head] and float32 [layers, rows, heads, steps].
        The same of cross-attention.
        x: the stream, float32 [N, D].
        y: what a linear layer made, float32 [N, widest output].
        z: what attention made, or text, float32 [N, D or text D].
        out: what the next linear layer takes, int16 [N, widest input].
        out_scale: its scales, float32 [N].
        query: int16 [threads, head].
        scores: float32 [threads, steps + head].
        logits: float32 [rows, K V].
        beat: what is added before each block where job[BEAT] says so, float32 [layers, rows,
            steps, D].
    """
    control, program, job = longs_1(block, 0), longs_2(block, 1), longs_1(block, 2)
    tokens, row, place = longs_2(block, 3), longs_1(block, 4), longs_1(block, 5)
    picks, counts = longs_1(block, 6), longs_1(block, 7)
    weights, scales, norms = bytes_1(block, 8), floats_1(block, 9), floats_3(block, 10)
    embed, positions = floats_2(block, 11), floats_2(block, 12)
    keys = bytes_5(block, 13), bytes_5(block, 17)
    key_scales = floats_4(block, 14), floats_4(block, 18)
    values = bytes_5(block, 15), bytes_5(block, 19)
    value_scales = floats_4(block, 16), floats_4(block, 20)
    x, y, z = floats_2(block, 21), floats_2(block, 22), floats_2(block, 23)
    out, out_scale, query = shorts_2(block, 24), floats_1(block, 25), shorts_2(block, 26)
    scores, logits, beat = floats_2(block, 27), floats_2(block, 28), floats_4(block, 29)
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
                follows = job[BEAT] * op[FOLLOW]
                told = beat[op[LAYER], row[n], place[n]] if follows else beat[0, 0, 0]
                _norm_item(op, n, item, x, y, norms, out, out_scale, follows, told)
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


def lerp_quantize(thread: int, block: int) -> None:
    """Quantize the rows of a + weight (b - a), in one pass over memory.

    `block` holds:
        a: float32 [outputs, inputs].
        b: likewise.
        weight: float64 [1]; 0 gives a to the bit, 1 gives b (the same two-sided formula as
            torch.lerp).
        mixed: room for one row, float32 [inputs].
        out: int8 [outputs, inputs padded].
        out_scale: float32 [outputs].
    """
    a, b, weight = floats_2(block, 0), floats_2(block, 1), doubles_1(block, 2)[0]
    mixed, out, out_scale = floats_1(block, 3), bytes_2(block, 4), floats_1(block, 5)
    near = abs(weight) < 0.5
    w = F32(weight) if near else F32(weight) - F32(1.0)
    for o in range(out_scale.size):
        towards(a[o] if near else b[o], a[o], b[o], w, mixed)
        out_scale[o] = quantize(mixed, out[o], F32(127.0))
