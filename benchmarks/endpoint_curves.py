"""Draw how endpoints were trained: KL to the guided teacher, diversity, and what the run is paid.

    python benchmarks/endpoint_curves.py quality=RUN/metrics.jsonl diversity=RUN/metrics.jsonl
        [--out docs/images/pocket_endpoints.png] [--window 10]

Every step plays other prompts, so single steps scatter: the lines are means of `--window` steps,
the dots the steps. Steps of longer clips are left out, for their KL is a sum over more tokens.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from musicgen_rl.errors import InputError
from musicgen_rl.training.metrics import read_metrics

PANELS = {
    "kl": "KL a clip, nats",
    "diversity": "diversity, training encoder",
    "objective": "beta x diversity - KL",
}


def curve(rows: Sequence[Mapping[str, Any]], key: str) -> tuple[np.ndarray, np.ndarray]:
    """Take (steps, values) of the training steps of the usual length that have a figure."""
    steps = [row for row in rows if row["kind"] == "train" and key in row]
    usual = min((row["tokens_per_clip"] for row in steps), default=0)
    kept = [row for row in steps if row["tokens_per_clip"] == usual]
    return np.array([row["step"] for row in kept]), np.array([row[key] for row in kept])


def smooth(values: np.ndarray, window: int) -> np.ndarray:
    """Average each value with those up to half a window around it; ends have fewer."""
    half = window // 2
    return np.array([values[max(0, i - half) : i + half + 1].mean() for i in range(len(values))])


def draw(runs: Mapping[str, Sequence[Mapping[str, Any]]], window: int, picture: Path) -> None:
    """Draw a panel a figure, one below the other, a column a run."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    shape = {"nrows": len(PANELS), "ncols": len(runs), "squeeze": False, "sharex": "col"}
    figure, axes = pyplot.subplots(**shape, figsize=(4.6 * len(runs), 6.4))
    for column, (name, rows) in enumerate(runs.items()):
        for row, (key, label) in enumerate(PANELS.items()):
            panel = axes[row][column]
            steps, values = curve(rows, key)
            panel.plot(steps, values, ".", color="#9aa7b5", markersize=3)
            panel.plot(steps, smooth(values, window), color="#1f5fa8")
            panel.set_ylabel(label)
            panel.grid(alpha=0.3)
        axes[0][column].set_title(name)
        axes[-1][column].set_xlabel("step")
    figure.tight_layout()
    picture.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(picture, dpi=110)
    pyplot.close(figure)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Draw how endpoints were trained.")
    parser.add_argument("runs", nargs="+", help="NAME=FILE of metrics")
    parser.add_argument("--out", type=Path, default=Path("docs/images/pocket_endpoints.png"))
    parser.add_argument("--window", type=int, default=10)
    given = parser.parse_args(arguments)
    try:
        runs: dict[str, Sequence[Mapping[str, Any]]] = {}
        for word in given.runs:
            name, _, path = word.rpartition("=")
            rows = read_metrics(Path(path))
            if not name or not any(row.get("kind") == "train" for row in rows):
                raise InputError(f"{word!r} is not NAME=FILE with a file of training metrics")
            runs[name] = rows
        draw(runs, given.window, given.out)
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    print(given.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
