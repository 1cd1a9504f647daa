"""Native functions on disk: compiled once by numba, from then on called without it.

Importing numba and handing it two dozen arrays at every call cost more than all the rest of loading
a small model, and a twentieth of its decoding step. So what numba compiles is kept as an object
file, which llvmlite links into the process by itself, and a function takes two numbers: that of its
thread, and the address of a block that says where its arrays lie (`Block`).
"""

import contextlib
import ctypes
import hashlib
import importlib
import os
import sys
import threading
from collections.abc import Callable
from functools import cache
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from musicgen_rl.lm.compiled_layout import BLOCK_WORDS

NativeFunction = Callable[[int, int], None]
"""Takes the number of a thread and the address of a block; runs without Python's lock."""
_SIGNATURE = "void(i8, i8)"
_lock = threading.Lock()
_engines: list[Any] = []  # own the memory of what was linked


class Block:
    """Where the arrays of a call lie and how large they are, for `view` in native code.

    Args:
        arrays: each in C order; kept alive by this object, read anew at every call.
    """

    def __init__(self, *arrays: NDArray[Any]) -> None:
        self._arrays = arrays
        self._words = np.zeros((len(arrays), BLOCK_WORDS), np.int64)
        for words, array in zip(self._words, arrays, strict=True):
            if not array.flags.c_contiguous:
                raise ValueError("native code takes arrays in C order")
            words[0] = array.ctypes.data
            words[1 : 1 + array.ndim] = array.shape
        self.address = int(self._words.ctypes.data)


@cache
def native_function(module: str, name: str) -> NativeFunction:
    """Link a function into this process, compiled before or now.

    Args:
        module: where it is; imported only to compile.
        name: takes (thread, block), both int64.
    """
    with _lock:
        for file in _files(module, name):
            linked = _read(file)
            if linked is not None:
                return linked
        symbol, code = _compile(module, name)
        for file in _files(module, name):
            if _write(file, symbol, code):
                break
        return _link(symbol, code)


def _compile(module: str, name: str) -> tuple[str, bytes]:
    """Compile a function; give the name it has in the object file, and the file."""
    from numba import njit

    from musicgen_rl.lm.compiled_vectors import OPTIONS

    function = getattr(importlib.import_module(module), name)
    compiled = njit(_SIGNATURE, no_cpython_wrapper=True, **OPTIONS)(function)
    (result,) = compiled.overloads.values()
    return result.fndesc.llvm_func_name, result.library._get_compiled_object()


def _link(symbol: str, code: bytes) -> NativeFunction:
    from llvmlite import binding

    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    machine = binding.Target.from_default_triple().create_target_machine()
    engine = binding.create_mcjit_compiler(binding.parse_assembly(""), machine)
    engine.add_object_file(binding.ObjectFileRef.from_data(code))
    engine.finalize_object()
    _engines.append(engine)
    prototype = ctypes.CFUNCTYPE(
        ctypes.c_int32, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64
    )
    native = prototype(engine.get_function_address(symbol))
    room = (ctypes.c_int64 * 2)()  # for a result and an exception; there are none
    result, exception = ctypes.addressof(room), ctypes.addressof(room) + 8

    def call(thread: int, block: int, _keep: Any = room) -> None:
        native(result, exception, thread, block)

    return call


def _read(file: Path) -> NativeFunction | None:
    """Link what a file holds; None where there is none or it is damaged."""
    try:
        digest, symbol, code = file.read_bytes().split(b"\n", 2)
    except (OSError, ValueError):
        return None
    if hashlib.sha256(symbol + code).hexdigest().encode() != digest:
        return None
    return _link(symbol.decode(), code)


def _write(file: Path, symbol: str, code: bytes) -> bool:
    """Keep an object file; tell whether that was possible."""
    digest = hashlib.sha256(symbol.encode() + code).hexdigest()
    temporary = file.with_name(f"{file.name}.{os.getpid()}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(f"{digest}\n{symbol}\n".encode() + code)
        os.replace(temporary, file)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink()
        return False
    return True


def _files(module: str, name: str) -> list[Path]:
    """List where an object file may be, the likeliest first."""
    file = f"{name}-{_digest(module)}.o"
    chosen = os.environ.get("NUMBA_CACHE_DIR")
    if chosen:
        return [Path(chosen) / file]
    if sys.platform == "win32":
        user = Path(os.environ.get("LOCALAPPDATA", Path.home()))
    elif sys.platform == "darwin":
        user = Path.home() / "Library" / "Caches"
    else:
        user = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return [Path(__file__).with_name("__pycache__") / file, user / "musicgen-rl" / file]


@cache
def _digest(module: str) -> str:
    """Tell apart all that an object file depends on: sources, compiler, processor."""
    from llvmlite import binding

    spec = find_spec(module)
    assert spec is not None
    assert spec.origin is not None
    sources = {*Path(__file__).parent.glob("compiled_*.py"), Path(spec.origin)}
    about = [
        metadata.version("numba"), metadata.version("llvmlite"), binding.get_default_triple(),
        binding.get_host_cpu_name(), binding.get_host_cpu_features().flatten(),
    ]  # fmt: skip
    parts = [path.read_bytes() for path in sorted(sources)]
    return hashlib.sha256(b"\0".join([*parts, *(a.encode() for a in about)])).hexdigest()[:16]
