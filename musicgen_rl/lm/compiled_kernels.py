"""Native kernels of `compiled`: one decoding step of the whole model is one call.

Importing this module compiles them (numba), or loads them from numba's cache on disk; so import it
late. All of it is in one file because that cache notices only changes of the file it belongs to.

How the work is shared: a step is a fixed list of phases, each a number of independent items. Every
thread walks the same list and takes items by a shared counter until none is left, then waits for
those others still work on. A thread that comes late finds its items taken, and a step never waits
for a thread that does not come. An item's arithmetic does not depend on who takes it, on how many
tokens there are, or on which row of the batch it is in: sums that are split are of integers.

Signed integers stand for floats: int8 for weights, keys and values, 16 bits for what they are
multiplied by. 8 x 16 bit products summed in pairs to 32 bits is one instruction on every x86 CPU
and two on ARM. `_FRAMES` and friends index the job array; see `Job` in `compiled`.
"""

import sys
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

WIDTH = 64
"""Inner dimensions are padded with zeros to a multiple of this."""
CACHE_DTYPE, _CACHE_LIMIT = "int8", 127
"""Keys and values; with one scale a head and step their error is that of the weights."""
KEYS = 4
"""Keys are scored this many at once; caches have room for a multiple."""

# Kinds of lines of a program.
EMBED, NORM_ADD, LINEAR, REMEMBER, ATTEND, QUANTIZE = range(6)
# Fields of a line: WHICH is 0 for self, 1 for cross attention (QUANTIZE: 0 reads z, 1 reads y);
# PICK says that only the tokens whose logits are wanted take part.
KIND, PICK, WHICH, LAYER, COLUMN, NORM, ADD, OUTPUTS, WIDTH_IN, WEIGHT_AT, SCALE_AT, ACTIVATION = (
    range(12)
)
NUM_FIELDS = 12
# Places in the job array.
TOKENS, PICKED, BAD_TOKEN = range(3)
# Places in the control array: words that threads share, then a pair (taken, done) a line.
CLOSED, ACTIVE, PHASES = 0, 8, 16

_I8, _I16, _I32, _I64 = (ir.IntType(bits) for bits in (8, 16, 32, 64))
_REASSOCIATE = {"reassoc", "contract", "nsz"}  # sums may be split; nan and inf stay what they are
_OPTIONS = {"nogil": True, "error_model": "numpy"}
_INNER = {**_OPTIONS, "no_cpython_wrapper": True, "no_cfunc_wrapper": True}
_inner = njit(**_INNER)
_F32 = np.float32
_MAGIC = np.float32(12582912.0)  # 1.5 * 2**23: adding it rounds to a whole number
_MAGIC_BITS = 0x4B400000


def _dot_tile(num_weights: int, num_inputs: int, unroll: int, ahead: int) -> Any:
    """Make the inner product of `num_weights` rows with `num_inputs` rows, all pairs at once.

    The result is called as `tile(w, w_at, w_stride, x, x_at, x_stride, size)` with flat offsets
    into two contiguous arrays (int8 or int16, and int16) and returns the int32 sums as a tuple,
    weight-major. Written in LLVM's vectors, since a loop over several rows is not vectorised well.

    Args:
        num_weights: rows of w taken at `w_at`, `w_at + w_stride`, ...
        num_inputs: rows of x.
        unroll: vectors of 16 taken per round; `size` is a multiple of 16 * unroll.
        ahead: bytes ahead of which weights are prefetched; 0 for not.
    """

    @intrinsic  # type: ignore[untyped-decorator]
    def tile(
        typing: Any, w: Any, w_at: Any, w_stride: Any, x: Any, x_at: Any, x_stride: Any, size: Any
    ) -> Any:
        result = types.UniTuple(types.int32, num_weights * num_inputs)
        signature = result(w, w_at, w_stride, x, x_at, x_stride, size)

        def codegen(context: Any, b: Any, signature: Any, args: Any) -> Any:
            def rows(which: int, count: int) -> list[Any]:
                array = context.make_array(signature.args[which])(context, b, args[which])
                at, stride = args[which + 1], args[which + 2]
                return [
                    b.gep(array.data, [b.add(at, b.mul(stride, _I64(i)))]) for i in range(count)
                ]

            def load(pointer: Any, k: Any) -> Any:
                pointer = b.gep(pointer, [k])
                vector = ir.VectorType(pointer.type.pointee, 16)
                loaded = b.load(b.bitcast(pointer, vector.as_pointer()))
                loaded.align = 1
                return b.sext(loaded, ir.VectorType(_I32, 16))

            def pick(vector: Any, lanes: range) -> Any:
                mask = ir.Constant(ir.VectorType(_I32, len(lanes)), list(lanes))
                return b.shuffle_vector(vector, vector, mask)

            ws, xs = rows(0, num_weights), rows(3, num_inputs)
            half = ir.VectorType(_I32, 8)
            before = b.block
            head, body, done = (b.append_basic_block(n) for n in ("head", "body", "done"))
            b.branch(head)
            b.position_at_end(head)
            k = b.phi(_I64)
            k.add_incoming(_I64(0), before)
            sums = [b.phi(half) for _ in range(num_weights * num_inputs)]
            for total in sums:
                total.add_incoming(ir.Constant(half, [0] * 8), before)
            b.cbranch(b.icmp_signed("<", k, args[6]), body, done)

            b.position_at_end(body)
            new, at = list(sums), k
            if ahead:
                byte = _I8.as_pointer()
                fetch = ir.FunctionType(ir.VoidType(), [byte, _I32, _I32, _I32])
                prefetch = b.module.declare_intrinsic("llvm.prefetch", [byte], fetch)
                for pointer in ws:
                    target = b.bitcast(b.gep(pointer, [b.add(k, _I64(ahead))]), byte)
                    b.call(prefetch, [target, _I32(0), _I32(3), _I32(1)])
            for _ in range(unroll):
                weights = [load(pointer, at) for pointer in ws]
                for j, pointer in enumerate(xs):
                    x_vector = load(pointer, at)
                    for i, weight in enumerate(weights):
                        product = b.mul(weight, x_vector)
                        pairs = b.add(
                            pick(product, range(0, 16, 2)), pick(product, range(1, 16, 2))
                        )
                        new[i * num_inputs + j] = b.add(new[i * num_inputs + j], pairs)
                at = b.add(at, _I64(16))
            k.add_incoming(at, b.block)
            for total, value in zip(sums, new, strict=True):
                total.add_incoming(value, b.block)
            b.branch(head)

            b.position_at_end(done)
            results = []
            for total in sums:
                for n in (8, 4, 2):
                    total = b.add(pick(total, range(n // 2)), pick(total, range(n // 2, n)))
                results.append(b.extract_element(total, _I32(0)))
            return context.make_tuple(b, signature.return_type, results)

        return signature, codegen

    return tile


# One token reads its weights as one stream, the pattern memory is fastest at.
_dot_one = _dot_tile(1, 1, unroll=4, ahead=4096)
_dot_many = _dot_tile(4, 2, unroll=1, ahead=4096)
_dot_keys = _dot_tile(KEYS, 1, unroll=1, ahead=0)


@intrinsic  # type: ignore[untyped-decorator]
def _bits(typing: Any, x: Any) -> Any:
    """Reinterpret a float32 as int32."""
    return types.int32(types.float32), lambda _, b, __, args: b.bitcast(args[0], _I32)


@intrinsic  # type: ignore[untyped-decorator]
def _float(typing: Any, x: Any) -> Any:
    """Reinterpret an int32 as float32."""
    return types.float32(types.int32), lambda _, b, __, args: b.bitcast(args[0], ir.FloatType())


@intrinsic  # type: ignore[untyped-decorator]
def _fetch_add(typing: Any, array: Any, at: Any, value: Any) -> Any:
    """Add to array[at] as one indivisible step and return what was there."""

    def codegen(context: Any, b: Any, signature: Any, args: Any) -> Any:
        data = context.make_array(signature.args[0])(context, b, args[0]).data
        return b.atomic_rmw("add", b.gep(data, [args[1]]), args[2], "seq_cst")

    return types.int64(array, types.int64, types.int64), codegen


@intrinsic  # type: ignore[untyped-decorator]
def _peek(typing: Any, array: Any, at: Any) -> Any:
    """Read array[at] as other threads left it."""

    def codegen(context: Any, b: Any, signature: Any, args: Any) -> Any:
        data = context.make_array(signature.args[0])(context, b, args[0]).data
        return b.load_atomic(b.gep(data, [args[1]]), "seq_cst", 8)

    return types.int64(array, types.int64), codegen


_yield_core = types.ExternalFunction(
    "SwitchToThread" if sys.platform == "win32" else "sched_yield", types.int32()
)


@_inner
def _largest(x: Any) -> Any:
    """Find the largest magnitude of a vector; nan where it holds one.

    Compares bit patterns, whose order is that of positive floats with nan above infinity.
    """
    top = np.int32(0)
    for i in range(x.size):
        top = max(top, np.int32(_bits(x[i]) & 0x7FFFFFFF))
    return _float(top)


@_inner
def _highest(x: Any) -> Any:
    """Find the highest of a vector by bit patterns, reordered so that negative ones count down."""
    top = np.int32(-0x80000000)
    for i in range(x.size):
        bits = _bits(x[i])
        top = max(top, np.int32(bits ^ ((bits >> 31) & 0x7FFFFFFF)))
    return _float(np.int32(top ^ ((top >> 31) & 0x7FFFFFFF)))


@_inner
def _limit(largest: int, size: int) -> Any:
    """Choose how far inputs may go so that `size` products with up to `largest` fit 32 bits."""
    return _F32(min(32767, 0x7FFFFFFF // (largest * size)))


@_inner
def _quantize(x: Any, out: Any, limit: Any) -> Any:
    """Round x to whole numbers in [-limit, limit], pad `out` with zeros, return the scale.

    A vector with nan or infinity gets the scale nan, so that all made from it is nan.
    """
    top = _largest(x)
    if not top < _F32(np.inf):
        out[:] = 0
        return _F32(np.nan)
    if top < _F32(1e-30):
        out[:] = 0
        return _F32(0.0)
    inverse = limit / top
    for i in range(x.size):
        out[i] = _bits(x[i] * inverse + _MAGIC) - _MAGIC_BITS
    for i in range(x.size, out.size):
        out[i] = 0
    return top / limit


@_inner
def _gelu(x: Any) -> None:
    """Apply x (1 + erf(x / sqrt 2)) / 2 in place.

    erf by a rational function fitted to it on [0, 4], off by less than 3e-7 in float32.
    """
    for i in range(x.size):
        z = x[i] * _F32(0.7071067811865476)
        z = _F32(4.0) if z > _F32(4.0) else z
        z = _F32(-4.0) if z < _F32(-4.0) else z
        u = z * z * _F32(0.0625)
        p = _F32(5.012588024139404) + u * _F32(-0.22927749156951904)
        p = _F32(25.079788208007812) + u * p
        p = _F32(15.726821899414062) + u * p
        p = _F32(13.909147262573242) + u * p
        p = _F32(2.955382823944092) + u * p
        p = _F32(1.128379225730896) + u * p
        q = _F32(85.82449340820312) + u * _F32(67.11698913574219)
        q = _F32(63.297752380371094) + u * q
        q = _F32(29.139619827270508) + u * q
        q = _F32(7.952476501464844) + u * q
        q = _F32(1.0) + u * q
        x[i] = _F32(0.5) * x[i] * (_F32(1.0) + z * p / q)


@njit(fastmath=_REASSOCIATE, **_INNER)  # type: ignore[untyped-decorator]
def _sum(x: Any) -> Any:
    total = _F32(0.0)
    for i in range(x.size):
        total += x[i]
    return total


@njit(fastmath=_REASSOCIATE, **_INNER)  # type: ignore[untyped-decorator]
def _sum_squares(x: Any, mean: Any) -> Any:
    total = _F32(0.0)
    for i in range(x.size):
        total += (x[i] - mean) * (x[i] - mean)
    return total


@_inner
def _layer_norm(x: Any, weight: Any, bias: Any, out: Any) -> None:
    """Norm a vector as torch's LayerNorm does."""
    size = _F32(x.size)
    mean = _sum(x) / size
    rate = _F32(1.0) / np.sqrt(_sum_squares(x, mean) / size + _F32(1e-5))
    for i in range(x.size):
        out[i] = (x[i] - mean) * rate * weight[i] + bias[i]


@_inner
def _exp(x: Any, shift: Any) -> None:
    """Replace x by exp(x - shift), for x <= shift: 2**n times a series around zero."""
    for i in range(x.size):
        y = x[i] - shift
        y = _F32(-87.0) if y < _F32(-87.0) else y
        n = y * _F32(1.4426950408889634) + _MAGIC
        whole = n - _MAGIC
        r = y - whole * _F32(0.693359375) - whole * _F32(-2.12194440e-4)
        p = _F32(1 / 720) + r * _F32(1 / 5040)
        p = _F32(1 / 120) + r * p
        p = _F32(1 / 24) + r * p
        p = _F32(1 / 6) + r * p
        p = _F32(0.5) + r * p
        p = _F32(1.0) + r * p
        p = _F32(1.0) + r * p
        x[i] = p * _float(np.int32((_bits(n) - _MAGIC_BITS + 127) << 23))


@njit(fastmath={"contract"}, **_INNER)  # type: ignore[untyped-decorator]
def _add_values(out: Any, share: Any, values: Any, at: int) -> None:
    """Add four vectors of `values` from row `at`, each times its share."""
    a, b, c, d = share[at], share[at + 1], share[at + 2], share[at + 3]
    v0, v1, v2, v3 = values[at], values[at + 1], values[at + 2], values[at + 3]
    for i in range(out.size):
        out[i] += a * _F32(v0[i]) + b * _F32(v1[i]) + c * _F32(v2[i]) + d * _F32(v3[i])


@_inner
def _attend(
    query: Any, query_scale: Any, keys: Any, key_scale: Any, values: Any, value_scale: Any,
    count: int, scores: Any, out: Any,
) -> None:  # fmt: skip
    """Attend from one query to the first `count` keys [steps, head]; to none gives zeros."""
    out[:] = 0
    if count == 0:
        return
    width = keys.shape[1]
    for t in range(0, count, KEYS):
        sums = _dot_keys(keys, t * width, width, query, 0, 0, width)
        for i in range(KEYS):
            scores[t + i] = _F32(sums[i]) * (query_scale * key_scale[t + i])
    used = scores[:count]
    _exp(used, _highest(used))
    inverse = _F32(1.0) / _sum(used)
    for t in range(count):
        used[t] *= inverse * value_scale[t]
    padded = (count + KEYS - 1) // KEYS * KEYS
    scores[count:padded] = 0
    for t in range(0, padded, KEYS):
        _add_values(out, scores, values, t)


@_inner
def _matmul(
    w: Any, at: int, width: int, w_scale: Any, x: Any, x_scale: Any, tokens: int, start: int,
    end: int, y: Any,
) -> None:  # fmt: skip
    """Compute y[:tokens, start:end] = x @ w.T, w from w[at] on with rows of `width`."""
    stride = x.shape[1]
    for block in range(0, tokens, 32):  # tokens whose inputs stay in the cache next to the core
        stop = min(block + 32, tokens)
        pairs = block + (stop - block) // 2 * 2
        o = start
        while o < end:
            many = 4 if o + 4 <= end else 1
            if many == 4:
                for n in range(block, pairs, 2):
                    sums = _dot_many(w, at + o * width, width, x, n * stride, stride, width)
                    for i in range(4):
                        y[n, o + i] = _F32(sums[2 * i]) * (x_scale[n] * w_scale[o + i])
                        y[n + 1, o + i] = _F32(sums[2 * i + 1]) * (x_scale[n + 1] * w_scale[o + i])
            for n in range(pairs if many == 4 else block, stop):
                for i in range(o, o + many):
                    total = _dot_one(w, at + i * width, width, x, n * stride, stride, width)[0]
                    y[n, i] = _F32(total) * (x_scale[n] * w_scale[i])
            o += many


@_inner
def _linear_item(
    op: Any, item: int, tokens: int, weights: Any, scales: Any, out: Any, out_scale: Any, y: Any
) -> None:
    """Multiply by 128 rows of a weight and activate."""
    outputs = op[OUTPUTS]
    start, end = item * 128, min(item * 128 + 128, outputs)
    w_scale = scales[op[SCALE_AT] : op[SCALE_AT] + outputs]
    _matmul(weights, op[WEIGHT_AT], op[WIDTH_IN], w_scale, out, out_scale, tokens, start, end, y)
    for n in range(tokens):
        part = y[n, start:end]
        if op[ACTIVATION] == 1:
            _gelu(part)
        elif op[ACTIVATION] == 2:
            for i in range(part.size):
                part[i] = _F32(0.0) if part[i] < _F32(0.0) else part[i]


@_inner
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
    _layer_norm(row, norms[op[NORM], 0], norms[op[NORM], 1], change)
    out_scale[to] = _quantize(change, out[to, :padded], _limit(127, padded))


@_inner
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
        z: what attention made, or text, float32 [N, D].
        out: what the next linear layer takes, int16 [N, widest input].
        out_scale: its scales, float32 [N].
        query: int16 [threads, head].
        scores: float32 [threads, steps].
        logits: float32 [rows, K V].
    """
    if thread == 0:
        control[PHASES:] = 0
        _fetch_add(control, CLOSED, -1)  # opens
    else:
        _fetch_add(control, ACTIVE, 1)
        if _peek(control, CLOSED) != 0:
            _fetch_add(control, ACTIVE, -1)
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
        elif kind == ATTEND or kind == REMEMBER:
            items = count * heads
        item = _fetch_add(control, PHASES + 2 * phase, 1)
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
                out_scale[item] = _quantize(source, out[item, :padded], _limit(127, padded))
            elif kind == EMBED:
                _embed_item(item, job, tokens, place[item], embed, positions, x)
            else:
                n, h = item // heads, item % heads
                r, t = row[n], place[n]
                k, v = keys[which][layer, r, h], values[which][layer, r, h]
                ks, vs = key_scales[which][layer, r, h], value_scales[which][layer, r, h]
                if kind == REMEMBER:
                    at = op[COLUMN] + h * head
                    ks[t] = _quantize(y[n, at : at + head], k[t], _F32(_CACHE_LIMIT))
                    at += D
                    vs[t] = _quantize(y[n, at : at + head], v[t], _F32(_CACHE_LIMIT))
                else:
                    seen = counts[r] if which else t + 1
                    part = slice(h * head, h * head + head)
                    limit = _limit(_CACHE_LIMIT, k.shape[1])
                    scale = _quantize(y[n, part], query[thread], limit) / np.sqrt(_F32(head))
                    _attend(query[thread], scale, k, ks, v, vs, seen, scores[thread], z[n, part])
            _fetch_add(control, PHASES + 2 * phase + 1, 1)
            item = _fetch_add(control, PHASES + 2 * phase, 1)
        spins = 0
        while _peek(control, PHASES + 2 * phase + 1) < items:
            spins += 1
            if spins > 2000:  # the other thread may need this very core
                _yield_core()
    if thread == 0:
        _fetch_add(control, CLOSED, 1)
        while _peek(control, ACTIVE) > 0:
            _yield_core()
    else:
        _fetch_add(control, ACTIVE, -1)


def lerp_quantize(
    a: Any, b: Any, weight: float, first: int, last: int, out: Any, out_scale: Any
) -> None:
    """Quantize rows `first` to `last` of a + weight (b - a), in one pass over memory.

    Args:
        a: float32 [outputs, inputs].
        b: likewise.
        weight: 0 gives a to the bit, 1 gives b (the same two-sided formula as torch.lerp).
        first: first row.
        last: row after the last.
        out: int8 [outputs, inputs padded].
        out_scale: float32 [outputs].
    """
    near = weight < 0.5
    w = _F32(weight) if near else _F32(weight) - _F32(1.0)
    mixed = np.empty(a.shape[1], np.float32)
    for o in range(first, last):
        u, v = a[o], b[o]
        base = u if near else v
        for i in range(mixed.size):
            mixed[i] = base[i] + w * (v[i] - u[i])
        out_scale[o] = _quantize(mixed, out[o], _F32(127.0))


def _compile(function: Any, signature: str) -> Any:
    """Compile for one signature, from the cache on disk where there is one that can be used."""
    try:
        return njit(signature, cache=True, **_OPTIONS)(function)
    except (RuntimeError, OSError):  # no folder that can be written to
        return njit(signature, **_OPTIONS)(function)


_n1, _n2, _f1, _f2, _f3 = "i8[::1]", "i8[:,::1]", "f4[::1]", "f4[:,::1]", "f4[:,:,::1]"
_cache = "UniTuple(i1[:,:,:,:,::1], 2)" if CACHE_DTYPE == "int8" else "UniTuple(i2[:,:,:,:,::1], 2)"
_cache_scale = "UniTuple(f4[:,:,:,::1], 2)"
run = _compile(
    run,
    f"void(i8, {_n1}, {_n2}, {_n1}, {_n2}, {_n1}, {_n1}, {_n1}, {_n1}, i1[::1], {_f1}, {_f3}, "
    f"{_f2}, {_f2}, {_cache}, {_cache_scale}, {_cache}, {_cache_scale}, {_f2}, {_f2}, {_f2}, "
    f"i2[:,::1], {_f1}, i2[:,::1], {_f2}, {_f2})",
)
lerp_quantize = _compile(lerp_quantize, f"void({_f2}, {_f2}, f8, i8, i8, i1[:,::1], {_f1})")
