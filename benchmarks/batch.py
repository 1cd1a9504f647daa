"""Measure a batch end to end: prompts to verified files, beside decoding alone and a plain loop.

    python benchmarks/batch.py [--model pocket] [--threads 2] [--workers 1] [--rounds 3]
        [--out FOLDER]

Things take turns in one process, so that a busy moment hits all of them:

- decoding alone: the loop that `benchmarks/decode.py` calls "as used", 16 clips side by side;
- decoding and codec: the same clips as samples in memory;
- the batch: `run_batch` of as many clips, twice over, from prompts to fsynced, recorded files;
- with `--workers N`, the same in N processes that share the threads, four batches each; the clock
  runs from the first batch of each, so that starting them and loading the models is left out;
- the plain loop: one prompt after another through transformers' `generate`, the same weights in
  float32, a text encoder and a codec too small to take time, no file written. It is only given the
  first seconds of each clip, where its cache is shortest.

Wall time says what a user waits for. Time on the processor says the same where other programs run,
and is what the share of decoding is judged by then.
"""

import argparse
import datetime
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from bench.machine import commit, describe_machine, describe_versions

from musicgen_rl.batch import Item, make_plan, run_batch
from musicgen_rl.batch.plan import CPU_BATCH, Plan
from musicgen_rl.checkpoint import load_lm
from musicgen_rl.pipeline import Pipeline
from musicgen_rl.pipeline.work import Batch
from musicgen_rl.sampling.decode import DecodeStream
from musicgen_rl.sampling.randomness import clip_seed

Run = Callable[[], "Turn"]
DECODE, SOUND = "decoding alone", "decoding and codec"
BATCH, PLAIN = "batch, prompts to files", "transformers, plain loop"
ROOT = Path(__file__).resolve().parents[1]
WORDS = ("slow", "fast", "sad", "bright"), ("piano", "strings", "drums", "guitar")
TARGET = 0.85
_PLAIN_S = 2.0


@dataclass(frozen=True)
class Turn:
    """What one turn of a candidate came to."""

    frames: int
    seconds: float
    processor_s: float | None


def main() -> None:
    """Measure and write."""
    options = _options()
    torch.set_num_threads(options.threads)
    pipeline = Pipeline.load(options.model)
    prompts = [f"{a} {b}" for a in WORDS[0] for b in WORDS[1]][: options.clips]
    name = options.model

    def plan_of(seeds: int) -> Plan:
        items = [
            Item(prompt=p, seed=s, duration_s=options.duration, guidance_scale=options.guidance,
                 model=name)
            for s in range(seeds) for p in prompts
        ]  # fmt: skip
        return make_plan(
            items, device=pipeline.device.type, dtype=pipeline.dtype, batch_size=len(prompts)
        )

    plan = plan_of(2)
    request = plan.clips[0].item.request()
    frames = pipeline.frames_of(request)

    def decode() -> int:
        decode_alone(pipeline, prompts, frames, plan.clips[0].sampling)
        return frames * len(prompts)

    def batch() -> int:
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            return run_batch(plan, folder, pipelines={name: pipeline}).frames

    def sound() -> int:
        rows = Batch(prompts, list(range(len(prompts))))
        for _ in pipeline.chunks(rows, request, plan.clips[0].sampling):
            pass
        return frames * len(prompts)

    candidates = {DECODE: timed(decode), SOUND: timed(sound), BATCH: timed(batch)}
    if options.workers > 1:
        candidates[f"batch in {options.workers} processes"] = processes(
            plan_of(4 * options.workers), options.workers, options.folder
        )
    if not options.without_transformers:
        candidates[PLAIN] = timed(plain_loop(pipeline, options.guidance))
    rows = measure(candidates, options.rounds)
    result = {
        "command": "python " + " ".join(sys.argv),
        "date": datetime.date.today().isoformat(),
        "commit": commit(ROOT),
        "machine": describe_machine(),
        "versions": describe_versions(),
        "model": pipeline.info.name,
        "dtype": pipeline.dtype,
        "threads": options.threads,
        "workers": options.workers,
        "clips_side_by_side": len(prompts),
        "duration_s": options.duration,
        "frame_rate": pipeline.info.frame_rate,
        "guidance_scale": options.guidance,
        "rows": rows,
    } | compare(rows)
    out = Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    (out / "batch.json").write_text(json.dumps(result, indent=1) + "\n")
    page = markdown(result)
    (out / "batch.md").write_text(page)
    print(page)


def decode_alone(pipeline: Pipeline, prompts: list[str], frames: int, sampling: Any) -> None:
    """Decode clips side by side: text states in, codes out, nothing else."""
    with pipeline.lease_runners() as make_runner:
        stream = DecodeStream(
            pipeline.info.lm, make_runner, pipeline.condition(prompts), sampling,
            seeds=[clip_seed(0, i) for i in range(len(prompts))], window=pipeline.info.window,
            num_frames=frames,
        )  # fmt: skip
        stream.advance(frames)


def plain_loop(pipeline: Pipeline, guidance_scale: float) -> Callable[[], int]:
    """Make what a script without this package would do: `generate`, prompt after prompt."""
    from bench import transformers_peer

    theirs = transformers_peer.same_model(load_lm(pipeline.info), torch.float32)
    whole = transformers_peer._with_tiny_surroundings(theirs)
    pad = theirs.config.vocab_size
    steps = round(_PLAIN_S * pipeline.info.frame_rate)

    @torch.inference_mode()
    def run() -> int:
        for _ in range(2):
            text = torch.randint(2, 30, (1, 8))
            whole.generate(
                input_ids=text, attention_mask=torch.ones_like(text), do_sample=True, top_k=250,
                guidance_scale=guidance_scale, max_new_tokens=steps, decoder_start_token_id=pad,
                pad_token_id=pad, bos_token_id=pad,
            )  # fmt: skip
        return 2 * steps

    return run


def timed(run: Callable[[], int]) -> Run:
    """Time what runs in this process and says how many frames it made."""

    def turn() -> Turn:
        start, used = time.perf_counter(), time.process_time()
        frames = run()
        return Turn(frames, time.perf_counter() - start, time.process_time() - used)

    return turn


def processes(plan: Plan, workers: int, parent: str | None) -> Run:
    """Time the batch in processes of its own, from when each has made its first batch."""

    def turn() -> Turn:
        seen: list[tuple[float, float]] = []  # when, seconds of audio made by then
        with tempfile.TemporaryDirectory(dir=parent) as folder:
            summary = run_batch(
                plan, folder, workers=workers,
                progress=lambda s: seen.append((time.perf_counter(), s.made_audio_s)),
            )  # fmt: skip
        (start, before), (end, audio_s) = seen[workers - 1], seen[-1]
        share = (audio_s - before) / audio_s
        return Turn(round(summary.frames * share), end - start, None)

    return turn


def measure(candidates: dict[str, Run], rounds: int) -> list[dict[str, Any]]:
    """Let all take turns; the first turn of each warms up."""
    turns: dict[str, list[Turn]] = {name: [] for name in candidates}
    for number in range(rounds + 1):
        for name, run in candidates.items():
            turn = run()
            if number:
                turns[name].append(turn)
    return [_row(name, taken) for name, taken in turns.items()]


def _row(name: str, turns: list[Turn]) -> dict[str, Any]:
    rates = [turn.frames / turn.seconds for turn in turns]
    used = [turn.frames / turn.processor_s for turn in turns if turn.processor_s is not None]
    return {
        "name": name,
        "frames": turns[0].frames,
        "frames_per_s_best": max(rates),
        "frames_per_s_median": statistics.median(rates),
        "frames_per_cpu_s_median": statistics.median(used) if used else None,
    }


def compare(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Say which share of decoding's rate the batch keeps, and how far the plain loop is behind."""
    named = {row["name"]: row for row in rows}
    decode, sound, batch, plain = named[DECODE], named[SOUND], named[BATCH], named.get(PLAIN)
    keys = "frames_per_s_best", "frames_per_s_median", "frames_per_cpu_s_median"
    factor = batch["frames_per_s_median"] / plain["frames_per_s_median"] if plain else None
    return {
        "share_of_decoding": {key: batch[key] / decode[key] for key in keys},
        "share_of_decoding_and_codec": {key: batch[key] / sound[key] for key in keys},
        "processes_share_of_decoding": {
            row["name"]: {key: row[key] / decode[key] for key in keys[:2]}
            for row in rows
            if row["frames_per_cpu_s_median"] is None
        },
        "times_plain_loop": factor,
    }


def _met(shares: dict[str, float]) -> str:
    return "met" if shares["frames_per_s_best"] >= TARGET else "**missed**"


def markdown(result: dict[str, Any]) -> str:
    """Write the page."""
    machine, shares = result["machine"], result["share_of_decoding"]
    sound = result["share_of_decoding_and_codec"]
    load = machine["load_before"][0]
    lines = [
        "# Batch",
        "",
        f"`{result['command']}`, {result['date']}, commit {result['commit']}",
        "",
        f"- Machine: {machine['cpu']}, {machine['cores']} cores, {machine['memory_gb']} GB; load "
        f"before the run {load:.2f}",
        f"- {result['model']} in {result['dtype']}, {result['threads']} threads, "
        f"{result['clips_side_by_side']} clips of {result['duration_s']:g} s side by side, "
        f"guidance {result['guidance_scale']:g}, {result['frame_rate']:g} frames a second of audio",
        "",
        "| | frames/s, best | median | frames per second of processor, median | x real time |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {r['name']} | {r['frames_per_s_best']:.0f} | {r['frames_per_s_median']:.0f} | "
        f"{_number(r['frames_per_cpu_s_median'])} | "
        f"{r['frames_per_s_median'] / result['frame_rate']:.1f} |"
        for r in result["rows"]
    ]
    lines += [
        "",
        f"The batch keeps {shares['frames_per_s_best']:.0%} of decoding's rate at its best, "
        f"{shares['frames_per_s_median']:.0%} in the median, "
        f"{shares['frames_per_cpu_s_median']:.0%} by processor time (to reach: {TARGET:.0%}, "
        f"{_met(shares)}).",
        f"Of the rate of decoding and codec together it keeps {sound['frames_per_s_best']:.0%}, "
        f"{sound['frames_per_s_median']:.0%} and {sound['frames_per_cpu_s_median']:.0%}: that is "
        "what levelling, encoding, writing and recording leave.",
    ]
    for name, share in result["processes_share_of_decoding"].items():
        lines.append(
            f"The {name} keeps {share['frames_per_s_best']:.0%} of what decoding alone reaches in "
            f"one process, {share['frames_per_s_median']:.0%} in the median (to reach: "
            f"{TARGET:.0%}, {_met(share)})."
        )
    if result["times_plain_loop"] is not None:
        lines.append(
            f"It is {result['times_plain_loop']:.1f} times as fast as the plain loop over "
            "transformers' generate."
        )
    return "\n".join(lines) + "\n"


def _number(rate: float | None) -> str:
    return "-" if rate is None else f"{rate:.0f}"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="pocket", help="name or folder")
    parser.add_argument("--threads", type=int, default=2, help="of torch and the kernels")
    parser.add_argument("--workers", type=int, default=1, help="also in so many processes")
    parser.add_argument("--clips", type=int, default=CPU_BATCH, help="side by side, at most 16")
    parser.add_argument("--duration", type=float, default=10.0, help="of each clip, seconds")
    parser.add_argument("--guidance", type=float, default=1.0, help="1 is one row a clip")
    parser.add_argument("--rounds", type=int, default=3, help="counted turns")
    parser.add_argument("--without-transformers", action="store_true", help="leave the loop out")
    parser.add_argument(
        "--folder", help="where the batch writes; the system's own place if not set"
    )
    parser.add_argument("--out", default=str(ROOT / "benchmarks" / "results"), help="folder")
    return parser.parse_args()


if __name__ == "__main__":
    main()
