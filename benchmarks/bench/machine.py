"""What the numbers were measured on: processor, memory, versions."""

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

_TELLING_FLAGS = ("avx2", "fma", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8",
                  "amx_bf16", "asimd", "bf16", "i8mm")  # fmt: skip
_PACKAGES = ("torch", "transformers", "numpy", "numba", "openvino", "nncf")


def cpu_flags() -> set[str]:
    """Read the processor's instruction sets; empty where the system does not say."""
    for line in _cpuinfo():
        name, _, value = line.partition(":")
        if name.strip() in ("flags", "Features"):
            return set(value.split())
    return set()


def has_bf16() -> bool:
    """Tell whether the processor multiplies in bf16; without it bf16 is far slower than fp32."""
    return bool(cpu_flags() & {"avx512_bf16", "amx_bf16", "bf16"})


def describe_machine() -> dict[str, Any]:
    """Describe processor and memory, JSON-able."""
    model = next((v for n, v in map(_pair, _cpuinfo()) if n == "model name"), platform.processor())
    flags = cpu_flags()
    return {
        "cpu": model or platform.machine(),
        "cores": os.cpu_count(),
        "flags": [flag for flag in _TELLING_FLAGS if flag in flags],
        "l3_cache": _l3_cache(),
        "memory_gb": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9, 1),
        "system": f"{platform.system()} {platform.release()}",
        "load_before": list(os.getloadavg()),
    }


def describe_versions() -> dict[str, str | None]:
    """Name the versions of what is measured; None where a peer is not installed."""
    found: dict[str, str | None] = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = None
    return found


def commit(root: Path) -> str:
    """Name the commit of a working tree, with a plus where it has changes."""
    try:
        said = subprocess.run(
            ["git", "describe", "--always", "--dirty=+", "--abbrev=10"],
            cwd=root, capture_output=True, text=True, check=True,
        )  # fmt: skip
        return said.stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def use_cores(count: int) -> int:
    """Confine this process to `count` cores (Linux), torch too; return how many there are."""
    if hasattr(os, "sched_setaffinity"):
        allowed = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, allowed[:count])
        count = min(count, len(allowed))
    import torch

    torch.set_num_threads(count)
    return count


def _cpuinfo() -> list[str]:
    try:
        return Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return []


def _pair(line: str) -> tuple[str, str]:
    name, _, value = line.partition(":")
    return name.strip(), value.strip()


def _l3_cache() -> str | None:
    try:
        return Path("/sys/devices/system/cpu/cpu0/cache/index3/size").read_text().strip()
    except OSError:
        return None
