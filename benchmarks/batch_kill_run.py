"""Make thousands of clips in a run that is killed again and again, verify them, print the figures.

    python benchmarks/batch_kill_run.py PROMPTS --folder DIR [--model pocket] [--prompts 300]
        [--clips 4] [--diversity 0,0.5,1] [--duration 10] [--kills 10] [--workers 1]

The run is the command line itself, in a process of its own. It is killed with signal 9 at random
moments: each time at a random count of finished clips and up to five seconds later. Then it is left
to finish, `--verify` reads every file, and some clips are made again from their own tags. The
figures are printed as lines for docs/scaling.md and written to DIR/kill_run.json. Started again
after an interruption of its own, it goes on with the kills that are left.
"""

import argparse
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from bench.machine import commit, describe_machine

from musicgen_rl.audio.io import read_tags
from musicgen_rl.batch import read_results
from musicgen_rl.batch.prompts import read_prompts
from musicgen_rl.pipeline import Pipeline
from musicgen_rl.pipeline.replay import compare, read_recipe, remake

ROOT = Path(__file__).resolve().parents[1]
LOG = "kill_run.json"
_LOOK_S = 1.0
_REMADE = 6
_DONE = 1


def main() -> None:
    """Run, kill, verify, print."""
    options = _options()
    folder = Path(options.folder)
    folder.mkdir(parents=True, exist_ok=True)
    prompts = folder / "prompts.jsonl"
    count = _write_prompts(options.source, options.prompts, prompts)
    positions = len(options.diversity.split(",")) if options.diversity else 1
    total = count * options.clips * positions
    log = _read_log(folder) or {"seed": random.SystemRandom().randrange(10**6), "lives": []}
    chance = random.Random(log["seed"])
    # Where it dies: random counts of finished clips, in order.
    deaths = sorted(chance.sample(range(total), min(options.kills, total)))
    command = [
        sys.executable, "-m", "musicgen_rl", "batch", str(prompts), "-o", str(folder),
        "-n", str(options.clips), "--duration", str(options.duration), "--model", options.model,
        "--workers", str(options.workers), "--max-failures", "0",
    ]  # fmt: skip
    command += ["--diversity", options.diversity] if options.diversity else []
    for death in [*deaths[_kills(log) :], None]:
        life = _live(command, folder, death, chance.uniform(0.0, 5.0))
        log["lives"].append(life)
        (folder / LOG).write_text(json.dumps(log, indent=1))
        print(f"finished {life['after']} of {total}, {life['ended']}", flush=True)
        if death is None and life["code"]:
            sys.exit(f"the last run ended with {life['code']}: {life['said']}")
    start = time.monotonic()
    checked = subprocess.run([*command, "--verify"], cwd=ROOT, stderr=subprocess.PIPE, text=True)
    log["verify"] = {
        "code": checked.returncode, "said": checked.stderr.strip().splitlines()[-1:],
        "seconds": time.monotonic() - start,
    }  # fmt: skip
    log |= _figures(folder, options, total, log) | {"remade_identical": _remake(folder, options)}
    log |= {"machine": describe_machine(), "commit": commit(ROOT)}
    (folder / LOG).write_text(json.dumps(log, indent=1))
    print("\n".join(_lines(log)))
    sys.exit(checked.returncode or log["remade_identical"] < _REMADE)


def _live(command: list[str], folder: Path, death: int | None, late_s: float) -> dict[str, Any]:
    """Run once, until it ends or `death` clips are finished and `late_s` seconds have passed."""
    before, start = _finished(folder), time.monotonic()
    first_s = None
    log = (folder / "log.txt").open("a")
    running = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=log)
    ended = ""
    while running.poll() is None:
        time.sleep(_LOOK_S)
        now = _finished(folder)
        if first_s is None and now > before:
            first_s = time.monotonic() - start
        if death is not None and now >= death:
            time.sleep(late_s)
            os.kill(running.pid, signal.SIGKILL)
            ended = "killed"
            break
    code = running.wait()
    log.close()
    return {
        "before": before, "after": _finished(folder), "seconds": time.monotonic() - start,
        "first_clip_s": first_s, "code": code, "ended": ended or f"exit status {code}",
        "said": (folder / "log.txt").read_text().strip().splitlines()[-1:],
    }  # fmt: skip


def _finished(folder: Path) -> int:
    """Count the clips that are recorded, beside the running process."""
    path = folder / "plan.sqlite"
    if not path.is_file():
        return 0
    try:
        connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=5)
        try:
            query = "SELECT count(*) FROM clips WHERE state = ?"
            return int(connection.execute(query, (_DONE,)).fetchone()[0])
        finally:
            connection.close()
    except sqlite3.OperationalError:  # it is being made
        return 0


def _figures(
    folder: Path, options: argparse.Namespace, total: int, log: dict[str, Any]
) -> dict[str, Any]:
    results = list(read_results(folder).values())
    files = [p for p in (folder / "clips").rglob("*") if p.is_file()]
    audio_s = sum(r.duration_s for r in results)
    working_s = sum(life["seconds"] for life in log["lives"])
    starts = [life["first_clip_s"] for life in log["lives"] if life["first_clip_s"]]
    return {
        "model": results[0].settings["model"],
        "dtype": results[0].settings["dtype"],
        "clips_planned": total,
        "clips": len(results),
        "distinct_ids": len({r.id for r in results}),
        "distinct_codes": len({r.codes_sha256 for r in results}),
        "files": len(files),
        "bytes": sum(p.stat().st_size for p in files),
        "by_diversity": dict(Counter(str(r.item.diversity) for r in results)),
        "kills": _kills(log),
        "audio_h": audio_s / 3600,
        "working_s": working_s,
        "frames_per_s": sum(r.num_frames for r in results) / working_s,
        "times_real_time": audio_s / working_s,
        "start_to_first_clips_s": sorted(starts)[len(starts) // 2] if starts else None,
        "workers": options.workers,
        "duration_s": options.duration,
    }


def _remake(folder: Path, options: argparse.Namespace) -> int:
    """Make some clips again from their own tags; count those that come out the same."""
    results = list(read_results(folder).values())
    some = random.Random(0).sample(results, min(_REMADE, len(results)))
    pipeline = Pipeline.load(options.model)
    same = 0
    for result in some:
        recipe = read_recipe(read_tags(result.path))
        same += compare(recipe, remake(pipeline, recipe).codes, pipeline).identical
    return same + _REMADE - len(some)


def _lines(log: dict[str, Any]) -> list[str]:
    return [
        f"- {log['clips']} of {log['clips_planned']} clips of {log['duration_s']:g} s, "
        f"{log['audio_h']:.2f} h of audio, {log['bytes'] / 1e9:.2f} GB; {log['model']} in "
        f"{log['dtype']}, {log['workers']} worker(s), {log['machine']['cpu']}, commit "
        f"{log['commit']}",
        f"- {log['kills']} kills with signal 9; {log['files']} files for {log['distinct_ids']} "
        f"ids, {log['distinct_codes']} different code sequences; by position of the dial: "
        + ", ".join(f"{k}: {v}" for k, v in sorted(log["by_diversity"].items())),
        f"- {log['working_s'] / 60:.0f} minutes of work in all, {log['frames_per_s']:.0f} "
        f"frames/s, {log['times_real_time']:.1f} x real time, all that the kills cost included; "
        f"a restart has its first clips after {log['start_to_first_clips_s'] or 0:.0f} s (median)",
        f"- verified in {log['verify']['seconds']:.0f} s: {' '.join(log['verify']['said'])}; "
        f"{log['remade_identical']} of {_REMADE} clips made again from their tags are identical",
    ]


def _kills(log: dict[str, Any]) -> int:
    return sum(life["ended"] == "killed" for life in log["lives"])


def _read_log(folder: Path) -> dict[str, Any] | None:
    path = folder / LOG
    if not path.is_file():
        return None
    found = json.loads(path.read_text())
    return {"seed": found["seed"], "lives": found["lives"]}


def _write_prompts(source: str, count: int, target: Path) -> int:
    rows = read_prompts(source)[:count]
    lines = [
        json.dumps({"prompt": r.values["prompt"], "id": r.values.get("name", f"line-{i}")})
        for i, r in enumerate(rows)
    ]
    target.write_text("\n".join(lines) + "\n")
    return len(rows)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", metavar="PROMPTS", help="txt, csv, jsonl or parquet")
    parser.add_argument("--folder", required=True, help="of the run")
    parser.add_argument("--model", default="pocket")
    parser.add_argument("--prompts", type=int, default=300, help="the first so many")
    parser.add_argument("--clips", type=int, default=4, help="of each, at each position")
    parser.add_argument("--diversity", default="0,0.5,1", help="positions; '' for the base")
    parser.add_argument("--duration", type=float, default=10.0, help="of each clip, seconds")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--workers", type=int, default=1)
    return parser.parse_args()


if __name__ == "__main__":
    main()
