"""Operations that numba's Python lacks, written as LLVM instructions.

LLVM turns its vectors into whatever the processor has: AVX2 or AVX-512 with or without VNNI, or
ARM's NEON. A product of 8- and 16-bit integers summed in pairs to 32 bits is one instruction on
every x86 processor and two on ARM.
"""

import sys
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from musicgen_rl.lm.compiled_layout import AHEAD, KEYS

_intrinsic: Callable[[Any], Any] = intrinsic
_I8, _I32, _I64 = (ir.IntType(bits) for bits in (8, 32, 64))


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

    @_intrinsic
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
                for pointer in ws:
                    _emit_prefetch(b, b.gep(pointer, [b.add(k, _I64(ahead))]))
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
dot_one = _dot_tile(1, 1, unroll=4, ahead=4096)
dot_many = _dot_tile(4, 2, unroll=1, ahead=4096)
dot_keys = _dot_tile(KEYS, 1, unroll=1, ahead=0)


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


@_intrinsic
def mix(
    typing: Any, share: Any, values: Any, at: Any, stride: Any, count: Any, out: Any, out_at: Any
) -> Any:
    """Write the sum of share[t] * values[at + t * stride : ... + 32] over t to out[out_at:].

    `values` are integers, `share` and `out` float32; the sums stay in registers.
    """
    signature = types.void(share, values, at, stride, count, out, out_at)

    def codegen(context: Any, b: Any, signature: Any, args: Any) -> Any:
        def data(which: int) -> Any:
            return context.make_array(signature.args[which])(context, b, args[which]).data

        eight = ir.VectorType(ir.FloatType(), 8)
        shares, target = data(0), b.gep(data(5), [args[6]])
        first = b.gep(data(1), [args[2]])
        numbers = ir.VectorType(first.type.pointee, 8)
        before = b.block
        head, body, done = (b.append_basic_block(n) for n in ("head", "body", "done"))
        b.branch(head)
        b.position_at_end(head)
        t = b.phi(_I64)
        t.add_incoming(_I64(0), before)
        sums = [b.phi(eight) for _ in range(4)]
        for total in sums:
            total.add_incoming(ir.Constant(eight, [0.0] * 8), before)
        b.cbranch(b.icmp_signed("<", t, args[4]), body, done)

        b.position_at_end(body)
        weight = b.load(b.gep(shares, [t]))
        weight = b.insert_element(ir.Constant(eight, ir.Undefined), weight, _I32(0))
        zeros = ir.Constant(ir.VectorType(_I32, 8), [0] * 8)
        weight = b.shuffle_vector(weight, ir.Constant(eight, ir.Undefined), zeros)
        vector = b.gep(first, [b.mul(t, args[3])])
        _emit_prefetch(b, b.gep(first, [b.mul(b.add(t, _I64(AHEAD)), args[3])]))
        for i, total in enumerate(sums):
            part = b.load(b.bitcast(b.gep(vector, [_I64(8 * i)]), numbers.as_pointer()))
            part.align = 1
            product = b.fmul(b.sitofp(part, eight), weight, flags=("contract",))
            total.add_incoming(b.fadd(total, product, flags=("contract",)), body)
        t.add_incoming(b.add(t, _I64(1)), body)
        b.branch(head)

        b.position_at_end(done)
        for i, total in enumerate(sums):
            place = b.bitcast(b.gep(target, [_I64(8 * i)]), eight.as_pointer())
            b.store(total, place).align = 4
        return context.get_dummy_value()

    return signature, codegen


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
