"""Is the best of several clips a way past guidance and the dial?

    python benchmarks/best_of.py [--model pocket] [--prompts docs/results/pocket/development.jsonl]
        [--takes 1 2 4] [--clips 16] [--seconds 5] [--seed 0] [--out STEM]

Of each caption so many clips are made in five ways: the base, guided by 2, both ends of the dial
and half-way. They are put into groups of one, two and four, the training scorer chooses one of
each group, as `--takes` does, and the chosen ones are measured by what took no part: how well they
answer (the scorer for reports), how often the probe hears the style asked for, and how varied those
of a caption are (mean of 1 - cosine on the encoder for reports). Errors are standard errors over
captions. Nothing is held.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pocket_prompts import REWARDS

from musicgen_rl.data.chords import NO_CHORDS
from musicgen_rl.data.keys import NO_KEY
from musicgen_rl.errors import InputError, MusicgenRLError
from musicgen_rl.evaluation.prompts import read_prompts
from musicgen_rl.pipeline import Pipeline
from musicgen_rl.rewards import load_encoder, load_probe, load_scorer
from musicgen_rl.storage import write_json

WAYS: dict[str, dict[str, Any]] = {
    "base": {"guidance_scale": 1.0},
    "guidance 2": {"guidance_scale": 2.0},
    "quality end": {"diversity": 0.0},
    "half-way": {"diversity": 0.5},
    "diversity end": {"diversity": 1.0},
}
FREE: dict[str, Any] = {"tempo_bpm": 0.0, "key": NO_KEY, "chords": NO_CHORDS}
MEASURES = ("score", "style", "diversity")


def chosen(scores: NDArray[np.float64], takes: int) -> NDArray[np.int64]:
    """Choose the best of each group of clips.

    Args:
        scores: [B].
        takes: clips of a group; B is a multiple.

    Returns:
        Indices [B / takes].
    """
    groups = scores.reshape(-1, takes)
    return groups.argmax(1) + np.arange(len(groups)) * takes


def diversity_of(embeddings: NDArray[np.float64]) -> float:
    """Average 1 - cosine over the pairs of unit vectors [B, d]."""
    count = len(embeddings)
    total = float((embeddings @ embeddings.T).sum()) - count
    return 1.0 - total / (count * (count - 1))


def render(found: Mapping[str, Any]) -> str:
    """Write the figures as Markdown."""
    lines = [
        "# The best of several clips", "",
        f"Made by `benchmarks/best_of.py`; its first lines say what is measured. {found['model']}, "
        f"{found['captions']} captions of {Path(found['prompts']).name}, {found['clips']} clips of "
        f"{found['seconds']:g} s each, seed {found['seed']}.", "",
        "| | best of | score | style heard | diversity |", "|---|---|---|---|---|",
    ]  # fmt: skip
    for row in found["rows"]:
        cells = [f"{row[name][0]:.3f} ± {row[name][1]:.3f}" for name in MEASURES]
        lines.append(f"| {row['way']} | {row['takes']} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, ""])


def measure(given: argparse.Namespace) -> dict[str, Any]:
    """Make the clips and measure what is chosen of them."""
    if any(given.clips % takes or given.clips // takes < 2 for takes in given.takes):
        raise InputError(
            f"{given.clips} clips cannot be put into two groups or more of each of {given.takes}: "
            "give a multiple"
        )
    prompts = read_prompts(given.prompts)
    prompts = [prompt for prompt in prompts if "style" in prompt.attributes]
    pipeline, probe = Pipeline.load(given.model), load_probe(REWARDS / "probe")
    choosing, reporting = (load_scorer(REWARDS / f"scorer-{r}") for r in ("training", "report"))
    encoder = load_encoder(REWARDS / "encoder-report")
    figures: dict[tuple[str, int], list[Sequence[float]]] = {}
    for prompt in prompts:
        for way, how in WAYS.items():
            clips = pipeline.generate(
                prompt.text, duration_s=given.seconds, seed=given.seed,
                clips_per_prompt=given.clips, **FREE, **how,
            )  # fmt: skip
            mono = torch.from_numpy(np.stack([clip.samples.mean(axis=0) for clip in clips]))
            rate, words = clips[0].sample_rate, [prompt.text] * given.clips
            scores = reporting.score(mono, rate, words).numpy()
            heard = probe.log_probs(mono, rate)["style"].argmax(dim=1)
            asked = prompt.attributes["style"]
            right = np.array([probe.classes["style"][int(n)] == asked for n in heard])
            embeddings = encoder.embed(mono, rate).numpy().astype(np.float64)
            for takes in given.takes:
                kept = chosen(choosing.score(mono, rate, words).double().numpy(), takes)
                row = (scores[kept].mean(), right[kept].mean(), diversity_of(embeddings[kept]))
                figures.setdefault((way, takes), []).append([float(x) for x in row])
    rows = []
    for (way, takes), each in figures.items():
        values = np.array(each)  # [captions, measures]
        errors = values.std(axis=0, ddof=1) / len(values) ** 0.5
        told = zip(values.mean(axis=0), errors, strict=True)
        named = {name: [float(m), float(e)] for name, (m, e) in zip(MEASURES, told, strict=True)}
        rows.append({"way": way, "takes": takes} | named)
    about = vars(given) | {"prompts": str(given.prompts), "captions": len(prompts)}
    del about["out"]
    return about | {"model_sha256": pipeline.model_sha256, "rows": rows}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="pocket")
    parser.add_argument(
        "--prompts", type=Path, default=Path("docs/results/pocket/development.jsonl")
    )
    parser.add_argument("--takes", type=int, nargs="+", default=[1, 2, 4], metavar="N")
    parser.add_argument("--clips", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/best_of"))
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
