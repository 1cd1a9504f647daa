"""Measure decoding: ours, transformers and OpenVINO in the same run, each beside its floor.

    python benchmarks/decode.py [--quick] [--out benchmarks/results] [--only SECTION ...]

Writes decode.json, decode.md and decode.svg. Every section runs in a process of its own that is
confined to the cores it claims; inside, all candidates take turns. Nothing else should run
meanwhile; about ten minutes. `--quick` runs all of it with tiny sizes, in one process, to try the
code.
"""

import argparse
import datetime
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.machine import commit, describe_machine, describe_versions

ROOT = Path(__file__).resolve().parents[1]
SCHEMA = 1
SECTIONS = (
    "step_30m", "step_small", "step_pocket", "clips_30m", "text_to_file", "start", "long", "many",
    "gpu",
)  # fmt: skip


def main() -> None:
    """Measure and write."""
    options = _options()
    if options.section:  # this is the process of one section
        _one_section(options.section, Path(options.out))
        return
    out = Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    result: dict[str, Any] = {
        "schema": SCHEMA,
        "command": "python benchmarks/decode.py" + (" --quick" if options.quick else ""),
        "date": datetime.date.today().isoformat(),
        "commit": commit(ROOT),
        "quick": options.quick,
        "machine": describe_machine(),
        "versions": describe_versions(),
        "sections": {},
    }
    if options.only and (out / "decode.json").is_file():  # the other sections stay as they were
        kept = json.loads((out / "decode.json").read_text())
        for name, section in kept["sections"].items():
            result["sections"][name] = {"commit": kept["commit"]} | section
    for name in options.only or SECTIONS:
        print(f"{name} ...", end="", flush=True)
        start = time.perf_counter()
        section = _quick_section(name) if options.quick else _in_own_process(name)
        section["took_s"] = round(time.perf_counter() - start, 1)
        section["commit"] = result["commit"]
        result["sections"][name] = section
        print(f" {section['took_s']:.0f} s{' FAILED' if 'error' in section else ''}", flush=True)
    _write(result, out)
    failed = [name for name, section in result["sections"].items() if "error" in section]
    for name in failed:
        print(f"{name}: {result['sections'][name]['error']}", file=sys.stderr)
    sys.exit(1 if failed else 0)


def _write(result: dict[str, Any], out: Path) -> None:
    from bench.figure import draw
    from bench.report import markdown
    from bench.targets import judge

    result["targets"] = judge(result["sections"])
    (out / "decode.json").write_text(json.dumps(result, indent=1) + "\n")
    page = markdown(result)
    (out / "decode.md").write_text(page)
    draw(result, out / "decode.svg")
    print(page[page.index("## Targets") :].split("\n## ")[0])
    print(f"written: {out / 'decode.json'}, decode.md, decode.svg")


def _in_own_process(name: str) -> dict[str, Any]:
    """Run one section in a new process; what fails there is told, and the others go on."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "section.json"
        cores = str(_cores(name))
        environment = os.environ | {"OMP_NUM_THREADS": cores, "MKL_NUM_THREADS": cores}
        said = subprocess.run(
            [sys.executable, __file__, "--section", name, "--out", str(file)],
            env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        if said.returncode or not file.is_file():
            last = said.stderr.strip().splitlines()[-1:] or [f"exit status {said.returncode}"]
            return {"rows": [], "notes": [], "error": last[0]}
        section: dict[str, Any] = json.loads(file.read_text())
        return section


def _one_section(name: str, file: Path) -> None:
    if name.startswith(("step", "clips")):
        from bench.machine import use_cores

        use_cores(_cores(name))
    with tempfile.TemporaryDirectory() as temporary:
        file.write_text(json.dumps(_full(Path(temporary))[name]()))


def _full(temporary: Path) -> dict[str, Callable[[], dict[str, Any]]]:
    """Say what each section measures; imports late, since some sections need no torch here."""
    from bench import clips, gpu, steps
    from bench.shapes import DECODER_30M, MUSICGEN_SMALL, POCKET

    lengths = clips.Lengths()
    one = steps.Plan(config=DECODER_30M, cores=1, rounds=15)
    small = steps.Plan(config=MUSICGEN_SMALL, cores=2, rounds=7, steps=4, generate_steps=24)
    pocket = steps.Plan(config=POCKET, cores=1, context=125, rounds=15)
    many = steps.Plan(config=DECODER_30M, cores=1, rounds=7)
    return {
        "step_30m": lambda: steps.measure_step(one),
        "step_small": lambda: steps.measure_step(small),
        "step_pocket": lambda: steps.measure_step(pocket),
        "clips_30m": lambda: steps.measure_clips(many),
        "text_to_file": lambda: clips.measure_text_to_file(lengths, temporary),
        "start": lambda: clips.measure_start(lengths, temporary),
        "long": lambda: clips.measure_long(lengths, temporary),
        "many": lambda: clips.measure_many(lengths, temporary),
        "gpu": lambda: gpu.measure_gpu(MUSICGEN_SMALL),
    }


def _quick_section(name: str) -> dict[str, Any]:
    """Run one section with tiny sizes here; only what must start anew starts anew."""
    from bench import clips, fresh, gpu, steps
    from bench.shapes import TINY

    fresh.run_fresh = _run_here  # type: ignore[assignment]
    tiny = steps.Plan(
        config=TINY, cores=1, context=12, rounds=2, steps=2, generate_steps=8, clips=(1, 2),
        peer_clips=(2,), openvino=False,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        temporary = Path(folder)
        sections: dict[str, Callable[[], dict[str, Any]]] = {
            "step_30m": lambda: steps.measure_step(tiny),
            "step_small": lambda: steps.measure_step(tiny),
            "step_pocket": lambda: steps.measure_step(tiny),
            "clips_30m": lambda: steps.measure_clips(tiny),
            "text_to_file": lambda: clips.measure_text_to_file(clips.QUICK, temporary),
            "start": lambda: clips.measure_start(clips.QUICK, temporary),
            "long": lambda: clips.measure_long(clips.QUICK, temporary),
            "many": lambda: clips.measure_many(clips.QUICK, temporary),
            "gpu": lambda: gpu.measure_gpu(
                TINY, clips=(1, 2), context=12, rounds=2, steps=2, device="cpu", dtype="fp32"
            ),
        }
        return sections[name]()


def _run_here(job: dict[str, Any], environment: dict[str, str] | None = None) -> dict[str, Any]:
    from bench import fresh

    start = time.perf_counter()
    return fresh.JOBS[job["kind"]](job | {"begun": time.time()}) | {
        "total_s": time.perf_counter() - start
    }


def _cores(name: str) -> int:
    return 2 if name == "step_small" else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="tiny sizes, seconds")
    parser.add_argument("--out", default=str(ROOT / "benchmarks" / "results"), help="folder")
    parser.add_argument("--only", nargs="+", choices=SECTIONS, help="some sections only")
    parser.add_argument("--section", choices=SECTIONS, help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
