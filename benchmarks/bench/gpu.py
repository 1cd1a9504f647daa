"""MusicGen-small's shape on a CUDA GPU, ours and transformers taking turns."""

import copy
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import torch

from bench import ours, transformers_peer
from bench.floor import step_bytes
from bench.shapes import TEXT_LENGTH, random_lm
from bench.timing import Candidate, summary, take_turns
from musicgen_rl.config import LMConfig
from musicgen_rl.pipeline.runners import RunnerPool, prepare_model

FRAME_RATE = 50


def measure_gpu(
    config: LMConfig,
    *,
    clips: Sequence[int] = (1, 4, 16, 64),
    context: int = 250,
    rounds: int = 7,
    steps: int = 20,
    device: str = "cuda",
    dtype: str = "bf16",
) -> dict[str, Any]:
    """Time one step with guidance 3, several clips side by side.

    Ours is the whole loop (runner, guidance, sampling, delay); transformers' is `generate` from an
    empty context for one clip, and its forward pass alone, which is its best case, for all.

    Args:
        config: shape of the model.
        clips: counts of clips.
        context: frames before the middle of what is timed.
        rounds: turns of each that count.
        steps: of one turn.
        device: "cpu" runs the same code where there is no GPU, to try it.
        dtype: of weights, as `RunnerPool` takes it.

    Returns:
        `rows`, `rates` and `notes`; without a GPU no rows and a note.
    """
    if device == "cuda" and not torch.cuda.is_available():
        return {"rows": [], "rates": {}, "notes": ["skipped: torch sees no CUDA GPU here"]}
    where, turns = torch.device(device), rounds + 1
    precision = {"bf16": torch.bfloat16, "fp32": torch.float32}[dtype]
    source = random_lm(config)
    theirs = transformers_peer.same_model(source, precision, device)
    pool = RunnerPool(prepare_model(copy.deepcopy(source), where, dtype), where, dtype)
    block = torch.ones(64_000_000, device=where)
    rows: list[dict[str, Any]] = []
    bandwidth = 0.0
    for count in clips:
        with ExitStack() as stack:
            mine = stack.enter_context(
                ours.as_used(
                    f"ours, as used, {dtype}, {count} clips, guidance", pool, config, clips=count,
                    guidance_scale=3.0, context=context, steps=steps, turns=turns,
                )
            )  # fmt: skip
            others = [
                transformers_peer.forward(
                    f"transformers, forward alone, {dtype}, {count} clips, guidance", theirs,
                    source, rows=2 * count, context=context, steps=steps, turns=turns,
                )
            ]  # fmt: skip
            if count == 1:
                name = f"transformers, generate, {dtype}, guidance"
                others.append(
                    transformers_peer.generate(name, theirs, clips=1, steps=max(steps, 8))
                )
            read = Candidate("read", lambda _: block.sum().item())
            times = take_turns([mine, *others, read], rounds)
        bandwidth = max(bandwidth, block.nbytes / min(times["read"]))
        width = precision.itemsize
        moved = step_bytes(config, 2 * count, context, TEXT_LENGTH, width, width)
        for candidate in (mine, *others):
            row = {"name": candidate.name, "clips": count, "guidance": True, "dtype": dtype,
                   "by": "ours" if candidate is mine else "transformers"}  # fmt: skip
            row |= summary(times[candidate.name])
            row |= {"floor_ms": moved / bandwidth * 1e3, "bound": "memory", "context": context}
            row["frames_per_s"] = count * 1e3 / row["min_ms"]
            row["times_real_time"] = row["frames_per_s"] / FRAME_RATE
            row["times_floor"] = row["min_ms"] / row["floor_ms"]
            rows.append(row)
    name = torch.cuda.get_device_name() if device == "cuda" else device
    return {"rows": rows, "rates": {"read_gb_s": bandwidth / 1e9}, "notes": [f"on {name}"]}
