"""Arithmetic on vectors and small matrices in native code: what `compiled_kernels` is made of.

Signed integers stand for floats: int8 for weights, keys and values, up to 16 bits for what they are
multiplied by. Sums of their products are exact, so they do not depend on how work is cut up.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit

from musicgen_rl.lm.compiled_layout import AHEAD, KEYS
from musicgen_rl.lm.compiled_llvm import (
    SOME,
    bits_of,
    dot,
    dots_of_keys,
    dots_of_one,
    dots_of_some,
    dots_of_some_afar,
    dots_of_two,
    float_of,
    mix_narrow,
    mix_wide,
    prefetch,
)

F32 = np.float32
# Without reference counts of arrays there is less to compile and to run; nothing allocates here.
OPTIONS = {"nogil": True, "error_model": "numpy", "_nrt": False, "no_cfunc_wrapper": True}
_MAGIC = np.float32(12582912.0)  # 1.5 * 2**23: adding it rounds to a whole number
_MAGIC_BITS = 0x4B400000


def _native(**options: Any) -> Callable[[Any], Any]:
    """Compile a function that only native code calls."""
    decorator: Callable[[Any], Any] = njit(no_cpython_wrapper=True, **OPTIONS, **options)
    return decorator


native = _native()
native_fused = _native(fastmath={"contract"})  # a product and a sum may be one instruction
native_split = _native(fastmath={"reassoc", "contract", "nsz"})  # sums may be split; nan stays nan


@native
def largest(x: Any) -> Any:
    """Find the largest magnitude of a vector; nan where it holds one.

    Compares bit patterns, whose order is that of positive floats with nan above infinity.
    """
    top = np.int32(0)
    for i in range(x.size):
        top = max(top, np.int32(bits_of(x[i]) & 0x7FFFFFFF))
    return float_of(top)


@native
def highest(x: Any) -> Any:
    """Find the highest of a vector by bit patterns, reordered so that negative ones count down."""
    top = np.int32(-0x80000000)
    for i in range(x.size):
        bits = bits_of(x[i])
        top = max(top, np.int32(bits ^ ((bits >> 31) & 0x7FFFFFFF)))
    return float_of(np.int32(top ^ ((top >> 31) & 0x7FFFFFFF)))


@native
def input_limit(largest: int, size: int) -> Any:
    """Choose how far inputs may go so that `size` products with up to `largest` fit 32 bits."""
    return F32(min(32767, 0x7FFFFFFF // (largest * size)))


@native
def quantize(x: Any, out: Any, limit: Any) -> Any:
    """Round x to whole numbers in [-limit, limit], pad `out` with zeros, return the scale.

    A vector with nan or infinity gets the scale nan, so that all made from it is nan.
    """
    top = largest(x)
    if not top < F32(np.inf):
        out[:] = 0
        return F32(np.nan)
    if top < F32(1e-30):
        out[:] = 0
        return F32(0.0)
    inverse = limit / top
    for i in range(x.size):
        out[i] = bits_of(x[i] * inverse + _MAGIC) - _MAGIC_BITS
    for i in range(x.size, out.size):
        out[i] = 0
    return top / limit


@native_fused
def towards(base: Any, first: Any, second: Any, weight: Any, out: Any) -> None:
    """Write base + weight (second - first); one rounding for both last operations, as in torch."""
    for i in range(out.size):
        out[i] = base[i] + weight * (second[i] - first[i])


@native_fused
def gelu(x: Any) -> None:
    """Apply x (1 + erf(x / sqrt 2)) / 2 in place.

    erf by a rational function fitted to it on [0, 4], off by less than 3e-7 in float32.
    """
    for i in range(x.size):
        z = x[i] * F32(0.7071067811865476)
        z = F32(4.0) if z > F32(4.0) else z
        z = F32(-4.0) if z < F32(-4.0) else z
        u = z * z * F32(0.0625)
        p = F32(5.012588024139404) + u * F32(-0.22927749156951904)
        p = F32(25.079788208007812) + u * p
        p = F32(15.726821899414062) + u * p
        p = F32(13.909147262573242) + u * p
        p = F32(2.955382823944092) + u * p
        p = F32(1.128379225730896) + u * p
        q = F32(85.82449340820312) + u * F32(67.11698913574219)
        q = F32(63.297752380371094) + u * q
        q = F32(29.139619827270508) + u * q
        q = F32(7.952476501464844) + u * q
        q = F32(1.0) + u * q
        x[i] = F32(0.5) * x[i] * (F32(1.0) + z * p / q)


@native_split
def _sum(x: Any) -> Any:
    total = F32(0.0)
    for i in range(x.size):
        total += x[i]
    return total


@native_split
def _sum_squares(x: Any, mean: Any) -> Any:
    total = F32(0.0)
    for i in range(x.size):
        total += (x[i] - mean) * (x[i] - mean)
    return total


@native
def layer_norm(x: Any, weight: Any, bias: Any, out: Any) -> None:
    """Norm a vector as torch's LayerNorm does."""
    size = F32(x.size)
    mean = _sum(x) / size
    rate = F32(1.0) / np.sqrt(_sum_squares(x, mean) / size + F32(1e-5))
    for i in range(x.size):
        out[i] = (x[i] - mean) * rate * weight[i] + bias[i]


@native_fused
def exp_shifted(x: Any, shift: Any) -> None:
    """Replace x by exp(x - shift), for x <= shift: 2**n times a series around zero."""
    for i in range(x.size):
        y = x[i] - shift
        y = F32(-87.0) if y < F32(-87.0) else y
        n = y * F32(1.4426950408889634) + _MAGIC
        whole = n - _MAGIC
        r = y - whole * F32(0.693359375) - whole * F32(-2.12194440e-4)
        p = F32(1 / 720) + r * F32(1 / 5040)
        p = F32(1 / 120) + r * p
        p = F32(1 / 24) + r * p
        p = F32(1 / 6) + r * p
        p = F32(0.5) + r * p
        p = F32(1.0) + r * p
        p = F32(1.0) + r * p
        x[i] = p * float_of(np.int32((bits_of(n) - _MAGIC_BITS + 127) << 23))


@native
def attend(
    query: Any, query_scale: Any, keys: Any, key_scale: Any, values: Any, value_scale: Any,
    count: int, scores: Any, out: Any,
) -> None:  # fmt: skip
    """Attend from one query to the first `count` keys [steps, head]; to none gives zeros.

    `scores` has room for a number a step, and after them one a column of `keys`.
    """
    steps, width = keys.shape
    if count == 0:
        out[:] = 0
        return
    for t in range(AHEAD):
        prefetch(values, t * width)
    for t in range(0, count, KEYS):
        for i in range(KEYS):
            prefetch(keys, (t + i + AHEAD) * width)
        dots_of_keys(
            keys, t * width, key_scale, t, query, 0, 0, query_scale, 0, width, scores, t, 0
        )
    used = scores[:count]
    exp_shifted(used, highest(used))
    inverse = F32(1.0) / _sum(used)
    for t in range(count):
        used[t] *= inverse * value_scale[t]
    for t in range(AHEAD):  # the next head's keys
        prefetch(keys, (steps + t) * width)
    wide = width // 64 * 64
    for i in range(0, wide, 64):
        mix_wide(scores, values, i, width, count, scores, steps + i)
    if wide < width:
        mix_narrow(scores, values, wide, width, count, scores, steps + wide)
    for i in range(out.size):
        out[i] = scores[steps + i]


@native
def matmul(
    w: Any, at: int, width: int, w_scale: Any, x: Any, x_scale: Any, tokens: int, start: int,
    end: int, y: Any,
) -> None:  # fmt: skip
    """Compute y[:tokens, start:end] = x @ w.T, w from w[at] on with rows of `width`."""
    stride, row = x.shape[1], y.shape[1]
    whole, several = start + (end - start) // 4 * 4, tokens // SOME * SOME
    pairs = several + (tokens - several) // 2 * 2
    # Some tokens stay in the cache next to the core, these rows of w in the one behind it.
    for n in range(0, several, SOME):
        for o in range(start, whole, 4):
            if n == 0:
                dots_of_some_afar(
                    w, at + o * width, w_scale, o, x, 0, stride, x_scale, 0, width, y, o, row
                )
            else:
                if n == SOME:  # meanwhile the rows that are likely to come next
                    for i in range(0, 4 * width, 64):
                        prefetch(w, at + (o + end - start) * width + i)
                dots_of_some(
                    w, at + o * width, w_scale, o, x, n * stride, stride, x_scale, n, width, y,
                    n * row + o, row,
                )  # fmt: skip
    for n in range(several, pairs, 2):
        for o in range(start, whole, 4):
            dots_of_two(
                w, at + o * width, w_scale, o, x, n * stride, stride, x_scale, n, width, y,
                n * row + o, row,
            )  # fmt: skip
    for n in range(pairs, tokens):
        for o in range(start, whole, 4):
            dots_of_one(
                w, at + o * width, w_scale, o, x, n * stride, 0, x_scale, n, width, y, n * row + o,
                0,
            )  # fmt: skip
    for o in range(whole, end):
        for n in range(tokens):
            total = dot(w, at + o * width, x, n * stride, width)
            y[n, o] = F32(total) * (x_scale[n] * w_scale[o])
