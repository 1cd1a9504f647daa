"""What guidance costs: clips a second with one row a clip and with two, in this very model."""

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from musicgen_rl.pipeline import Pipeline
from musicgen_rl.pipeline.dial import sampling_at
from musicgen_rl.pipeline.request import GenerationConfig

BATCHES = (1, 32)
_REPEATS = 3


def measure_throughput(
    pipeline: Pipeline,
    prompts: Sequence[str],
    *,
    duration_s: float = 4.0,
    guidance_scale: float = 3.0,
    batches: Sequence[int] = BATCHES,
) -> list[dict[str, Any]]:
    """Time the same clips without guidance and with it, in turns, best of three each.

    Args:
        pipeline: the model.
        prompts: texts to play.
        duration_s: of each clip.
        guidance_scale: of the guided ones.
        batches: clips side by side.

    Returns:
        One row a batch: seconds, audio seconds a second, and how many times more clips one row
        makes. Text and codec are part of the time, as they are for a user.
    """
    rows: list[dict[str, Any]] = []
    for batch in batches:
        texts = [prompts[i % len(prompts)] for i in range(batch)]
        request = GenerationConfig(duration_s=duration_s, seed=1, max_batch=batch)
        plain = sampling_at(pipeline.info, None, guidance_scale=1.0, temperature=1.0)
        guided = replace(plain, guidance_scale=guidance_scale)
        best = {1: float("inf"), 2: float("inf")}
        for _ in range(_REPEATS):
            for rows_a_clip, sampling in ((1, plain), (2, guided)):
                start = time.perf_counter()
                pipeline.run(texts, request, sampling)
                best[rows_a_clip] = min(best[rows_a_clip], time.perf_counter() - start)
        rows.append(
            {
                "clips": batch,
                "one_row_s": best[1],
                "two_rows_s": best[2],
                "one_row_audio_s_per_s": batch * duration_s / best[1],
                "two_rows_audio_s_per_s": batch * duration_s / best[2],
                "ratio": best[2] / best[1],
            }
        )
    return rows
