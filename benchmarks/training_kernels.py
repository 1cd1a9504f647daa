"""Training's own attention, cross-entropy and dropout beside torch's: there and back, in turns.

    python benchmarks/training_kernels.py [--rounds 10] [--cores 1] [--cpu-time] [--out FOLDER]

Shapes are those of pocket's language model: crops of 20 s and of 2 s, over their own steps and over
a caption. Results go to benchmarks/results/training_kernels.json and .md.
"""

import argparse
import datetime
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from bench.machine import commit, describe_machine, describe_versions, use_cores
from bench.timing import Candidate, summary, take_turns
from torch import Tensor

from musicgen_rl.lm.attention import attention
from musicgen_rl.lm.dropout import Dropout
from musicgen_rl.storage import write_json
from musicgen_rl.training.cross_entropy import cross_entropy

ROOT = Path(__file__).resolve().parents[1]
HEADS, HEAD = 6, 64
SHAPES = {
    "own steps, 4 crops of 507": (4, 507, 507),
    "own steps, 40 crops of 57": (40, 57, 57),
    "caption, 4 crops of 507": (4, 507, 20),
    "caption, 40 crops of 57": (40, 57, 20),
}
"""Name -> rows B, queries S, keys L; the same S and L are causal."""
CODES, VOCABULARY = 16_000, 1024
OURS, TORCH = "ours", "torch's"


def both_ways(forward: Callable[..., Tensor], *inputs: Tensor) -> Callable[[int], None]:
    """Make steps of one forward and one backward pass."""

    def run(steps: int) -> None:
        for _ in range(steps):
            for tensor in inputs:
                tensor.grad = None
            forward(*inputs).sum().backward()

    return run


def attention_candidates(rows: int, queries: int, keys: int) -> list[Candidate]:
    """Both attentions of one shape; a caption's comes with its padding mask."""
    generator = torch.Generator().manual_seed(0)

    def leaf(length: int) -> Tensor:
        shape = (rows, HEADS, length, HEAD)
        return torch.randn(shape, generator=generator).requires_grad_()

    q, k, v = leaf(queries), leaf(keys), leaf(keys)
    causal = queries == keys
    mask = None if causal else torch.arange(keys) < torch.full((rows, 1, 1, 1), keys - 2)

    def ours(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return attention(q, k, v, mask=mask, causal=causal)

    def theirs(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal)

    torch.testing.assert_close(ours(q, k, v), theirs(q, k, v))
    return [Candidate(OURS, both_ways(ours, q, k, v)), Candidate(TORCH, both_ways(theirs, q, k, v))]


def cross_entropy_candidates(codes: int, dtype: torch.dtype) -> list[Candidate]:
    """Both cross-entropies of a micro-batch's logits."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(codes, VOCABULARY, generator=generator).to(dtype).requires_grad_()
    targets = torch.randint(VOCABULARY, (codes,), generator=generator)
    targets[::50] = VOCABULARY

    def ours(logits: Tensor) -> Tensor:
        return cross_entropy(logits, targets, VOCABULARY)

    def theirs(logits: Tensor) -> Tensor:
        return F.cross_entropy(logits.float(), targets, ignore_index=VOCABULARY, reduction="none")

    torch.testing.assert_close(ours(logits), theirs(logits))
    return [Candidate(OURS, both_ways(ours, logits)), Candidate(TORCH, both_ways(theirs, logits))]


def dropout_candidates(rows: int, steps: int, dtype: torch.dtype) -> list[Candidate]:
    """Both dropouts of a fifth of a stream."""
    stream = torch.randn(rows, steps, HEADS * HEAD, dtype=dtype).requires_grad_()
    ours, theirs = Dropout(0.2), torch.nn.Dropout(0.2)
    return [Candidate(OURS, both_ways(ours, stream)), Candidate(TORCH, both_ways(theirs, stream))]


def measure(candidates: list[Candidate], rounds: int, clock: Callable[[], float]) -> dict[str, Any]:
    """Time both; the ratio is of medians."""
    times = take_turns(candidates, rounds, clock=clock)
    found: dict[str, Any] = {name: summary(seconds) for name, seconds in times.items()}
    found["ratio"] = statistics.median(times[TORCH]) / statistics.median(times[OURS])
    return found


def markdown(result: dict[str, Any]) -> str:
    """Write the table."""
    lines = [
        "# Training's own kernels", "",
        f"`{result['command']}`, {result['date']}, commit {result['commit']}, "
        f"{result['cores']} core, milliseconds of {result['clock']} there and back, medians.", "",
        "| what | ours | torch's | torch's : ours |", "|---|---|---|---|",
    ]  # fmt: skip
    for name, row in result["rows"].items():
        ours, theirs = (row[key]["median_ms"] for key in (OURS, TORCH))
        lines.append(f"| {name} | {ours:.1f} | {theirs:.1f} | {row['ratio']:.1f} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Time all shapes, and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--cores", type=int, default=1)
    parser.add_argument("--codes", type=int, default=CODES, help="of the cross-entropy")
    parser.add_argument("--cpu-time", action="store_true", help="seconds of the process")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results")
    args = parser.parse_args()
    cores = use_cores(args.cores)
    torch.set_num_threads(cores)
    clock = time.process_time if args.cpu_time else time.perf_counter
    rows: dict[str, Any] = {}
    for name, shape in SHAPES.items():
        rows[f"attention, {name}"] = measure(attention_candidates(*shape), args.rounds, clock)
    for dtype in (torch.float32, torch.bfloat16):
        name = f"cross-entropy, {args.codes} codes of {VOCABULARY}, {str(dtype).split('.')[1]}"
        candidates = cross_entropy_candidates(args.codes, dtype)
        rows[name] = measure(candidates, args.rounds, clock)
        name = f"dropout, 4 crops of 507, {str(dtype).split('.')[1]}"
        rows[name] = measure(dropout_candidates(4, 507, dtype), args.rounds, clock)
    result = {
        "command": " ".join(["python", "benchmarks/training_kernels.py", *sys.argv[1:]]),
        "date": datetime.date.today().isoformat(), "commit": commit(ROOT), "cores": cores,
        "clock": "the process" if args.cpu_time else "the wall",
        "machine": describe_machine(), "versions": describe_versions(), "rows": rows,
    }  # fmt: skip
    write_json(args.out / "training_kernels.json", result)
    (args.out / "training_kernels.md").write_text(markdown(result), encoding="utf-8")
    print(markdown(result))


if __name__ == "__main__":
    main()
