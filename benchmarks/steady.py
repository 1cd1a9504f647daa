"""What does a steady beat do where no tempo is named?

    python benchmarks/steady.py --manifest held_out/manifest.jsonl [--model pocket]
        [--diversity 0 ...] [--keys [own] [auto]] [--split test] [--pieces 60] [--seconds 16]
        [--seed 3] [--out STEM]

A caption that names no tempo is drawn of each held-out piece and played once left free and once
held to a tempo that the model finds in the words (`--steady`), beside the piece itself. Told are,
as in `benchmarks/pocket_music.py`: *pulse*, the highest autocorrelation of the onset strength;
*wobble*, the spread of the time from beat to beat; *held*, the share of the time in which the
loudest pitch class is that of a second before (a drone is 1); *returns*, how alike 4 s are to their
likest at least 6 s away; *in a scale*, the share of the tonal energy on the notes of the scale that
fits best; and how often the style probe hears the piece's style. Errors are standard errors over
pieces; *better* is the share of the pieces whose pulse gained over free. With `--keys` the captions
are played in a key too: their piece's own, or one that the model finds in the words (`auto`).

`musicgen-rl data make probe --hours 1 --seed 4711 --test 0.9` makes such a manifest.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pocket_music import at_rate, form, held, pulse_and_wobble
from pocket_prompts import in_scale
from takes import PROBE, real_clip

from musicgen_rl.audio.clip import Clip
from musicgen_rl.audio.tempo import named_tempo
from musicgen_rl.checkpoint.holds import KEY_SENSE, hold_hash
from musicgen_rl.data.keys import AUTO_KEY, NO_KEY
from musicgen_rl.data.manifest import Entry, read_manifest
from musicgen_rl.data.pocket.captions import key_of
from musicgen_rl.data.pocket.listen import harmonic_chroma
from musicgen_rl.errors import InputError, MusicgenRLError
from musicgen_rl.pipeline import Pipeline
from musicgen_rl.rewards import load_probe
from musicgen_rl.rewards.probe import Probe
from musicgen_rl.storage import write_json

IN_KEY = {NO_KEY: "", "own": ", in its key", AUTO_KEY: ", in a key that goes with it"}
MEASURES = ("pulse", "wobble", "held", "returns", "scale", "style")


def untimed_caption(entry: Entry, random: np.random.Generator) -> str:
    """Draw a caption that names no tempo; empty where every one does."""
    free = [caption for caption in entry.captions if named_tempo(caption) is None]
    return free[int(random.integers(len(free)))] if free else ""


def judge(clip: Clip, style: str, probe: Probe) -> list[float]:
    """Measure one clip, in the order of MEASURES."""
    mono = clip.samples.mean(axis=0)
    sound = at_rate(mono, clip.sample_rate)
    _, pulse, wobble = pulse_and_wobble(sound)
    heard = probe.log_probs(torch.from_numpy(mono[None]), clip.sample_rate)["style"][0]
    right = probe.classes["style"][int(heard.argmax())] == style
    scale = in_scale(harmonic_chroma(sound))
    return [pulse, wobble, held(sound), form(sound)[1], scale, float(right)]


def summarise(table: np.ndarray) -> dict[str, list[float]]:
    """Give mean and standard error over pieces of each measure; table is [P, 6]."""
    known = np.isfinite(table)
    errors = np.nanstd(table, axis=0, ddof=1) / known.sum(axis=0) ** 0.5
    return {
        name: [float(mean), float(error)]
        for name, mean, error in zip(MEASURES, np.nanmean(table, axis=0), errors, strict=True)
    }


def render(found: Mapping[str, Any]) -> str:
    """Write the measurements as Markdown."""
    lines = [
        "# What does a steady beat do where no tempo is named?", "",
        f"Made by `benchmarks/steady.py`; its first lines say what is measured. {found['pieces']} "
        f"captions, one clip of {found['seconds']:g} s each, seed {found['seed']}.", "",
        "| | pulse | beat wobble | held | returns | in a scale | style heard | better |",
        "|---|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    for name, row in found["rows"].items():
        cells = [f"{row[m][0]:.2f} ± {row[m][1]:.2f}" for m in MEASURES]
        cells[1] = f"{row['wobble'][0]:.3f} ± {row['wobble'][1]:.3f}"
        cells.append(f"{row['better']:.2f}" if "better" in row else "")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, ""])


def measure(
    pieces: Sequence[Entry], folder: Path, given: argparse.Namespace
) -> tuple[dict[str, Any], Pipeline]:
    """Play and judge; see the top of this file."""
    random, probe = np.random.default_rng(given.seed), load_probe(PROBE)
    asked = [(piece, untimed_caption(piece, random)) for piece in pieces]
    asked = [(piece, caption) for piece, caption in asked if caption]
    styles = [str(piece.attributes["style"]) for piece, _ in asked]

    def table(clips: Sequence[Clip]) -> np.ndarray:
        return np.array([judge(c, s, probe) for c, s in zip(clips, styles, strict=True)])

    real = [real_clip(folder / piece.audio, given.seconds) for piece, _ in asked]
    rows: dict[str, Any] = {"real pieces": summarise(table(real))}
    pipeline = Pipeline.load(given.model)
    for diversity in (None, *given.diversity):
        name = given.model + ("" if diversity is None else f", dial {diversity:g}")
        tables = []
        for key, steady in product((NO_KEY, *given.keys), (False, True)):
            clips = [
                pipeline.generate(
                    caption, duration_s=given.seconds, seed=given.seed, diversity=diversity,
                    guidance_scale=None if diversity is None else 1.0,
                    key=key_of(piece.attributes).name if key == "own" else key, steady=steady,
                )[0]
                for piece, caption in asked
            ]  # fmt: skip
            tables.append(table(clips))
            how = (", steady" if steady else "") + IN_KEY[key] or ", free"
            rows[name + how] = summarise(tables[-1])
            if len(tables) > 1:
                rows[name + how]["better"] = float((tables[-1][:, 0] > tables[0][:, 0]).mean())
    return {"pieces": len(asked), "rows": rows}, pipeline


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--manifest", type=Path, required=True)
    parser.add_argument("--model", default="pocket")
    parser.add_argument("--diversity", type=float, nargs="*", default=[], help="dial places too")
    parser.add_argument("--keys", nargs="*", default=[], choices=("own", AUTO_KEY), help="kept too")
    parser.add_argument("--split", default="test", help="of the manifest")
    parser.add_argument("--pieces", type=int, default=60)
    parser.add_argument("--seconds", type=float, default=16.0)
    parser.add_argument("--seed", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/steady"))
    given = parser.parse_args()
    try:
        pieces = [e for e in read_manifest(given.manifest) if e.split == given.split]
        if len(pieces) < 2:
            raise InputError("two held-out pieces or more are needed: data make --test 0.9")
        found, pipeline = measure(pieces[: given.pieces], given.manifest.parent, given)
    except MusicgenRLError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    found |= {
        "model_sha256": pipeline.model_sha256, "beat_sha256": pipeline.holds.tempo.sha256,
        "key_sha256": pipeline.holds.key.sha256 if given.keys else None,
        "scale_sha256": hold_hash(pipeline.info, KEY_SENSE) if AUTO_KEY in given.keys else None,
        "seconds": given.seconds, "seed": given.seed,
    }  # fmt: skip
    write_json(given.out.with_suffix(".json"), found)
    given.out.with_suffix(".md").write_text(render(found), encoding="utf-8")
    sys.stdout.write(render(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
