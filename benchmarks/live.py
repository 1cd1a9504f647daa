"""What a jam does with its cache when the dial moves: keep it, or compute it again?

    python benchmarks/live.py

A jam plays at 0 and is moved. For what follows the move three next frames are compared on one and
the same past: as the kept cache says it, as the new weights say it with everything computed again,
and as the old weights would have said it. Beside it, the time until the next frame is decided. Both
policies are the jam's own. Written to benchmarks/results/live.md and .json; half a minute.
"""

import argparse
import json
import os
import statistics
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from musicgen_rl.evaluation.summary import describe_machine
from musicgen_rl.lm.delay import shift_right
from musicgen_rl.pipeline import Pipeline
from musicgen_rl.pipeline.dial import sampling_at
from musicgen_rl.pipeline.jam import Jam
from musicgen_rl.pipeline.moves import Move

RESULTS = Path(__file__).parent / "results"
PROMPTS = ("slow sad piano", "fast funk with brass", "calm ambient pad with kalimba",
           "aggressive metal, 160 bpm")  # fmt: skip
TARGETS = (0.5, 1.0)
PLAYED_S = (2.0, 8.0, 16.0)
AFTER_S = (0.04, 1.0, 3.0)


def begin(pipeline: Pipeline, prompt: str, policy: str, played_s: float, seed: int) -> Jam:
    """Play a jam at 0 for so long."""
    own = sampling_at(pipeline.info, 0.0)  # as on the page: one row, no guidance
    first = Move(frame=0, prompt=prompt, sampling=own, diversity=0.0)
    jam = Jam(pipeline, first, seed, policy=policy)
    jam.advance(round(played_s * pipeline.info.frame_rate))
    return jam


def next_frame_ms(jam: Jam, target: float) -> tuple[float, float]:
    """Move a jam: milliseconds until the weights stand, and from there to the next frame."""
    began = time.perf_counter()
    jam.change(diversity=target)
    moved = time.perf_counter()
    jam.advance(1)
    return 1000 * (moved - began), 1000 * (time.perf_counter() - moved)


def computed_again(jam: Jam, prompt: str, lam: float) -> Tensor:
    """Compute the logits of the next column from the whole past, with the weights at lam."""
    jam.pipeline.move(lam)
    stream = jam._stream
    stream.change(condition=jam.pipeline.condition([prompt]))
    stream._start_runner()
    assert stream._runner is not None
    past = stream._grid[..., : stream._decided + 1]
    return stream._runner.prefill(shift_right(past, stream.config.pad_token)).float().clone()


def distance(told: Tensor, other: Tensor) -> float:
    """Measure the KL divergence of `other` from `told`, nats a codebook."""
    p, q = told.log_softmax(-1), other.log_softmax(-1)
    return float((p.exp() * (p - q)).sum(-1).mean())


def middle(pairs: list[tuple[float, float]], which: int) -> float:
    """Take the median of the first or second of pairs."""
    return statistics.median(pair[which] for pair in pairs)


def measure(pipeline: Pipeline) -> list[dict[str, float]]:
    """Measure each way to move, mean or median over the prompts."""
    rate, rows = pipeline.info.frame_rate, []
    for target in TARGETS:
        for played_s in PLAYED_S:
            times: dict[str, list[tuple[float, float]]] = {"keep": [], "recompute": []}
            apart: dict[float, list[tuple[float, float]]] = {s: [] for s in AFTER_S}
            for seed, prompt in enumerate(PROMPTS):
                for policy, found in times.items():
                    jam = begin(pipeline, prompt, policy, played_s, seed)
                    found.append(next_frame_ms(jam, target))
                    jam.close()
                for after_s, found in apart.items():
                    jam = begin(pipeline, prompt, "keep", played_s, seed)
                    jam.change(diversity=target)
                    jam.advance(round(after_s * rate))
                    assert jam._stream._logits is not None
                    kept = jam._stream._logits.float().clone()
                    new, old = (computed_again(jam, prompt, lam) for lam in (target, 0.0))
                    found.append((distance(new, kept), distance(new, old)))
                    jam.close()
            row = {
                "target": target, "played_s": played_s, "weights_ms": middle(times["keep"], 0),
                "keep_ms": middle(times["keep"], 1),
                "recompute_ms": middle(times["recompute"], 1),
            }  # fmt: skip
            for after_s, found in apart.items():
                row[f"kept_kl_{after_s:g}"] = statistics.fmean(one[0] for one in found)
                row[f"old_kl_{after_s:g}"] = statistics.fmean(one[1] for one in found)
            rows.append(row)
    return rows


def page(result: dict) -> str:
    """Write the results as markdown."""
    machine, rows = result["machine"], result["rows"]
    lines = [
        "# A jam's cache when the dial moves", "",
        f"`{result['command']}`, {result['date']}, {machine['processor']}, {machine['cores']} "
        f"cores, load {result['load']}, {result['model']} in {result['dtype']}.", "",
        f"A jam plays at 0 and is moved; {len(PROMPTS)} prompts. Kept: keys, values and text "
        "states of the old weights stay. Computed again: text and window by the new weights. "
        "Milliseconds (median) are until the weights stand, and from there to the next frame.", "",
        "| to | after, s | weights, ms | kept: next frame, ms | computed again, ms |",
        "|---|---|---|---|---|",
    ]  # fmt: skip
    lines += [
        f"| {r['target']:g} | {r['played_s']:g} | {r['weights_ms']:.0f} | {r['keep_ms']:.0f} | "
        f"{r['recompute_ms']:.0f} |"
        for r in rows
    ]
    lines += [
        "",
        "How far the next frame is from what the new weights say of the same past, KL in nats a "
        "codebook (mean), so long after the move: with the cache kept, and, in brackets, of the "
        "old weights, which is the whole move. Kept over old is the part of the move that is not "
        "heard.", "",
        "| to | after, s | " + " | ".join(f"{s:g} s later" for s in AFTER_S) + " |",
        "|---|---|" + "---|" * len(AFTER_S),
    ]  # fmt: skip
    for r in rows:
        cells = [
            f"{r[f'kept_kl_{s:g}']:.4f} ({r[f'old_kl_{s:g}']:.4f}), "
            f"{r[f'kept_kl_{s:g}'] / r[f'old_kl_{s:g}']:.0%}"
            for s in AFTER_S
        ]
        lines.append(f"| {r['target']:g} | {r['played_s']:g} | {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="pocket")
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    pipeline = Pipeline.load(options.model)
    warm = begin(pipeline, PROMPTS[0], "recompute", 1.0, 0)
    next_frame_ms(warm, 0.5)  # what is loaded and linked once is no part of a move
    warm.close()
    result = {
        "command": "python " + " ".join(sys.argv),
        "date": str(datetime.now(UTC).date()),
        "machine": describe_machine(),
        "load": round(os.getloadavg()[0], 1),
        "model": pipeline.info.name,
        "dtype": str(pipeline.dtype),
        "rows": measure(pipeline),
    }
    options.results.mkdir(parents=True, exist_ok=True)
    (options.results / "live.json").write_text(json.dumps(result, indent=1) + "\n")
    (options.results / "live.md").write_text(page(result))
    print(page(result))


if __name__ == "__main__":
    main()
