"""Operations that numba's Python lacks, written as LLVM instructions.

LLVM turns its vectors into whatever the processor has: AVX2 or AVX-512 with or without VNNI, or
ARM's NEON. A product of 8- and 16-bit integers summed in pairs to 32 bits is one instruction on
every x86 processor and two on ARM. Vectors are as wide as registers are, for LLVM left alone uses
half of AVX-512's; what comes out is the same to the bit.
"""

import sys
from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import binding, ir
from numba import types
from numba.extending import intrinsic
from numba.np.arrayobj import populate_array

from musicgen_rl.lm.compiled_layout import AHEAD, BLOCK_WORDS

_intrinsic: Callable[[Any], Any] = intrinsic
_I8, _I32, _I64 = (ir.IntType(bits) for bits in (8, 32, 64))
WIDE = binding.get_host_cpu_features().get("avx512bw", False)
"""Whether the processor has 32 registers of 512 bits, and not 16 of 256."""
_LANES = 32 if WIDE else 16
"""16-bit integers of one register."""


def _pick(b: Any, first: Any, second: Any, lanes: Sequence[int]) -> Any:
    """Take lanes of two vectors laid behind each other."""
    mask = ir.Constant(ir.VectorType(_I32, len(lanes)), list(lanes))
    return b.shuffle_vector(first, second, mask)


def _spread(b: Any, number: Any, lanes: int) -> Any:
    """Make a vector whose lanes are all one number."""
    vector = ir.Constant(ir.VectorType(number.type, lanes), ir.Undefined)
    return _pick(b, b.insert_element(vector, number, _I32(0)), vector, [0] * lanes)


def _load(b: Any, pointer: Any, lanes: int) -> Any:
    vector = ir.VectorType(pointer.type.pointee, lanes)
    loaded = b.load(b.bitcast(pointer, vector.as_pointer()))
    loaded.align = 1
    return loaded


def _products(b: Any, weight: Any, inputs: Any) -> Any:
    """Multiply two vectors of numbers and sum neighbours: half as many sums of 32 bits."""
    product = b.mul(weight, inputs)
    even = _pick(b, product, product, range(0, _LANES, 2))
    return b.add(even, _pick(b, product, product, range(1, _LANES, 2)))


def _four_totals(b: Any, sums: list[Any]) -> Any:
    """Sum each of four vectors of eight or sixteen; the totals are one vector."""

    def join(x: Any, y: Any, low: Sequence[int], high: Sequence[int]) -> Any:
        return b.add(_pick(b, x, y, low), _pick(b, x, y, high))

    while sums[0].type.count > 8:
        half = sums[0].type.count // 2
        sums = [
            b.add(_pick(b, s, s, range(half)), _pick(b, s, s, range(half, 2 * half))) for s in sums
        ]
    low, high = (0, 8, 1, 9, 4, 12, 5, 13), (2, 10, 3, 11, 6, 14, 7, 15)
    first, second = join(sums[0], sums[1], low, high), join(sums[2], sums[3], low, high)
    all_four = join(first, second, (0, 1, 8, 9, 4, 5, 12, 13), (2, 3, 10, 11, 6, 7, 14, 15))
    return join(all_four, all_four, range(4), range(4, 8))


def _dot_tile(num_inputs: int, unroll: int, ahead: int) -> Any:
    """Make the inner products of 4 rows of integers with `num_inputs` rows, scaled.

    The result is called as `tile(w, w_at, w_scale, w_scale_at, x, x_at, x_stride, x_scale,
    x_scale_at, size, y, y_at, y_stride)`, with flat offsets into contiguous arrays, and writes
    float32(w[i] . x[j]) * (x_scale[j] * w_scale[i]) to y[y_at + j * y_stride + i]. Rows of w (int8)
    follow each other; x is int16; `x_scale` may be a number. Written in LLVM's vectors, since a
    loop over several rows is not vectorised well.

    Args:
        num_inputs: rows of x.
        unroll: registers taken per round; `size` is a multiple of their lanes.
        ahead: bytes ahead of which w is prefetched; 0 for not.
    """

    @_intrinsic
    def tile(
        typing: Any, w: Any, w_at: Any, w_scale: Any, w_scale_at: Any, x: Any, x_at: Any,
        x_stride: Any, x_scale: Any, x_scale_at: Any, size: Any, y: Any, y_at: Any, y_stride: Any,
    ) -> Any:  # fmt: skip
        signature = types.void(
            w, w_at, w_scale, w_scale_at, x, x_at, x_stride, x_scale, x_scale_at, size, y, y_at,
            y_stride,
        )  # fmt: skip

        def codegen(context: Any, b: Any, signature: Any, args: Any) -> Any:
            def at(which: int, offset: Any) -> Any:
                array = context.make_array(signature.args[which])(context, b, args[which])
                return b.gep(array.data, [offset])

            size, rows = args[9], range(4)
            ws = [at(0, b.add(args[1], b.mul(size, _I64(i)))) for i in rows]
            xs = [at(4, b.add(args[5], b.mul(args[6], _I64(j)))) for j in range(num_inputs)]
            of_sums, of_products = ir.VectorType(_I32, _LANES // 2), ir.VectorType(_I32, _LANES)
            before = b.block
            body, done = b.append_basic_block("body"), b.append_basic_block("done")
            b.branch(body)
            b.position_at_end(body)
            k = b.phi(_I64)
            sums = [[b.phi(of_sums) for _ in rows] for _ in xs]
            k.add_incoming(_I64(0), before)
            new, place = [list(of_input) for of_input in sums], k
            for pointer in ws if ahead else ():
                _emit_prefetch(b, b.gep(pointer, [b.add(k, _I64(ahead))]))
            for _ in range(unroll):
                weights = [b.sext(_load(b, b.gep(p, [place]), _LANES), of_products) for p in ws]
                for j, pointer in enumerate(xs):
                    inputs = b.sext(_load(b, b.gep(pointer, [place]), _LANES), of_products)
                    for i in rows:
                        new[j][i] = b.add(new[j][i], _products(b, weights[i], inputs))
                place = b.add(place, _I64(_LANES))
            k.add_incoming(place, b.block)
            for j in range(num_inputs):
                for i in rows:
                    sums[j][i].add_incoming(ir.Constant(of_sums, [0] * (_LANES // 2)), before)
                    sums[j][i].add_incoming(new[j][i], b.block)
            b.cbranch(b.icmp_signed("<", place, size), body, done)

            b.position_at_end(done)
            four = ir.VectorType(ir.FloatType(), 4)
            of_weights = _load(b, at(2, args[3]), 4)
            for j in range(num_inputs):
                total = b.sitofp(_four_totals(b, new[j]), four)
                of_input = args[7]
                if isinstance(signature.args[7], types.Array):
                    of_input = b.load(at(7, b.add(args[8], _I64(j))))
                scale = b.fmul(_spread(b, of_input, 4), of_weights)
                target = at(10, b.add(args[11], b.mul(args[12], _I64(j))))
                stored = b.store(b.fmul(total, scale), b.bitcast(target, four.as_pointer()))
                stored.align = 4
            return context.get_dummy_value()

        return signature, codegen

    return tile


SOME = 4 if WIDE else 2
"""As many inputs as there are registers for."""
dots_of_some = _dot_tile(SOME, unroll=1, ahead=0)
dots_of_some_afar = _dot_tile(SOME, unroll=1, ahead=4096)
dots_of_two = _dot_tile(2, unroll=1, ahead=4096)
dots_of_one = _dot_tile(1, unroll=32 // _LANES, ahead=4096)
dots_of_keys = _dot_tile(1, unroll=32 // _LANES, ahead=0)


@_intrinsic
def dot(typing: Any, w: Any, w_at: Any, x: Any, x_at: Any, size: Any) -> Any:
    """Compute the inner product of one int8 row with one int16 row, as int32."""

    def codegen(context: Any, b: Any, signature: Any, args: Any) -> Any:
        def data(which: int) -> Any:
            return context.make_array(signature.args[which])(context, b, args[which]).data

        first, second = b.gep(data(0), [args[1]]), b.gep(data(2), [args[3]])
        before, body, done = b.block, b.append_basic_block("body"), b.append_basic_block("done")
        b.branch(body)
        b.position_at_end(body)
        k, total = b.phi(_I64), b.phi(_I32)
        product = b.mul(
            b.sext(b.load(b.gep(first, [k])), _I32), b.sext(b.load(b.gep(second, [k])), _I32)
        )
        k_next, total_next = b.add(k, _I64(1)), b.add(total, product)
        for phi, start, after in ((k, _I64(0), k_next), (total, _I32(0), total_next)):
            phi.add_incoming(start, before)
            phi.add_incoming(after, body)
        b.cbranch(b.icmp_signed("<", k_next, args[4]), body, done)
        b.position_at_end(done)
        return total_next

    return types.int32(w, w_at, x, x_at, size), codegen


@_intrinsic
def prefetch(typing: Any, array: Any, at: Any) -> Any:
    """Ask for the memory at a flat offset, which may lie outside the array."""

    def codegen(context: Any, b: Any, signature: Any, args: Any) -> Any:
        data = context.make_array(signature.args[0])(context, b, args[0]).data
        _emit_prefetch(b, b.gep(data, [args[1]]))
        return context.get_dummy_value()

    return types.void(array, at), codegen


def _emit_prefetch(b: Any, pointer: Any) -> None:
    byte = _I8.as_pointer()
    fetch = ir.FunctionType(ir.VoidType(), [byte, _I32, _I32, _I32])
    prefetch = b.module.declare_intrinsic("llvm.prefetch", [byte], fetch)
    b.call(prefetch, [b.bitcast(pointer, byte), _I32(0), _I32(3), _I32(1)])


def _mixer(columns: int) -> Any:
    """Make a function that sums rows of integers, each times its share.

    The result is called as `mix(share, values, at, stride, count, out, out_at)` and writes the sum
    of share[t] * values[at + t * stride : ... + columns] over t to out[out_at:]. `values` are
    integers, `share` and `out` float32; the sums stay in registers.
    """

    @_intrinsic
    def mix(
        typing: Any, share: Any, values: Any, at: Any, stride: Any, count: Any, out: Any,
        out_at: Any,
    ) -> Any:  # fmt: skip
        signature = types.void(share, values, at, stride, count, out, out_at)

        def codegen(context: Any, b: Any, signature: Any, args: Any) -> Any:
            def data(which: int) -> Any:
                return context.make_array(signature.args[which])(context, b, args[which]).data

            lanes = _LANES // 2
            vector, parts = ir.VectorType(ir.FloatType(), lanes), range(columns // lanes)
            shares, target = data(0), b.gep(data(5), [args[6]])
            first = b.gep(data(1), [args[2]])
            before, body, done = b.block, b.append_basic_block("body"), b.append_basic_block("done")
            b.branch(body)
            b.position_at_end(body)
            t = b.phi(_I64)
            t.add_incoming(_I64(0), before)
            sums = [b.phi(vector) for _ in parts]
            weight = _spread(b, b.load(b.gep(shares, [t])), lanes)
            place = b.gep(first, [b.mul(t, args[3])])
            _emit_prefetch(b, b.gep(first, [b.mul(b.add(t, _I64(AHEAD)), args[3])]))
            new = []
            for i in parts:
                numbers = b.sitofp(_load(b, b.gep(place, [_I64(lanes * i)]), lanes), vector)
                product = b.fmul(numbers, weight, flags=("contract",))
                new.append(b.fadd(sums[i], product, flags=("contract",)))
                sums[i].add_incoming(ir.Constant(vector, [0.0] * lanes), before)
                sums[i].add_incoming(new[i], body)
            after = b.add(t, _I64(1))
            t.add_incoming(after, body)
            b.cbranch(b.icmp_signed("<", after, args[4]), body, done)

            b.position_at_end(done)
            for i in parts:
                at = b.bitcast(b.gep(target, [_I64(lanes * i)]), vector.as_pointer())
                b.store(new[i], at).align = 4
            return context.get_dummy_value()

        return signature, codegen

    return mix


mix_narrow, mix_wide = _mixer(32), _mixer(64)


def _viewer(dtype: Any, ndim: int) -> Any:
    """Make a function that gives the array at place `which` of the block at `address`."""
    array_type = types.Array(dtype, ndim, "C")

    @_intrinsic
    def view(typing: Any, address: Any, which: Any) -> Any:
        def codegen(context: Any, b: Any, signature: Any, args: Any) -> Any:
            words = b.inttoptr(args[0], _I64.as_pointer())
            first = b.mul(args[1], _I64(BLOCK_WORDS))
            start, *shape = [b.load(b.gep(words, [b.add(first, _I64(i))])) for i in range(ndim + 1)]
            array = context.make_array(array_type)(context, b)
            size = _I64(dtype.bitwidth // 8)
            strides = [size]
            for length in reversed(shape[1:]):
                strides.insert(0, b.mul(strides[0], length))
            populate_array(
                array, data=b.inttoptr(start, array.data.type), shape=shape, strides=strides,
                itemsize=size, meminfo=None,
            )  # fmt: skip
            return array._getvalue()

        return array_type(address, which), codegen

    return view


bytes_1, bytes_2, bytes_5 = (_viewer(types.int8, n) for n in (1, 2, 5))
shorts_2 = _viewer(types.int16, 2)
ints_1 = _viewer(types.int32, 1)
longs_1, longs_2 = (_viewer(types.int64, n) for n in (1, 2))
floats_1, floats_2, floats_3, floats_4 = (_viewer(types.float32, n) for n in (1, 2, 3, 4))
doubles_1 = _viewer(types.float64, 1)


@_intrinsic
def bits_of(typing: Any, x: Any) -> Any:
    """Reinterpret a float32 as int32."""
    return types.int32(types.float32), lambda _, b, __, args: b.bitcast(args[0], _I32)


@_intrinsic
def float_of(typing: Any, x: Any) -> Any:
    """Reinterpret an int32 as float32."""
    return types.float32(types.int32), lambda _, b, __, args: b.bitcast(args[0], ir.FloatType())


@_intrinsic
def fetch_add(typing: Any, array: Any, at: Any, value: Any) -> Any:
    """Add to array[at] as one indivisible step and return what was there."""

    def codegen(context: Any, b: Any, signature: Any, args: Any) -> Any:
        data = context.make_array(signature.args[0])(context, b, args[0]).data
        return b.atomic_rmw("add", b.gep(data, [args[1]]), args[2], "seq_cst")

    return types.int64(array, types.int64, types.int64), codegen


@_intrinsic
def peek(typing: Any, array: Any, at: Any) -> Any:
    """Read array[at] as other threads left it."""

    def codegen(context: Any, b: Any, signature: Any, args: Any) -> Any:
        data = context.make_array(signature.args[0])(context, b, args[0]).data
        return b.load_atomic(b.gep(data, [args[1]]), "seq_cst", 8)

    return types.int64(array, types.int64), codegen


yield_core = types.ExternalFunction(
    "SwitchToThread" if sys.platform == "win32" else "sched_yield", types.int32()
)
