"""Does heat keep pocket from holding one note, and in which codebooks is it needed?

    python benchmarks/codebook_temperatures.py [--model pocket] [--captions 48] [--seconds 30]

Each row is the model with other temperatures folded into its heads (`training/temper.py`), counted
from the weights as they were trained, whatever is folded in already. Captions of the development
split are played once each, seed 0, with the model's own sampling, and on the dial where a row says
so. Measures are those of pocket_music.py; *drones* is the share of clips whose last ten seconds
have the loudest pitch class of a second before in more than .8 of the time. With `--real MANIFEST`
held-out pieces are measured beside them. Nothing here was looked at on the final captions.

Writes codebook_temperatures.md and .json; a row that is there already, of the same weights, is not
made again.
"""

import argparse
import json
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pocket_music import (
    RATE,
    Sound,
    choose,
    form,
    generate,
    held,
    longest_loop,
    pulse_and_wobble,
    real_sound,
)
from pocket_prompts import in_scale

from musicgen_rl.checkpoint import checkpoints_folder, find_model, read_info
from musicgen_rl.data.pocket.listen import harmonic_chroma
from musicgen_rl.pipeline import Pipeline
from musicgen_rl.storage import read_json, write_json
from musicgen_rl.training.temper import FOLDED, temper

ROWS: dict[str, tuple[list[float], float | None]] = {
    "1.1 all": ([1.1] * 8, None),
    "1.21 all": ([1.21] * 8, None),
    "1.32 all": ([1.32] * 8, None),
    "1.32 first": ([1.32] + [1.1] * 7, None),
    "1.32 second to fourth": ([1.1] + [1.32] * 3 + [1.1] * 4, None),
    "1.32 fifth to eighth": ([1.1] * 4 + [1.32] * 4, None),
    "1.32 all but the first": ([1.1] + [1.32] * 7, None),
    "1.1, 1.21 to the fourth, 1.32": ([1.1] + [1.21] * 3 + [1.32] * 4, None),
    "dial 0: 1.1 all": ([1.1] * 8, 0.0),
    "dial 0: 1.1, 1.21 to the fourth, 1.32": ([1.1] + [1.21] * 3 + [1.32] * 4, 0.0),
    "dial .5: 1.1 all": ([1.1] * 8, 0.5),
    "dial .5: 1.1, 1.21 to the fourth, 1.32": ([1.1] + [1.21] * 3 + [1.32] * 4, 0.5),
}
"""Row -> (temperature of each codebook, where the dial stands)."""
MEASURES = ("drones", "held", "pulse", "beat wobble", "in scale", "returns", "loop, s")
DRONE, LAST_S = 0.8, 10


def measure(sound: Sound) -> dict[str, float]:
    """Measure one clip."""
    samples = sound.samples
    _, pulse, wobble = pulse_and_wobble(samples)
    loop = longest_loop(sound.codes[:2], round(sound.frame_rate)) / sound.frame_rate
    return {
        "drones": float(held(samples[-LAST_S * RATE :]) > DRONE), "held": held(samples),
        "pulse": pulse, "beat wobble": wobble, "in scale": in_scale(harmonic_chroma(samples)),
        "returns": form(samples)[1], "loop, s": loop,
    }  # fmt: skip


def play(
    source: Path, total: Sequence[float], captions: list[str], seconds: float, dial: float | None
) -> list[Sound]:
    """Generate with the temperatures `total` instead of those folded into a model."""
    folded = read_info(source).notes.get(FOLDED, 1.0)
    before = folded if isinstance(folded, list) else [folded] * len(total)
    relative = [new / old for new, old in zip(total, before, strict=True)]
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(checkpoints_folder() / "minilm", Path(folder) / "minilm")
        pipeline = Pipeline.load(
            str(temper(source, Path(folder) / "model", relative)), device="cpu"
        )
        return generate(pipeline, captions, seconds, dial)


def summarise(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Average every measure over clips."""
    return {name: float(np.nanmean([row[name] for row in rows])) for name in MEASURES}


def markdown(about: Mapping[str, Any], rows: Mapping[str, Mapping[str, Any]]) -> str:
    """Write the table."""
    lines = [
        f"# Temperature by codebook: {about['model']}", "",
        f"Made by `benchmarks/codebook_temperatures.py`: {about['captions']} captions of the "
        f"development split, a clip of {about['seconds']:g} s each.", "",
        "| temperature of codebooks | " + " | ".join(MEASURES) + " |",
        "|---" * (len(MEASURES) + 1) + "|",
    ]  # fmt: skip
    for name, row in rows.items():
        cells = [f"{row['means'][key]:.1%}" if key == "drones" else f"{row['means'][key]:.2f}"
                 for key in MEASURES]  # fmt: skip
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="pocket")
    parser.add_argument("--captions", type=int, default=48)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--rows", nargs="+", default=list(ROWS), choices=list(ROWS))
    parser.add_argument("--real", type=Path, help="manifest of held-out pieces")
    parser.add_argument(
        "--prompts", type=Path, default=Path("docs/results/pocket/development.jsonl")
    )
    parser.add_argument(
        "--out", type=Path, default=Path("benchmarks/results/codebook_temperatures")
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    source = find_model(options.model)
    lines = options.prompts.read_text(encoding="utf-8").splitlines()
    captions = [json.loads(line)["prompt"] for line in lines][: options.captions]
    about = {
        "model": read_info(source).name, "captions": len(captions), "seconds": options.seconds,
        "model_sha256": Pipeline.load(str(source), device="cpu").model_sha256,
    }  # fmt: skip
    kept = options.out.with_suffix(".json")
    rows: dict[str, Any] = {}
    if kept.is_file() and (found := read_json(kept))["about"] == about:
        rows = found["rows"]
    for name in options.rows:
        if name in rows:
            continue
        begun = time.perf_counter()
        total, dial = ROWS[name]
        clips = [measure(s) for s in play(source, total, captions, options.seconds, dial)]
        rows[name] = {"temperatures": total, "dial": dial, "means": summarise(clips)}
        rows = {row: rows[row] for row in (*ROWS, "real") if row in rows}
        write_json(kept, {"about": about, "rows": rows})
        print(f"{name}: {rows[name]['means']} {time.perf_counter() - begun:.0f} s", flush=True)
    if options.real:
        pipeline = Pipeline.load(str(source), device="cpu")
        pieces = choose([options.real], len(captions), options.seconds + 3)
        clips = [measure(real_sound(path, pipeline.codec, pipeline.info.frame_rate))
                 for path, *_ in pieces]  # fmt: skip
        rows["real"] = {"means": summarise(clips)}
        write_json(kept, {"about": about, "rows": rows})
    options.out.with_suffix(".md").write_text(markdown(about, rows), encoding="utf-8")


if __name__ == "__main__":
    main()
