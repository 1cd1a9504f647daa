"""Known answers of the listening study's analysis: no effect, planted effects, coverage.

    python benchmarks/listening.py [--runs 500] [--effects 0,0.25,0.5] [--out benchmarks/results]

Simulated raters only. Writes listening.json and listening.md. The design is the paper's preset;
"naive" treats answers as independent; "planned" is what `listen plan` would have promised. Rows of
other effects that are there already stay if they were made with as many runs and draws.
"""

import argparse
import datetime
import json
import tempfile
from pathlib import Path

import numpy as np

from musicgen_rl.listening.assignment import assign
from musicgen_rl.listening.crossed import estimate, holm
from musicgen_rl.listening.power import layout, power, simulate_scores
from musicgen_rl.listening.preset import write_preset
from musicgen_rl.listening.raters import RaterModel, World
from musicgen_rl.listening.reading import load_study


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=500)
    parser.add_argument("--draws", type=int, default=300)
    parser.add_argument("--effects", default="0,0.25,0.5")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        write_preset(Path(folder), "paper")
        study = load_study(folder)
    assignment = assign(study)
    layouts = [layout(study, assignment, planned) for planned in study.analysis.planned]
    rows = _kept(options)
    for effect in map(float, options.effects.split(",")):
        promised = power(
            study, assignment, [effect], model=RaterModel(careless=0.0), runs=options.runs, seed=3
        )
        rng = np.random.default_rng(7)
        truth = _truth(study, layouts, effect)
        counts = {
            name: np.zeros(len(layouts)) for name in ("found", "naive", "cover", "cover_naive")
        }
        any_found = any_naive = 0
        for _ in range(options.runs):
            model = RaterModel(effects={study.arms[0].name: effect}, careless=0.0)
            world = World(model, study, study.raters.count, rng)
            results = [
                estimate(simulate_scores(world, plan), plan.raters, plan.prompts,
                         draws=options.draws, rng=rng)
                for plan in layouts
            ]  # fmt: skip
            found = np.array(holm([r.p for r in results])) < study.analysis.level
            naive = np.array(holm([r.naive_p for r in results])) < study.analysis.level
            any_found, any_naive = any_found + found.any(), any_naive + naive.any()
            counts["found"] += found
            counts["naive"] += naive
            for name, inside in (
                ("cover", [r.low <= t <= r.high for r, t in zip(results, truth, strict=True)]),
                ("cover_naive",
                 [r.naive_low <= t <= r.naive_high for r, t in zip(results, truth, strict=True)]),
            ):  # fmt: skip
                counts[name] += np.array(inside)
        row = (
            {
                "effect": effect, "any_found": float(any_found / options.runs),
                "any_found_naive": float(any_naive / options.runs),
                "items": [
                    {"item": plan.planned.item, "truth": round(float(truth[i]), 3),
                     "planned": promised[i]["power"]}
                    | {name: float(value[i] / options.runs) for name, value in counts.items()}
                    for i, plan in enumerate(layouts)
                ],
            }
        )  # fmt: skip
        print(row, flush=True)
        rows[effect] = row
        _write(options, rows)


def _kept(options):  # type: ignore[no-untyped-def]
    """Read the rows of an earlier call of the same size, by effect."""
    try:
        content = json.loads((options.out / "listening.json").read_text())
    except FileNotFoundError:
        return {}
    same = (content["runs"], content["draws"]) == (options.runs, options.draws)
    return {row["effect"]: row for row in content["rows"]} if same else {}


def _write(options, rows):  # type: ignore[no-untyped-def]
    content = {
        "schema": 1, "command": f"python benchmarks/listening.py --runs {options.runs}",
        "date": datetime.date.today().isoformat(), "simulated": True, "runs": options.runs,
        "draws": options.draws, "rows": [rows[effect] for effect in sorted(rows)],
    }  # fmt: skip
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "listening.json").write_text(json.dumps(content, indent=1) + "\n")
    (options.out / "listening.md").write_text(_markdown(content))


def _truth(study, layouts, effect):  # type: ignore[no-untyped-def]
    """Find the true mean scores from 60 times as many raters' worlds, noise averaged away."""
    rng = np.random.default_rng(99)
    sums = np.zeros(len(layouts))
    worlds = 400
    for _ in range(worlds):
        model = RaterModel(effects={study.arms[0].name: effect}, careless=0.0)
        world = World(model, study, study.raters.count, rng)
        sums += [simulate_scores(world, plan).mean() for plan in layouts]
    return np.zeros(len(layouts)) if effect == 0 else sums / worlds


def _markdown(content) -> str:  # type: ignore[no-untyped-def]
    n = content["runs"]
    half = 1.96 * np.sqrt(0.95 * 0.05 / n)
    lines = [
        "# Known answers of the listening analysis", "",
        f"Simulated raters: no people took part. `{content['command']}`, {content['date']}. The "
        f"paper's preset: 12 raters, 101 and 50 prompts, 3 raters a prompt; {n} studies a row "
        f"(a share of 95 % is known to +-{100 * half:.1f} points).", "",
        "| true effect, points | studies with any finding (Holm) | the same, naive |",
        "|---|---|---|",
        *(f"| {r['effect']:g} | {100 * r['any_found']:.1f} % | {100 * r['any_found_naive']:.1f} % |"
          for r in content["rows"]), "",
        "At effect 0 every finding is false: 5 % is what the level allows.", "",
        "| effect | item | true score | planned power | found (Holm) | interval covers "
        "| naive interval covers |",
        "|---|---|---|---|---|---|---|",
        *(f"| {r['effect']:g} | {i['item']} | {i['truth']:+.3f} | {100 * i['planned']:.1f} % | "
          f"{100 * i['found']:.1f} % | "
          f"{100 * i['cover']:.1f} % | {100 * i['cover_naive']:.1f} % |"
          for r in content["rows"] for i in r["items"]), "",
    ]  # fmt: skip
    return "\n".join(lines)


if __name__ == "__main__":
    main()
