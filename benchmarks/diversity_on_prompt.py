"""Is variety only clips that miss the prompt? Diversity among the clips that answer it.

Pairs of a prompt's clips are weighted by how much of what the prompt asks for the probe hears in
both. Where the weighted diversity of two arms is the same and the plain one is not, the difference
lay in clips that missed.

    python benchmarks/diversity_on_prompt.py RESULT/clips.parquet [--reference base] [--draws 2000]
        [--encoder report] [--real RESULT/real.npz] [--out benchmarks/results]

RESULT is a folder of `musicgen-rl evaluate`. With --real clips are centred on the mean of real
ones, as the evaluation does, otherwise on their own. Writes diversity_on_prompt.json and .md.
"""

import argparse
import datetime
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from bench.machine import commit
from numpy.typing import NDArray

from musicgen_rl.evaluation.diversity import centre
from musicgen_rl.evaluation.table import read_rows
from musicgen_rl.storage import write_json

ROOT = Path(__file__).resolve().parents[1]
Array = NDArray[np.float64]
WEIGHT = "probe_right"


def sums_by_prompt(z: Array, weight: Array, prompt: NDArray[Any], count: int) -> Array:
    """Add pairs up by prompt: weighted differences, weights, differences, pairs; [P, 4]."""
    found = np.zeros((count, 4))
    for p in range(count):
        rows = prompt == p
        differences = 1.0 - z[rows] @ z[rows].T
        weights = np.outer(weight[rows], weight[rows])
        np.fill_diagonal(differences, 0.0)
        np.fill_diagonal(weights, 0.0)
        n = int(rows.sum())
        found[p] = (weights * differences).sum(), weights.sum(), differences.sum(), n * (n - 1)
    return found


def measure(
    rows: Sequence[Mapping[str, Any]], encoder: str, mean: Array | None = None
) -> dict[str, dict[str, Array]]:
    """Gather each arm's sums by prompt, centred on a mean [d], of all these clips where None."""
    prompts = {text: i for i, text in enumerate(dict.fromkeys(r["prompt"] for r in rows))}
    z = np.array([r[f"embedding_{encoder}"] for r in rows], dtype=np.float64)
    z = centre(z, z.mean(axis=0) if mean is None else mean)
    weight = np.nan_to_num(np.array([r[WEIGHT] for r in rows], dtype=np.float64))
    prompt = np.array([prompts[r["prompt"]] for r in rows])
    arms = np.array([r["arm"] for r in rows])
    found: dict[str, dict[str, Array]] = {}
    for name in dict.fromkeys(arms.tolist()):
        mine = arms == name
        right = np.bincount(prompt[mine], weight[mine], len(prompts)) / np.bincount(
            prompt[mine], minlength=len(prompts)
        )
        found[name] = {
            "right": right,
            "pairs": sums_by_prompt(z[mine], weight[mine], prompt[mine], len(prompts)),
        }
    return found


def estimates(sums: Mapping[str, Array], chosen: NDArray[Any]) -> Array:
    """Share right, diversity, diversity of what answers, over chosen prompts."""
    pairs = sums["pairs"][chosen].sum(axis=0)
    return np.array([sums["right"][chosen].mean(), pairs[2] / pairs[3], pairs[0] / pairs[1]])


def summarise(
    measured: Mapping[str, Mapping[str, Array]], reference: str, draws: int
) -> list[dict[str, Any]]:
    """Values, intervals over prompts, and the paired difference to the reference."""
    count = len(measured[reference]["right"])
    rng = np.random.default_rng(0)
    resampled = rng.integers(0, count, (draws, count))
    every = np.arange(count)
    base = np.array([estimates(measured[reference], pick) for pick in resampled])
    rows: list[dict[str, Any]] = []
    for name, sums in measured.items():
        values = estimates(sums, every)
        spread = np.array([estimates(sums, pick) for pick in resampled])
        low, high = np.quantile(spread, (0.025, 0.975), axis=0)
        d_low, d_high = np.quantile(spread - base, (0.025, 0.975), axis=0)
        difference = values - estimates(measured[reference], every)
        row: dict[str, Any] = {"arm": name}
        for i, key in enumerate(("right", "diversity", "diversity_on_prompt")):
            row[key] = [float(values[i]), float(low[i]), float(high[i])]
            row[f"{key}_difference"] = [float(difference[i]), float(d_low[i]), float(d_high[i])]
        rows.append(row)
    return rows


def markdown(result: Mapping[str, Any]) -> str:
    """Write the table."""
    lines = [
        "# Diversity among clips that answer the prompt", "",
        f"`{result['command']}`, {result['date']}, commit {result['commit']}", "",
        f"{result['prompts']} prompts, {result['clips']} clips; encoder {result['encoder']}, "
        f"centred on {result['centre']}; a pair of clips weighs the product of what the probe "
        f"hears right in both. Intervals over prompts; differences to {result['reference']}, "
        "paired.", "",
        "| arm | probe, right | diversity | of what answers | difference | of what answers |",
        "|---|---|---|---|---|---|",
    ]  # fmt: skip
    for row in result["arms"]:
        cells = [f"{row['right'][0]:.2f}"]
        cells += ["{:.3f} ({:.3f} to {:.3f})".format(*row[k])
                  for k in ("diversity", "diversity_on_prompt")]  # fmt: skip
        cells += ["{:+.3f} ({:+.3f} to {:+.3f})".format(*row[f"{k}_difference"])
                  for k in ("diversity", "diversity_on_prompt")]  # fmt: skip
        lines.append(f"| {row['arm']} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Read, weigh, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clips", type=Path, help="clips.parquet of an evaluation")
    parser.add_argument("--reference", default="base")
    parser.add_argument("--encoder", default="report")
    parser.add_argument("--real", type=Path, help="real.npz of the evaluation")
    parser.add_argument("--draws", type=int, default=2000)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results")
    args = parser.parse_args()
    rows, instruments = read_rows(args.clips)
    mean = None
    if args.real is not None:
        with np.load(args.real) as real:
            mean = real[f"reference/{args.encoder}"].astype(np.float64).mean(axis=0)
    measured = measure(rows, args.encoder, mean)
    if args.reference not in measured:
        sys.exit(f"no arm {args.reference!r}: there are {', '.join(measured)}")
    result = {
        "command": " ".join(["python", "benchmarks/diversity_on_prompt.py", *sys.argv[1:]]),
        "date": datetime.date.today().isoformat(), "commit": commit(ROOT),
        "prompts": len({r["prompt"] for r in rows}), "clips": len(rows),
        "encoder": args.encoder, "centre": "real clips" if args.real else "all of these clips",
        "reference": args.reference, "instruments": instruments,
        "arms": summarise(measured, args.reference, args.draws),
    }  # fmt: skip
    write_json(args.out / "diversity_on_prompt.json", result)
    (args.out / "diversity_on_prompt.md").write_text(markdown(result), encoding="utf-8")
    print(markdown(result))


if __name__ == "__main__":
    main()
