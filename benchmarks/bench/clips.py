"""Whole clips by the pipeline: text to file, start-up, long clips, many clips."""

import os
import statistics
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import fresh, turns
from bench.shapes import pocket_folder


@dataclass(frozen=True)
class Lengths:
    """How much of everything is made."""

    clip_s: float = 10.0
    repeats: int = 7
    starts: int = 3
    warm_s: float = 1.0
    long_s: tuple[float, ...] = (10.0, 60.0, 600.0)
    part_frames: int | None = None
    """Of a long clip, decoded to sound at once; None for as many as `generate` takes."""
    many: int = 200
    many_s: float = 3.0
    tenth: int = 10
    compile_anew: bool = True
    """Also start once with numba's cache empty, as after an installation."""
    tiny: bool = False


QUICK = Lengths(
    clip_s=0.4, repeats=2, starts=1, warm_s=0.1, long_s=(0.2, 0.4, 1.0), part_frames=10,
    many=12, many_s=0.1, tenth=5, compile_anew=False, tiny=True,
)  # fmt: skip


def measure_text_to_file(lengths: Lengths, temporary: Path) -> dict[str, Any]:
    """Time a clip from text to file on one core, the model loaded and once used."""
    model, called = pocket_folder(temporary, tiny=lengths.tiny)
    job = _job("text_to_file", model, temporary) | {
        "seconds": lengths.clip_s, "repeats": lengths.repeats,
    }  # fmt: skip
    result = fresh.run_fresh(job)
    times = result["times_s"]
    rows = [{"name": f"text to file, {lengths.clip_s:g} s of music", "min_s": min(times),
             "median_s": statistics.median(times), "parts_s": result["parts_s"]}]  # fmt: skip
    notes = [f"model: {called}, dtype {result['dtype']}; one core, guidance as the model's default"]
    return {"rows": rows, "notes": notes}


def measure_start(lengths: Lengths, temporary: Path) -> dict[str, Any]:
    """Time new processes on one core: import, load, first sound, each from its very start."""
    model, called = pocket_folder(temporary, tiny=lengths.tiny)
    job = _job("start", model, temporary)
    fresh.run_fresh(job)  # fills the page cache, and numba's where it is used
    rows = [_start_row("files in the page cache", [fresh.run_fresh(job)
                                                   for _ in range(lengths.starts)])]  # fmt: skip
    if not lengths.tiny:
        dropped = _drop_pages(Path(model) if model != "pocket" else None)
        rows.append(_start_row(f"{dropped:.1f} GB of files dropped from the page cache",
                               [fresh.run_fresh(job)]))  # fmt: skip
    if lengths.compile_anew:
        with tempfile.TemporaryDirectory() as empty:
            anew = fresh.run_fresh(job, {"NUMBA_CACHE_DIR": empty})
        rows.append(_start_row("first start ever: native code not yet compiled", [anew]))
    notes = [
        f"model: {called}; one core",
        "dropped: by posix_fadvise, which spares files that another process has open in memory",
    ]
    return {"rows": rows, "notes": notes}


def measure_long(lengths: Lengths, temporary: Path) -> dict[str, Any]:
    """Time clips of several lengths and their memory, each length in a process, one core.

    They take turns (`turns`): the long clip's time and the mean of the short ones between its
    stretches saw the same machine.
    """
    model, called = pocket_folder(temporary, tiny=lengths.tiny)
    jobs = [
        _job("long", model, temporary) | {
            "seconds": seconds, "warm_s": lengths.warm_s, "folder": str(temporary / f"{seconds:g}"),
            "part_frames": lengths.part_frames,
        }
        for seconds in lengths.long_s
    ]  # fmt: skip
    with turns.makers_of(jobs, here=lengths.tiny) as makers:
        made = turns.take_turns(makers)
    rows = []
    for seconds, clips in zip(lengths.long_s, made, strict=True):
        mean = statistics.mean(clip["wall_s"] for clip in clips)
        rows.append({"name": f"{seconds:g} s of music", "seconds": seconds, "makings": len(clips),
                     "mean_s": mean, "per_second_s": mean / seconds,
                     "cpu_per_second_s": statistics.mean(c["cpu_s"] for c in clips) / seconds,
                     "peak_mb": clips[-1]["peak_mb"]})  # fmt: skip
    notes = [
        f"model: {called}; one core; all lengths in turns, a stretch each",
        "peak: largest resident size",
    ]
    return {"rows": rows, "notes": notes, "made": made}


def measure_many(lengths: Lengths, temporary: Path) -> dict[str, Any]:
    """Make many clips in one process and watch its memory."""
    model, called = pocket_folder(temporary, tiny=lengths.tiny)
    job = _job("many", model, temporary) | {"seconds": lengths.many_s, "count": lengths.many}
    result = fresh.run_fresh(job)
    held = result["held_mb"]
    rows = [{"name": f"after clip {n}", "clip": n, "held_mb": held[n - 1]}
            for n in (1, lengths.tenth, lengths.many // 2, lengths.many)]  # fmt: skip
    notes = [f"model: {called}; clips of {lengths.many_s:g} s, one after the other, one core"]
    return {"rows": rows, "notes": notes, "held_mb": held, "peak_mb": result["peak_mb"],
            "tenth_mb": held[lengths.tenth - 1], "last_mb": held[-1]}  # fmt: skip


def _job(kind: str, model: str, temporary: Path) -> dict[str, Any]:
    return {"kind": kind, "model": model, "folder": str(temporary / "made"), "cores": 1}


def _start_row(name: str, results: list[dict[str, Any]]) -> dict[str, Any]:
    """Summarise starts; the interpreter's own start is in `process_s`."""
    best = min(results, key=lambda r: r["process_s"])
    row = {key: best[key] for key in ("import_s", "load_s", "first_sound_s", "process_s")}
    return {"name": name, "starts": len(results), **row}


def _drop_pages(model: Path | None) -> float:
    """Ask the system to forget the files that a start reads; return their size in GB."""
    import importlib.util

    roots = [Path(__file__).resolve().parents[2] / "checkpoints"]
    if model is not None:
        roots.append(model)
    for name in ("torch", "transformers", "numpy", "scipy", "numba", "llvmlite", "librosa"):
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.origin:
            roots.append(Path(spec.origin).parent)
    size = 0
    for root in roots:
        for path in root.rglob("*"):
            if path.is_file() and hasattr(os, "posix_fadvise"):
                descriptor = os.open(path, os.O_RDONLY)
                try:
                    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
                    size += path.stat().st_size
                finally:
                    os.close(descriptor)
    return size / 1e9
