"""The least time a step can take: bytes that must move, operations that must be done."""

from dataclasses import dataclass

import torch

from bench.quantize import Int8Linear, int8_available
from bench.timing import Candidate
from musicgen_rl.config import LMConfig

GEMM_SIZE = 768
WIDTHS = {"fp32": 4, "bf16": 2, "int8": 1}
"""Bytes of one weight."""


@dataclass(frozen=True)
class Rates:
    """What this machine does in the same rounds, on the cores that are in use."""

    read: dict[str, float]
    """Bytes a second read from a block as large as the weights of each dtype."""
    operations: dict[str, float]
    """Multiplications and additions a second, of each dtype."""


def step_weights(config: LMConfig) -> int:
    """Count the weights that every step multiplies with; the text's keys are made once a clip."""
    D, K, V = config.hidden_size, config.num_codebooks, config.codebook_size
    return config.num_layers * (6 * D * D + 2 * D * config.ffn_size) + K * V * D


def step_bytes(
    config: LMConfig, rows: int, context: int, text: int, weight_width: int, cache_width: int
) -> int:
    """Count the bytes one step must read: weights, the rows' keys and values, the text's too."""
    remembered = 2 * config.num_layers * config.hidden_size * (context + text)
    return step_weights(config) * weight_width + rows * remembered * cache_width


def step_operations(config: LMConfig, rows: int, context: int, text: int) -> int:
    """Count the multiplications and additions of one step."""
    attention = 4 * config.num_layers * config.hidden_size * (context + text)
    return rows * (2 * step_weights(config) + attention)


def floor(
    config: LMConfig,
    rates: Rates,
    *,
    rows: int,
    context: int,
    text: int,
    dtype: str,
    cache_width: int,
) -> dict[str, float | str]:
    """Give the floor of one step in ms and what sets it.

    Moving and computing can overlap, so the longer of the two is the floor.
    """
    moved = step_bytes(config, rows, context, text, WIDTHS[dtype], cache_width)
    done = step_operations(config, rows, context, text)
    reading = moved / rates.read[dtype] * 1e3
    computing = done / rates.operations.get(dtype, rates.operations["fp32"]) * 1e3
    bound = "memory" if reading >= computing else "arithmetic"
    return {"floor_ms": max(reading, computing), "bound": bound, "bytes": moved, "operations": done}


def rate_candidates(config: LMConfig, steps: int = 1) -> list[Candidate]:
    """Make what measures `Rates`, to be timed beside the candidates.

    Args:
        config: shape of the model, whose weights a block is as large as.
        steps: readings a turn, as many as a candidate has steps: what the others left in the cache
            costs the first of them and not the rest.
    """
    candidates = []
    for dtype, width in WIDTHS.items():
        block = torch.ones(step_weights(config) * width // 4)
        candidates.append(Candidate(f"read {dtype}", _repeat(block.sum), steps))
    block = torch.ones(step_weights(config))
    target = torch.empty_like(block)
    candidates.append(Candidate("copy", _repeat(lambda: target.copy_(block)), steps))
    x = torch.randn(GEMM_SIZE, GEMM_SIZE)
    candidates.append(Candidate("multiply fp32", _repeat(lambda: torch.mm(x, x))))
    if int8_available():
        linear = Int8Linear(torch.randn(GEMM_SIZE, GEMM_SIZE))
        candidates.append(Candidate("multiply int8", _repeat(lambda: linear(x))))
    return candidates


def rates_from(config: LMConfig, times: dict[str, list[float]]) -> tuple[Rates, dict[str, float]]:
    """Turn the best turns of `rate_candidates` into rates, and into numbers for the report.

    Returns:
        Rates; GB/s and GFLOP/s (int8: Gop/s) by name.
    """
    best = {name: min(seconds) for name, seconds in times.items()}
    weights = step_weights(config)
    read = {dtype: weights * width / best[f"read {dtype}"] for dtype, width in WIDTHS.items()}
    operations = {
        dtype: 2 * GEMM_SIZE**3 / best[f"multiply {dtype}"]
        for dtype in ("fp32", "int8")
        if f"multiply {dtype}" in best
    }
    told = {f"read_{dtype}_gb_s": rate / 1e9 for dtype, rate in read.items()}
    told["copy_gb_s"] = 2 * 4 * weights / best["copy"] / 1e9  # read and written
    told |= {f"multiply_{dtype}_gop_s": rate / 1e9 for dtype, rate in operations.items()}
    return Rates(read, operations), told


def _repeat(once: object) -> object:
    def run(steps: int) -> None:
        for _ in range(steps):
            once()  # type: ignore[operator]

    return run
