"""What a jam does with its cache when the weights move: keep it, or compute it again?

    python benchmarks/live.py

For each move: the time until the next frame can be decided, and how far the next frame's
distribution is from the one that a fresh computation with the new weights gives (KL divergence over
the codebooks). Written to benchmarks/results/live.md.
"""

import argparse
import statistics
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from musicgen_rl.evaluation.summary import describe_machine
from musicgen_rl.pipeline import Pipeline
from musicgen_rl.pipeline.jam import Jam
from musicgen_rl.pipeline.moves import Move

RESULTS = Path(__file__).parent / "results"


def logits_after(pipeline: Pipeline, policy: str, played_s: float, target: float) -> tuple:
    """Play at 0 and move: the logits two steps on, and milliseconds of the move and the frame."""
    first = Move(frame=0, prompt="slow sad piano", sampling=pipeline.info.sampling, diversity=0.0)
    jam = Jam(pipeline, first, 7, policy=policy)
    try:
        jam.advance(round(played_s * pipeline.info.frame_rate))
        began = time.perf_counter()
        jam.change(diversity=target)
        moved = time.perf_counter()
        jam._stream.advance(1)
        done = time.perf_counter()
        return jam._stream._logits.float().clone(), 1000 * (moved - began), 1000 * (done - moved)
    finally:
        jam.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="pocket")
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    pipeline = Pipeline.load(options.model)
    pipeline.move(0.5)
    rows = []
    for target in (0.25, 0.5, 1.0):
        for played_s in (2.0, 8.0):
            fresh, _, _ = logits_after(pipeline, "recompute", played_s, target)
            kept, move_ms, keep_ms = logits_after(pipeline, "keep", played_s, target)
            times = [logits_after(pipeline, "recompute", played_s, target)[1:] for _ in range(3)]
            p, q = (x.log_softmax(-1) for x in (fresh, kept))
            kl = (p.exp() * (p - q)).sum(-1).mean().item()
            old, _, _ = logits_after(pipeline, "keep", played_s, 0.0)
            stale = (p.exp() * (p - old.log_softmax(-1))).sum(-1).mean().item()
            rows.append(
                f"| {target:g} | {played_s:g} | {move_ms:.0f} | {keep_ms:.0f} | "
                f"{statistics.median(t[1] for t in times):.0f} | {kl:.4f} | {stale:.4f} |"
            )
    machine = describe_machine()
    text = "\n".join(
        [
            "# A jam's cache when the dial moves", "",
            f"`python {' '.join(sys.argv)}`, {datetime.now(UTC).date()}, {machine['processor']}, "
            f"{machine['cores']} cores, {pipeline.info.name} in {pipeline.dtype}.", "",
            "A jam plays at 0 and is moved. Kept: keys, values and text states of the old weights "
            "stay. Computed again: text and window by the new weights. KL: of the next frame's "
            "distribution from the one computed again, nats a codebook; the last column is what "
            "the whole move changes.", "",
            "| to | after, s | weights, ms | kept: next frame, ms | computed again, ms | "
            "KL of kept | KL of not moving |",
            "|---|---|---|---|---|---|---|", *rows, "",
        ]
    )  # fmt: skip
    options.results.mkdir(parents=True, exist_ok=True)
    (options.results / "live.md").write_text(text)
    print(text)


if __name__ == "__main__":
    torch.manual_seed(0)
    main()
