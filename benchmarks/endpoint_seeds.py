"""How much do the ends of the dial depend on the seed, and on beta?

Trains the quality end once a seed, and from each the diversity end at every weight of the reward,
all for a few steps; then plays every one on held-out prompts beside the base. Spread over seeds is
the standard deviation of their means; the interval beside it is over prompts, for one run.

    python benchmarks/endpoint_seeds.py --train manifest.jsonl --prompts held_out.jsonl -o FOLDER
        [--base pocket] [--preset pocket] [--seeds 1,2,3] [--weights 0,60,120,240]
        [--quality-steps 30] [--diversity-steps 15] [-P 24] [-n 4] [--duration 5]
        [--quality NAME=VALUE ...] [--diversity NAME=VALUE ...] [--name endpoint_seeds]

Everything goes on after a stop: runs that are finished are not made again. Results go to
benchmarks/results/NAME.json and .md, or beside the runs with --here.
"""

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.machine import commit, describe_machine, describe_versions

from musicgen_rl.storage import write_json

ROOT = Path(__file__).resolve().parents[1]
MEASURES = {
    "adherence_report": "score, report",
    "probe_right": "probe right",
    "diversity_report": "diversity, report",
    "diversity_training": "diversity, training",
}


def run(arguments: Sequence[str]) -> int:
    """Run `musicgen-rl`, and say so."""
    print("musicgen-rl", *arguments, flush=True)
    return subprocess.run([sys.executable, "-m", "musicgen_rl", *arguments], check=False).returncode


def end_name(seed: int, weight: float | None) -> str:
    """Name a run: a quality end where there is no weight."""
    return f"quality seed {seed}" if weight is None else f"beta {weight:g} seed {seed}"


def train(args: argparse.Namespace, seed: int, weight: float | None) -> Path:
    """Train one end; return its export."""
    folder = args.out / end_name(seed, weight).replace(" ", "-")
    export = folder / "export"
    steps = args.quality_steps if weight is None else args.diversity_steps
    arguments = [
        "train", "endpoints", "--base", args.base, "--prompts", str(args.train),
        "--preset", args.preset, "--steps", str(steps), "--minutes", "0", "--seed", str(seed),
    ]  # fmt: skip
    arguments += ["--diversity-weight", f"{weight or 0:g}"]
    if weight is not None:
        start = args.out / end_name(seed, None).replace(" ", "-") / "export"
        arguments += ["--end", "diversity", "--start", str(start)]
    settings = args.quality if weight is None else args.diversity
    for name, _, value in (pair.partition("=") for pair in settings):
        arguments += option(name, value)
    if args.threads:
        arguments += ["--threads", str(args.threads)]
    if export.is_dir() and last_row(folder)["stopped"]:  # a guard ended it: it would go on now
        return export
    code = run([*arguments, "-o", str(folder)])
    if code not in (0, 1) or not (export / "config.json").is_file():  # 1: a guard stopped it
        sys.exit(f"{folder} came to nothing (status {code}): see above, and run this again")
    return export


def option(name: str, value: str) -> list[str]:
    """Write a setting as the command takes it."""
    flag = name.replace("_", "-")
    if value in ("True", "False"):
        return [f"--{flag}" if value == "True" else f"--no-{flag}"]
    return [f"--{flag}", value]


def last_row(folder: Path) -> dict[str, Any]:
    """Read the last training row of a run."""
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    trained = [row for row in rows if row["kind"] == "train"]
    stops = [row["why"] for row in rows if "why" in row]
    last = trained[-1] if trained else {}
    kept = {n: last[n] for n in ("step", "kl", "kl_per_token", "diversity", "entropy") if n in last}
    return kept | {"stopped": stops[-1] if stops else None}


def spread(values: Sequence[float]) -> dict[str, float]:
    """Mean over seeds, and their standard deviation."""
    return {
        "mean": statistics.fmean(values),
        "sd": statistics.stdev(values) if len(values) > 1 else float("nan"),
    }


def summarise(args: argparse.Namespace, summary: Mapping[str, Any]) -> dict[str, Any]:
    """Gather means and spreads over seeds of what the evaluation measured."""
    arms = {arm["name"]: arm for arm in summary["arms"]}
    ends: list[dict[str, Any]] = []
    for weight in (None, *args.weights):
        names = [end_name(seed, weight) for seed in args.seeds]
        found = {
            key: spread([arms[name]["estimates"][key]["value"] for name in names])
            for key in MEASURES
        }
        each = [
            {"name": name, **last_row(args.out / name.replace(" ", "-")),
             "estimates": {key: arms[name]["estimates"][key] for key in MEASURES}}
            for name in names
        ]  # fmt: skip
        end = "quality" if weight is None else "diversity"
        ends.append({"end": end, "weight": weight, "over_seeds": found, "runs": each})
    base = {key: arms["base"]["estimates"][key] for key in MEASURES}
    return {"base": base, "ends": ends}


def markdown(result: Mapping[str, Any]) -> str:
    """Write the table."""
    settings = result["settings"]
    seeds = ", ".join(map(str, settings["seeds"]))
    lines = [
        "# Ends of the dial: seeds and beta", "",
        f"`{result['command']}`, {result['date']}, commit {result['commit']}", "",
        f"{settings['quality_steps']} steps of the quality end, {settings['diversity_steps']} of "
        f"the diversity end from it, seeds {seeds}; {settings['num_prompts']} held-out prompts x "
        f"{settings['clips']} clips of {settings['duration']:g} s, no guidance. Mean over seeds +- "
        "their standard deviation; of the base, the interval over prompts.", "",
        "| end | " + " | ".join(MEASURES.values()) + " | KL a token | stopped by a guard |",
        "|---|" + "---|" * (len(MEASURES) + 2),
    ]  # fmt: skip
    base = result["base"]
    cells = [f"{e['value']:.3f} ({e['low']:.3f} to {e['high']:.3f})" for e in base.values()]
    lines.append("| base | " + " | ".join(cells) + " | | |")
    for end in result["ends"]:
        over = end["over_seeds"]
        cells = [f"{over[key]['mean']:.3f} +- {over[key]['sd']:.3f}" for key in MEASURES]
        kl = spread([run["kl_per_token"] for run in end["runs"]])
        stopped = sum(run["stopped"] is not None for run in end["runs"])
        name = "quality" if end["weight"] is None else f"diversity, beta {end['weight']:g}"
        cells += [f"{kl['mean']:.4f} +- {kl['sd']:.4f}", f"{stopped} of {len(end['runs'])}"]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def numbers(text: str) -> list[float]:
    """Read numbers by commas."""
    return [float(part) for part in text.split(",")]


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--train", type=Path, required=True, help="prompts to train with")
    parser.add_argument("--prompts", type=Path, required=True, help="held-out prompts")
    parser.add_argument("-o", "--out", type=Path, required=True, help="folder of all runs")
    parser.add_argument("--base", default="pocket")
    parser.add_argument("--instruments", default="", help="judges; the base's own if not given")
    parser.add_argument("--preset", default="pocket")
    parser.add_argument("--seeds", type=numbers, default="1,2,3")
    parser.add_argument("--weights", type=numbers, default="0,60,120,240")
    parser.add_argument("--quality-steps", type=int, default=30)
    parser.add_argument("--diversity-steps", type=int, default=15)
    parser.add_argument("--quality", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--diversity", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("-P", "--num-prompts", type=int, default=24)
    parser.add_argument("-n", "--clips", type=int, default=4)
    parser.add_argument("--duration", type=float, default=5.0)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--name", default="endpoint_seeds", help="of the files of results")
    parser.add_argument("--here", action="store_true", help="write results beside the runs")
    args = parser.parse_args()
    args.seeds = [int(seed) for seed in args.seeds]
    return args


def main() -> None:
    """Train, evaluate, write."""
    args = parse()
    runs = [(seed, weight) for seed in args.seeds for weight in (None, *args.weights)]
    arms = ["base", *(f"model {train(args, *one)} as {end_name(*one)}" for one in runs)]
    result = args.out / "evaluation"
    arguments = [
        "evaluate", "--model", args.base, "--prompts", str(args.prompts), "--arms", ",".join(arms),
        "-P", str(args.num_prompts), "-n", str(args.clips), "--duration", f"{args.duration:g}",
        "--no-sound", "-o", str(result),
    ]  # fmt: skip
    if args.instruments:
        arguments += ["--instruments", args.instruments]
    if run(arguments):
        sys.exit("the evaluation failed: see above, and run this again")
    summary = json.loads((result / "summary.json").read_text(encoding="utf-8"))
    found = {
        "command": " ".join(["python", "benchmarks/endpoint_seeds.py", *sys.argv[1:]]),
        "date": summary["created"][:10],
        "commit": commit(ROOT),
        "machine": describe_machine(),
        "versions": describe_versions(),
        "settings": {n: v for n, v in vars(args).items() if not isinstance(v, Path)},
        **summarise(args, summary),
    }
    target = args.out if args.here else ROOT / "benchmarks" / "results"
    write_json(target / f"{args.name}.json", found)
    (target / f"{args.name}.md").write_text(markdown(found), encoding="utf-8")
    print(markdown(found))


if __name__ == "__main__":
    main()
