"""Measurements that need a process of their own: start-up, memory, text to file.

Run as a script with a job in JSON as its argument; prints a result in JSON as its last line.
"""

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

PROMPT = "slow sad piano, late at night"


def run_fresh(job: dict[str, Any], environment: dict[str, str] | None = None) -> dict[str, Any]:
    """Do a job in a new process; it is told when it was `begun`, and the result its `total_s`."""
    job = job | {"begun": time.time()}
    start = time.perf_counter()
    said = subprocess.run(
        [sys.executable, __file__, json.dumps(job)],
        capture_output=True, text=True, env=os.environ | (environment or {}),
    )  # fmt: skip
    total = time.perf_counter() - start
    if said.returncode:
        raise RuntimeError(f"{job['kind']} failed:\n{said.stderr[-2000:]}")
    result: dict[str, Any] = json.loads(said.stdout.splitlines()[-1])
    return result | {"total_s": total}


def start(job: dict[str, Any]) -> dict[str, Any]:
    """Import, load, and make the first sound; `process_s` is from before the process to loaded."""
    began = time.perf_counter()
    from bench.machine import use_cores

    use_cores(job["cores"])
    from musicgen_rl.pipeline import Pipeline

    imported = time.perf_counter()
    pipeline = Pipeline.load(job["model"])
    loaded = time.perf_counter()
    since_begin = time.time() - job["begun"]
    next(iter(pipeline.stream(PROMPT, duration_s=1.0, seed=1)))
    return {
        "import_s": imported - began,
        "load_s": loaded - imported,
        "first_sound_s": time.perf_counter() - loaded,
        "process_s": since_begin,
    }


def many_clips(job: dict[str, Any]) -> dict[str, Any]:
    """Make `count` clips one after the other; memory after each."""
    pipeline = load(job)
    held = []
    for _ in range(job["count"]):
        make(pipeline, job, job["seconds"])
        held.append(now_mb())
    return {"held_mb": held, "peak_mb": peak_mb()}


def text_to_file(job: dict[str, Any]) -> dict[str, Any]:
    """Time text to file after loading, and its parts."""
    pipeline = load(job)
    make(pipeline, job, job["seconds"])
    times = []
    for _ in range(job["repeats"]):
        began = time.perf_counter()
        make(pipeline, job, job["seconds"])
        times.append(time.perf_counter() - began)
    return {"times_s": times, "parts_s": _parts(pipeline, job["seconds"]), "dtype": pipeline.dtype}


def peak_mb() -> float:
    """Read this process's largest resident size so far, MB."""
    size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return size / (1e6 if sys.platform == "darwin" else 1e3 / 1.024)


def now_mb() -> float:
    """Read this process's resident size, MB; the peak where the system does not say."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return peak_mb()
    return pages * resource.getpagesize() / 1e6


def load(job: dict[str, Any]) -> Any:
    """Load the model of a job, on the cores it names."""
    from bench.machine import use_cores

    use_cores(job["cores"])
    from musicgen_rl.pipeline import Pipeline

    return Pipeline.load(job["model"])


def make(
    pipeline: Any, job: dict[str, Any], seconds: float, heard: Callable[..., None] | None = None
) -> None:
    """Make one file and remove it, so that a full disk is not what is measured.

    Args:
        pipeline: loaded.
        job: names the `folder`, and perhaps `part_frames`, codes decoded to sound at once.
        seconds: of music.
        heard: called after every part that became sound.
    """
    from musicgen_rl.pipeline.core import CHUNK_FRAMES
    from musicgen_rl.pipeline.files import generate_files
    from musicgen_rl.pipeline.request import GenerationConfig

    request = GenerationConfig(duration_s=seconds, seed=1)
    files = generate_files(
        pipeline, [PROMPT], request, pipeline.info.sampling, folder=Path(job["folder"]),
        part_frames=job.get("part_frames") or CHUNK_FRAMES, heard=heard,
    )  # fmt: skip
    for path in files:
        path.unlink()


def _parts(pipeline: Any, seconds: float) -> dict[str, float]:
    """Time the stages one by one: text, tokens, sound, and by difference levelling and writing."""
    import torch

    from musicgen_rl.pipeline.request import GenerationConfig

    request = GenerationConfig(duration_s=seconds, seed=1)
    batch = pipeline.plan([PROMPT], request, pipeline.info.sampling)[0]
    began = time.perf_counter()
    pipeline.text.encode(["another " + PROMPT])
    text = time.perf_counter() - began
    began = time.perf_counter()
    parts = list(pipeline.chunks(batch, request, pipeline.info.sampling))
    all_of_it = time.perf_counter() - began
    codes = torch.cat([torch.from_numpy(p.codes) for p in parts], -1)
    began = time.perf_counter()
    with torch.inference_mode():
        pipeline.codec.decode(codes)
    sound = time.perf_counter() - began
    return {"text": text, "tokens": all_of_it - sound, "codec": sound}


JOBS = {"start": start, "many": many_clips, "text_to_file": text_to_file}


def main() -> None:
    """Do the job given as the argument."""
    job = json.loads(sys.argv[1])
    print(json.dumps(JOBS[job["kind"]](job)))


if __name__ == "__main__":
    main()
