"""What the objective says of whole models: -KL + beta D of ends, blends and other candidates.

A training run shows its objective on its own noisy batches. Here every point plays the same
held-out prompts with the same random numbers, at the length the run trains on, and is judged as the
run judges: KL to the guided base, summed over a clip, and the diversity of its clips, centred on
the mean of all points together. So one sees whether a run has found more than the straight line
between base and quality end has for nothing.

    python benchmarks/endpoint_objective.py --prompts held_out.jsonl --points base,quality,
        base:quality:0.5,diversity,runs/other/export [--base pocket] [--weights 60,120,240]
        [-P 48] [-n 8] [--clip-s 1.5] [--name endpoint_objective] [--here FOLDER]

A point is a model folder, `quality` or `diversity` inside the base's, or A:B:SHARE, a straight
blend.
"""

import argparse
import datetime
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bench.machine import commit, describe_machine, describe_versions
from torch import Tensor

from musicgen_rl.checkpoint import ModelInfo, find_model, load_state, read_info
from musicgen_rl.lm.low_rank import blend
from musicgen_rl.rewards.diversity import centred, pairwise_diversity
from musicgen_rl.storage import write_json
from musicgen_rl.training.adapters import Student
from musicgen_rl.training.advantages import EmbeddingBank
from musicgen_rl.training.endpoint_config import EndpointConfig
from musicgen_rl.training.endpoint_parts import EndpointParts
from musicgen_rl.training.endpoint_run import EndpointSources, load_parts
from musicgen_rl.training.endpoint_step import EndpointStep
from musicgen_rl.training.rollout import frames_of, sound

ROOT = Path(__file__).resolve().parents[1]
PART = 8  # prompts at once


def model_of(word: str, base: ModelInfo) -> ModelInfo:
    """Find a point's model: inside the base's folder, or anywhere."""
    if word == "base":
        return base
    inside = base.folder / word
    return read_info(inside if (inside / "config.json").is_file() else find_model(word))


def state_of(point: str, base: ModelInfo) -> dict[str, Tensor]:
    """Load a point's weights."""
    words = point.split(":")
    if len(words) == 1:
        return load_state(model_of(point, base))
    if len(words) != 3:
        sys.exit(f"{point!r} is no point: give FOLDER or A:B:SHARE")
    first, second = (load_state(model_of(word, base)) for word in words[:2])
    return dict(blend(first, second, float(words[2])))


def play(parts: EndpointParts, config: EndpointConfig, point: str, seed: int) -> dict[str, Any]:
    """Let a point make its clips: KL a clip by prompt [P], embeddings by encoder [P, N, d]."""
    from musicgen_rl.lm.transformer import MusicLM

    lm = parts.base.lm
    teacher = MusicLM(lm)
    teacher.load_state_dict({n: t.float() for n, t in parts.base_state.items()})
    teacher.eval().requires_grad_(False)
    student = Student(lm, state_of(point, parts.base))
    device = torch.device("cpu")
    step = EndpointStep(
        config, student, teacher, parts.text, parts.codec, encoder=None, critic=None,
        bank=EmbeddingBank(0.0), device=device,
    )  # fmt: skip
    encoders = {"training": parts.encoder, "report": parts.held_out}
    found: dict[str, list[Tensor]] = {"kl": [], "training": [], "report": [], "score": []}
    N, rate = config.clips_per_prompt, parts.codec.sample_rate
    for first in range(0, len(parts.prompts), PART):
        chosen = list(range(first, min(first + PART, len(parts.prompts))))
        texts = [parts.prompts[i] for i in chosen]
        batch = step.make_clips(
            chosen, texts, seed=seed, first_clip=first * N,
            num_frames=frames_of(config.clip_s, parts.base.frame_rate),
        )  # fmt: skip
        found["kl"].append(step.kl_of(batch).view(len(chosen), N).mean(1))
        samples = sound(parts.codec, batch.codes, device)
        for name, encoder in encoders.items():
            if encoder is not None:
                found[name].append(encoder.embed(samples, rate).view(len(chosen), N, -1))
        if parts.scorer is not None:
            words = [text for text in texts for _ in range(N)]
            scores = parts.scorer.score(samples, rate, words)
            found["score"].append(scores.view(len(chosen), N).mean(1))
    return {name: torch.cat(values) for name, values in found.items() if values}


def interval(values: Tensor, draws: int = 2000) -> list[float]:
    """Mean over prompts and its bootstrap interval of 95 %."""
    each = values.double().numpy()
    rng = np.random.default_rng(0)
    means = each[rng.integers(0, len(each), (draws, len(each)))].mean(1)
    return [float(each.mean()), *(float(x) for x in np.quantile(means, (0.025, 0.975)))]


def summarise(played: dict[str, dict[str, Any]], weights: list[float]) -> list[dict[str, Any]]:
    """Figures of each point, and differences to the best of the straight line where it is there."""
    rows: list[dict[str, Any]] = []
    by_prompt: dict[str, dict[str, Tensor]] = {}
    for encoder in ("training", "report"):
        all_clips = torch.cat([p[encoder].flatten(0, 1) for p in played.values() if encoder in p])
        mean = torch.nn.functional.normalize(all_clips.float(), dim=-1).mean(0)
        for name, found in played.items():
            values = pairwise_diversity(centred(found[encoder], mean))
            by_prompt.setdefault(name, {})[encoder] = values
    for name, found in played.items():
        each = {"kl": found["kl"], "score": found["score"], **by_prompt[name]}
        for beta in weights:
            each[f"objective_{beta:g}"] = beta * each["training"] - each["kl"]
        rows.append({"point": name, **{key: interval(value) for key, value in each.items()}})
    return rows


def markdown(result: dict[str, Any]) -> str:
    """Write the table."""
    keys = {"kl": "KL, nats a clip", "training": "D, training encoder",
            "report": "D, report encoder", "score": "training scorer"}  # fmt: skip
    keys |= {f"objective_{w:g}": f"{w:g} D - KL" for w in result["settings"]["weights"]}
    lines = [
        "# The objective of whole models", "",
        f"`{result['command']}`, {result['date']}, commit {result['commit']}", "",
        "{num_prompts} held-out prompts x {clips} clips of {clip_s:g} s, no guidance; intervals "
        "over prompts.".format(**result["settings"]), "",
        "| point | " + " | ".join(keys.values()) + " |", "|---|" + "---|" * len(keys),
    ]  # fmt: skip
    for row in result["points"]:
        digits = {key: 1 if key == "kl" or key.startswith("objective") else 3 for key in keys}
        cells = ["{:.{d}f} ({:.{d}f} to {:.{d}f})".format(*row[k], d=digits[k]) for k in keys]
        lines.append(f"| {row['point']} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--prompts", type=Path, required=True, help="held-out prompts")
    parser.add_argument("--points", required=True, help="by commas")
    parser.add_argument("--base", default="pocket")
    parser.add_argument("--weights", default="60,120,240", help="of the reward, by commas")
    parser.add_argument("-P", "--num-prompts", type=int, default=48)
    parser.add_argument("-n", "--clips", type=int, default=8)
    parser.add_argument("--clip-s", type=float, default=1.5)
    parser.add_argument("--guidance", type=float, default=3.0, help="of the teacher")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--name", default="endpoint_objective", help="of the files of results")
    parser.add_argument("--here", type=Path, help="write results into this folder instead")
    args = parser.parse_args()
    args.weights = [float(part) for part in args.weights.split(",")]
    args.points = [part.strip() for part in args.points.split(",") if part.strip()]
    return args


def main() -> None:
    """Play, judge, write."""
    from dataclasses import replace

    args = parse()
    config = EndpointConfig(
        guidance_scale=args.guidance, clips_per_prompt=args.clips, clip_s=args.clip_s,
        prompts_per_step=1, seed=args.seed,
    )  # fmt: skip
    parts = load_parts(EndpointSources(base=args.base, prompts=args.prompts), config)
    if not (parts.encoder and parts.held_out and parts.scorer):
        sys.exit(f"{args.base} has no rewards/ with two encoders and a training scorer to judge by")
    parts = replace(parts, prompts=parts.prompts[: args.num_prompts])
    played = {}
    for point in args.points:
        played[point] = play(parts, config, point, args.seed)
        print(point, "KL", round(float(played[point]["kl"].mean()), 2), flush=True)
    settings = {n: v for n, v in vars(args).items() if not isinstance(v, Path)}
    found = {
        "command": " ".join(["python", "benchmarks/endpoint_objective.py", *sys.argv[1:]]),
        "date": datetime.date.today().isoformat(),
        "commit": commit(ROOT),
        "machine": describe_machine(),
        "versions": describe_versions(),
        "settings": settings | {"num_prompts": len(parts.prompts)},
        "points": summarise(played, args.weights),
    }  # fmt: skip
    target = args.here or ROOT / "benchmarks" / "results"
    write_json(target / f"{args.name}.json", found)
    (target / f"{args.name}.md").write_text(markdown(found), encoding="utf-8")
    print(markdown(found))


if __name__ == "__main__":
    main()
