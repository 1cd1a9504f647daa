"""Where and in which precision to run, and whether there is room."""

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from musicgen_rl.config import LMConfig
from musicgen_rl.errors import ConfigError, MemoryLimitError
from musicgen_rl.lm.compiled import int8_available

DTYPES = ("auto", "fp32", "bf16", "int8")
_NO_MEMORY = ("can't allocate memory", "not enough memory")
"""What torch says on a CPU: on Linux and macOS, and on Windows."""
_BYTES = {"fp32": 4.0, "bf16": 2.0, "int8": 1.0}


def choose_device(device: str) -> torch.device:
    """Choose where to run: "auto" is a CUDA GPU where there is one, else the CPU.

    Raises:
        ConfigError: no such device on this machine.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError:
        raise ConfigError(f"unknown device {device!r}: use auto, cpu or cuda") from None
    if chosen.type not in ("cpu", "cuda"):
        raise ConfigError(f"device {device!r} is not supported: use auto, cpu or cuda")
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"device {device!r} asked for, but torch sees no CUDA GPU: use cpu")
    if chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count():
        raise ConfigError(f"device {device!r} asked for, of {torch.cuda.device_count()} GPUs")
    return chosen


def choose_dtype(dtype: str, device: torch.device) -> str:
    """Choose the precision: "auto" is the fastest that is right on this device.

    That is bf16 on a GPU that multiplies it in hardware and int8 on x86 CPUs (a fraction of fp32's
    time, see benchmarks/results/decode.md). Elsewhere it is fp32: int8 should run on ARM too, but
    has not been tried there, so it must be asked for.

    Raises:
        ConfigError: unknown, or not to be had on this device.
    """
    if dtype not in DTYPES:
        raise ConfigError(f"unknown dtype {dtype!r}: use {', '.join(DTYPES)}")
    if device.type == "cuda":
        if dtype == "int8":
            raise ConfigError("dtype int8 is for CPUs: use bf16 or fp32 on a GPU")
        if dtype == "auto":
            return "bf16" if has_native_bf16(device) else "fp32"
        return dtype
    if dtype == "auto":
        x86 = platform.machine().lower() in ("x86_64", "amd64")
        return "int8" if x86 and int8_available() else "fp32"
    if dtype == "int8" and not int8_available():
        raise ConfigError("dtype int8 needs numba (`pip install numba`): use fp32 here")
    return dtype


def has_native_bf16(device: torch.device) -> bool:
    """Say whether a device multiplies bfloat16 in hardware (elsewhere it is 200 times slower)."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device)[0] >= 8
    flags = Path("/proc/cpuinfo")
    return flags.exists() and "avx512_bf16" in flags.read_text()


def available_bytes(device: torch.device) -> int | None:
    """Tell how much memory can still be had on a device; None where nobody says."""
    if device.type == "cuda":
        # What torch has taken from the driver and does not use at present, it uses first.
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + unused
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):
        return None


def load_bytes(lm: LMConfig, dtype: str) -> int:
    """Estimate the memory of a loaded LM, its peak while loading included."""
    D = lm.hidden_size
    per_layer = 8 * D * D + 2 * D * lm.ffn_size
    tables = 2 * lm.num_codebooks * lm.codebook_size * D
    count = lm.num_layers * per_layer + tables
    return int(count * (_BYTES[dtype] + 4.0))


def cache_bytes(lm: LMConfig, rows: int, steps: int, dtype: str, device: torch.device) -> int:
    """Estimate the memory of the decoding cache of `rows` sequences of `steps` steps."""
    width = 2 if device.type == "cuda" and dtype == "bf16" else 4
    return 2 * lm.num_layers * rows * steps * lm.hidden_size * width


def require_memory(
    needed: int, device: torch.device, what: str, way_out: str, given_back: int = 0
) -> None:
    """Refuse before the work what would not fit.

    Args:
        needed: bytes.
        device: where.
        what: is to be done, for the message.
        way_out: for the message.
        given_back: bytes that are taken now and will be free by then.

    Raises:
        MemoryLimitError: says how much is needed, how much there is, and the way out.
    """
    free = available_bytes(device)
    free = None if free is None else free + given_back
    if free is not None and needed > free:
        raise MemoryLimitError(
            f"{what} needs about {needed / 1e9:.1f} GB, {free / 1e9:.1f} GB are free: {way_out}"
        )


@contextmanager
def memory_errors_named(what: str, way_out: str) -> Iterator[None]:
    """Turn the several errors of no memory into ours."""
    try:
        yield
    except MemoryLimitError:
        raise
    except MemoryError as error:
        raise MemoryLimitError(f"not enough memory for {what}: {way_out}") from error
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise MemoryLimitError(f"not enough memory for {what}: {way_out}") from error


def is_out_of_memory(error: BaseException) -> bool:
    """Recognise torch's errors of no memory, on a GPU and on a CPU."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and any(text in str(error) for text in _NO_MEMORY)
    )
