"""What does guidance bring that ends after a second or two?

    python benchmarks/early_guidance.py [--model pocket] [--clips 4] [--seconds 30]
        [--prompts docs/results/pocket/development.jsonl] [--seed 0] [--out STEM]

Of each caption so many clips of the base are made unguided, guided throughout and guided for their
first seconds alone. Of the first ten seconds, and of the last ten, it is told how well they answer
(the scorer for reports), how often the probe hears the style asked for, and how varied those of a
caption are (mean of 1 - cosine on the encoder for reports); and what the clips took, in seconds of
the processor, over what unguided ones took. Ways take turns, caption by caption. Errors are
standard errors over captions. Nothing is held.
"""

import argparse
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from best_of import FREE, diversity_of
from pocket_prompts import REWARDS

from musicgen_rl.errors import InputError, MusicgenRLError
from musicgen_rl.evaluation.prompts import read_prompts
from musicgen_rl.pipeline import Pipeline
from musicgen_rl.rewards import load_encoder, load_probe, load_scorer
from musicgen_rl.storage import write_json

WAYS: dict[str, dict[str, float]] = {
    "unguided": {"guidance_scale": 1.0},
    "guidance 2, 1 s": {"guidance_scale": 2.0, "guidance_s": 1.0},
    "guidance 2, 2 s": {"guidance_scale": 2.0, "guidance_s": 2.0},
    "guidance 2": {"guidance_scale": 2.0},
    "guidance 3, 1 s": {"guidance_scale": 3.0, "guidance_s": 1.0},
    "guidance 3": {"guidance_scale": 3.0},
}
PART_S = 10.0
MEASURES = ("score", "style", "diversity")


def render(found: Mapping[str, Any]) -> str:
    """Write the figures as Markdown."""
    head = [f"{what}, {part}" for part in ("first", "last") for what in MEASURES]
    lines = [
        "# Guidance that ends early", "",
        f"Made by `benchmarks/early_guidance.py`; its first lines say what is measured. "
        f"{found['model']}, {found['captions']} captions of {Path(found['prompts']).name}, "
        f"{found['clips']} clips of {found['seconds']:g} s each, seed {found['seed']}.", "",
        "| | " + " | ".join(head) + " | time |", "|---" * (len(head) + 2) + "|",
    ]  # fmt: skip
    for row in found["rows"]:
        cells = [f"{mean:.3f} ± {error:.3f}" for mean, error in row["figures"]]
        lines.append(f"| {row['way']} | " + " | ".join(cells) + f" | {row['time']:.2f} |")
    return "\n".join([*lines, ""])


def measure(given: argparse.Namespace) -> dict[str, Any]:
    """Make the clips and measure their beginnings and their ends."""
    if given.clips < 2 or given.seconds < PART_S:
        raise InputError(
            f"give 2 clips or more of {PART_S:g} s or more, got {given.clips} of {given.seconds:g}"
        )
    prompts = [p for p in read_prompts(given.prompts) if "style" in p.attributes]
    pipeline, probe = Pipeline.load(given.model), load_probe(REWARDS / "probe")
    scorer, encoder = (load(REWARDS / f"{kind}-report") for kind, load in (
        ("scorer", load_scorer), ("encoder", load_encoder)))  # fmt: skip
    figures: dict[str, list[list[float]]] = {way: [] for way in WAYS}
    took = dict.fromkeys(WAYS, 0.0)
    for prompt in prompts:
        asked = probe.classes["style"].index(prompt.attributes["style"])
        for way, how in WAYS.items():
            began = time.process_time()
            clips = pipeline.generate(
                prompt.text, duration_s=given.seconds, seed=given.seed,
                clips_per_prompt=given.clips, **FREE, **how,
            )  # fmt: skip
            took[way] += time.process_time() - began
            mono = torch.from_numpy(np.stack([clip.samples.mean(axis=0) for clip in clips]))
            rate, row = clips[0].sample_rate, []
            for part in (mono[:, : round(PART_S * rate)], mono[:, -round(PART_S * rate) :]):
                heard = probe.log_probs(part, rate)["style"].argmax(dim=1)
                embedded = encoder.embed(part, rate).numpy().astype(np.float64)
                scores = scorer.score(part, rate, [prompt.text] * given.clips)
                row += [
                    float(scores.mean()), float((heard == asked).float().mean()),
                    diversity_of(embedded),
                ]  # fmt: skip
            figures[way].append(row)
    rows = []
    for way, each in figures.items():
        values = np.array(each)  # [captions, measures of both parts]
        errors = values.std(axis=0, ddof=1) / len(values) ** 0.5
        told = [[float(m), float(e)] for m, e in zip(values.mean(axis=0), errors, strict=True)]
        rows.append({"way": way, "figures": told, "time": took[way] / took["unguided"]})
    about = vars(given) | {"prompts": str(given.prompts), "captions": len(prompts)}
    del about["out"]
    return about | {"model_sha256": pipeline.model_sha256, "rows": rows}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="pocket")
    parser.add_argument(
        "--prompts", type=Path, default=Path("docs/results/pocket/development.jsonl")
    )
    parser.add_argument("--clips", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/early_guidance"))
    given = parser.parse_args()
    try:
        found = measure(given)
    except MusicgenRLError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    write_json(given.out.with_suffix(".json"), found)
    given.out.with_suffix(".md").write_text(render(found), encoding="utf-8")
    sys.stdout.write(render(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
