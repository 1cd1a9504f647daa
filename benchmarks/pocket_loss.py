"""The held-out loss of a language model's training, kept and drawn.

    python benchmarks/pocket_loss.py RUN/metrics.jsonl [--out benchmarks/results/pocket_loss.json]
        [--picture docs/images/pocket_loss.png]

Several files are one training after the other: steps go on where the file before ended. Keeps every
measurement on the valid split, with the prompt and without it, in all and per codebook, and the
training loss as means over `--points` stretches.
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from musicgen_rl.errors import InputError
from musicgen_rl.storage import write_json
from musicgen_rl.training.metrics import read_metrics

KEPT = ("step", "seconds", "loss", "loss_null", "loss_per_codebook", "loss_null_per_codebook")


def joined(runs: Sequence[Sequence[Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """Put the rows of several runs one after the other, steps and seconds counting on."""
    rows: list[dict[str, Any]] = []
    steps, seconds = 0, 0.0
    for run in runs:
        for row in run:
            moved = {"step": row["step"] + steps}
            moved |= {"seconds": row["seconds"] + seconds} if "seconds" in row else {}
            rows.append({**row, **moved})
        steps = max((row["step"] for row in rows), default=steps)
        seconds = max((row.get("seconds", 0.0) for row in rows), default=seconds)
    return rows


def curve(rows: Sequence[Mapping[str, Any]], points: int) -> dict[str, Any]:
    """Keep what is to be shown of a run's rows.

    Raises:
        InputError: nothing was measured on the valid split.
    """
    valid = [{k: row[k] for k in KEPT if k in row} for row in rows if row["kind"] == "valid"]
    if not valid:
        raise InputError("no row of kind valid: the run has not measured its held-out loss yet")
    train = [(row["step"], row["loss"]) for row in rows if row["kind"] == "train"]
    parts = [p for p in np.array_split(np.array(train).reshape(-1, 2), points) if len(p)]
    return {
        "valid": valid,
        "train": [{"step": int(p[-1, 0]), "loss": round(float(p[:, 1].mean()), 4)} for p in parts],
    }


def draw(found: Mapping[str, Any], path: Path) -> None:
    """Draw the losses by step: in all on the left, by codebook on the right."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    valid = found["valid"]
    steps = [row["step"] for row in valid]
    left.plot([r["step"] for r in found["train"]], [r["loss"] for r in found["train"]],
              color="0.7", label="learnt from")  # fmt: skip
    left.plot(steps, [row["loss"] for row in valid], "o-", label="held out")
    left.plot(steps, [row["loss_null"] for row in valid], "o--", label="held out, no prompt")
    left.set(xlabel="step", ylabel="nats a code")
    left.legend()
    for k in range(len(valid[0]["loss_per_codebook"])):
        right.plot(steps, [row["loss_per_codebook"][k] for row in valid], label=f"codebook {k + 1}")
    right.set(xlabel="step", ylabel="nats a code, held out")
    right.set_ylim(bottom=min(valid[-1]["loss_per_codebook"]) - 1)  # room for the legend
    right.legend(fontsize=7, ncols=4, loc="lower center")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=80)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("metrics", type=Path, nargs="+")
    parser.add_argument("--points", type=int, default=60)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/pocket_loss.json"))
    parser.add_argument("--picture", type=Path, default=Path("docs/images/pocket_loss.png"))
    options = parser.parse_args()
    found = curve(joined([read_metrics(path) for path in options.metrics]), options.points)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    write_json(options.out, found)
    draw(found, options.picture)
    last = found["valid"][-1]
    print(
        f"step {last['step']}: {last['loss']:.3f} with the prompt, {last['loss_null']:.3f} without"
    )


if __name__ == "__main__":
    main()
