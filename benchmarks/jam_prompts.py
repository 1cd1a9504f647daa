"""Does a jam play what it is told while it plays?

    python benchmarks/jam_prompts.py [--model pocket] [--diversity 0.5] [--seeds 2] [--out STEM]

A jam as the studio begins it, with chords that fit its words, plays each of the 31 styles by its
name for ten seconds, then is told another one and plays on for twelve. Told is of how many the
style probe hears the first style before, and the new and the first style in seconds 1 to 6 and
in the last five after: with all of the past heard on and no guidance, with next to nothing of it
heard on (`Jam`'s keeps_s), and with that and both beginnings guided as the model does by itself.
"""

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pocket_prompts import REWARDS

from musicgen_rl.data.chords import AUTO_CHORDS
from musicgen_rl.data.pocket.styles import STYLES
from musicgen_rl.errors import MusicgenRLError
from musicgen_rl.pipeline import GenerationConfig, Pipeline
from musicgen_rl.pipeline.dial import sampling_at
from musicgen_rl.pipeline.holds import begins_with
from musicgen_rl.pipeline.jam import KEEPS_S, Jam
from musicgen_rl.pipeline.moves import Move
from musicgen_rl.rewards import load_probe
from musicgen_rl.storage import write_json

WAYS: dict[str, tuple[float | None, bool]] = {
    "all heard on, unguided": (None, False),
    "hardly anything heard on, unguided": (KEEPS_S, False),
    "hardly anything heard on, begun guided": (KEEPS_S, True),
}
BEFORE_S, AFTER_S = 10, 12
HEARD = ("first, before", "new, 1 to 6 s", "new, last 5 s", "first, last 5 s")


def render(found: Mapping[str, Any]) -> str:
    """Write the shares as Markdown."""
    lines = [
        "# Does a jam play what it is told?", "",
        f"Made by `benchmarks/jam_prompts.py`; its first lines say what is measured. "
        f"{found['model']} at {found['diversity']:g} of the dial, {found['jams']} jams a row.", "",
        "| | " + " | ".join(HEARD) + " |", "|---" * (len(HEARD) + 1) + "|",
    ]  # fmt: skip
    for way, shares in found["ways"].items():
        lines.append(f"| {way} | " + " | ".join(f"{share:.2f}" for share in shares) + " |")
    return "\n".join([*lines, ""])


def play(
    pipeline: Pipeline, first: str, then: str, seed: int, diversity: float, way: str
) -> torch.Tensor:
    """Play a jam that is told another style, mono [1, M]."""
    keeps_s, guided = WAYS[way]
    held = GenerationConfig(chords=AUTO_CHORDS, steady=True, diversity=diversity)
    drawn = sampling_at(pipeline.info, diversity, holds=guided)
    move = Move(frame=0, prompt=first, sampling=drawn, diversity=diversity)
    begins = begins_with(pipeline.holds, first, seed, held)
    jam = Jam(pipeline, move, seed, begins=begins, keeps_s=keeps_s)
    rate = pipeline.info.frame_rate
    sound = [jam.advance(round(BEFORE_S * rate))]
    jam.change(prompt=then)
    sound.append(jam.advance(round(AFTER_S * rate)))
    jam.close()
    return torch.from_numpy(np.concatenate(sound, axis=1).mean(axis=0))[None]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="pocket")
    parser.add_argument("--diversity", type=float, default=0.5)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/jam_prompts"))
    given = parser.parse_args()
    names = list(STYLES)
    ways: dict[str, list[float]] = {}
    try:
        pipeline, probe = Pipeline.load(given.model), load_probe(REWARDS / "probe")
        rate = pipeline.sample_rate

        def hears(sound: torch.Tensor, style: str) -> bool:
            heard = int(probe.log_probs(sound, rate)["style"].argmax(dim=1))
            return probe.classes["style"][heard] == style

        for way in WAYS:
            rows = []
            for seed in range(given.seeds):
                for place, first in enumerate(names):
                    then = names[(place + 7 + 5 * seed) % len(names)]
                    mono = play(pipeline, first, then, seed, given.diversity, way)
                    told = BEFORE_S * rate
                    early, late = mono[:, told + rate : told + 6 * rate], mono[:, -5 * rate :]
                    rows.append([hears(mono[:, :told], first), hears(early, then),
                                 hears(late, then), hears(late, first)])  # fmt: skip
            ways[way] = [float(share) for share in np.mean(rows, axis=0)]
    except MusicgenRLError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    found = {"model": given.model, "diversity": given.diversity, "seeds": given.seeds,
             "model_sha256": pipeline.model_sha256, "jams": given.seeds * len(names),
             "ways": ways}  # fmt: skip
    write_json(given.out.with_suffix(".json"), found)
    given.out.with_suffix(".md").write_text(render(found), encoding="utf-8")
    sys.stdout.write(render(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
