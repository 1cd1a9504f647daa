"""Is a named key played: left to the words, held to it, and held together with a tempo?

    python benchmarks/keys.py --manifest held_out/manifest.jsonl [--model pocket]
        [--diversity 0 ...] [--hold free key both] [--louder 1 ...] [--pieces 60] [--split test]
        [--ask captions] [--seconds 10] [--seed 0] [--out STEM]

For each held-out piece one unpicked clip is asked for by its style and its key ("jazz in D minor"),
of *both* by its tempo too; with `--ask captions` by a caption that names no tempo, the key, and of
*both* the tempo, set beside it (`--key`, `--tempo`). *Free* clips know the key from the words
alone, *key* and *both* are told it at every frame (docs/training.md), with `--louder 1.5` half as
strongly again. Real pieces stand beside them.

- on its notes: share of tonal energy on the notes of the key named;
- key heard: share of clips whose chroma fits, of all 24 keys, the one named best, by the profiles
  of Krumhansl and Kessler (1982); *or relative*: that or the one of the same notes;
- style heard: share of clips in which the style probe hears the style asked for;
- tempo met: of *both*, at the tempo named, its half or its double, within 4 %.

Errors are standard errors over pieces. `musicgen-rl data make probe --hours 1 --seed 4711 --test
0.9` makes such a manifest.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pocket_music import at_rate, share_of_key
from steady import untimed_caption
from takes import PROBE, real_clip, tell_louder

from musicgen_rl.audio.clip import Clip
from musicgen_rl.audio.tempo import hear_tempo, tempo_fits
from musicgen_rl.data.keys import NO_KEY, Key
from musicgen_rl.data.manifest import Entry, read_manifest
from musicgen_rl.data.pocket.captions import key_of
from musicgen_rl.data.pocket.listen import harmonic_chroma
from musicgen_rl.errors import InputError, MusicgenRLError
from musicgen_rl.pipeline import Pipeline
from musicgen_rl.rewards import load_probe
from musicgen_rl.rewards.probe import Probe
from musicgen_rl.storage import write_json

PROFILES = {
    "major": (6.35, 2.23, 3.48, 2.33, 4.38, 4.09, 2.52, 5.19, 2.39, 3.66, 2.29, 2.88),
    "minor": (6.33, 2.68, 3.52, 5.38, 2.60, 3.53, 2.54, 4.75, 3.98, 2.69, 3.34, 3.17),
}
"""How well each note above the tonic fits a key (Krumhansl and Kessler, Psychological Review
89:334, 1982)."""
ASKED = {
    "style": "a style and a key", "captions": "captions without a tempo, the key set beside",
}  # fmt: skip
MEASURES = ("notes", "key", "relative", "style", "tempo")


def hear_key(chroma: NDArray[np.float64]) -> Key:
    """Find the key whose profile correlates best with chroma [12]."""
    fits = {
        Key(tonic, scale): float(np.corrcoef(np.roll(profile, tonic), chroma)[0, 1])
        for tonic, (scale, profile) in product(range(12), PROFILES.items())
    }
    return max(fits, key=lambda key: fits[key])


def judge(clip: Clip, facts: Mapping[str, Any], probe: Probe) -> dict[str, float]:
    """Hear of one clip what its piece's facts ask for: 0 to 1 for each of MEASURES."""
    named = key_of(facts)
    chroma = harmonic_chroma(at_rate(clip.samples.mean(axis=0), clip.sample_rate))
    heard = hear_key(chroma)
    alike = set(heard.notes) == set(named.notes)
    mono = torch.from_numpy(clip.samples.mean(axis=0, keepdims=True))
    style = probe.log_probs(mono, clip.sample_rate)["style"][0]
    tempo = hear_tempo(clip.samples, clip.sample_rate)
    return {
        "notes": share_of_key(chroma, named),
        "key": float(heard == named),
        "relative": float(alike),
        "style": float(probe.classes["style"][int(style.argmax())] == facts["style"]),
        "tempo": float(tempo_fits(tempo, float(facts["tempo_bpm"]))),
    }


def summarise(rows: Sequence[Mapping[str, float]]) -> dict[str, list[float]]:
    """Give mean and standard error over pieces of each measure."""
    table = np.array([[row[name] for name in MEASURES] for row in rows])  # [P, 5]
    errors = table.std(axis=0, ddof=1) / len(table) ** 0.5
    return {
        name: [float(mean), float(error)]
        for name, mean, error in zip(MEASURES, table.mean(axis=0), errors, strict=True)
    }


def play(pipeline: Pipeline, pieces: Sequence[Entry], hold: str, **how: Any) -> list[Clip]:
    """Play the style and the key of each piece once, held to what `hold` names."""
    prompts = [f"{p.attributes['style']} in {key_of(p.attributes).name}" for p in pieces]
    if hold == "both":
        tempi = [p.attributes["tempo_bpm"] for p in pieces]
        prompts = [f"{prompt}, {bpm} bpm" for prompt, bpm in zip(prompts, tempi, strict=True)]
    return pipeline.generate(
        prompts, key=NO_KEY if hold == "free" else None,
        tempo_bpm=None if hold == "both" else 0.0, **how,
    )  # fmt: skip


def play_captions(
    pipeline: Pipeline, pieces: Sequence[Entry], hold: str, seed: int, **how: Any
) -> list[Clip]:
    """Play a caption of each piece once, its key and its tempo set beside it as `hold` says."""
    random = np.random.default_rng(seed)
    return [
        pipeline.generate(
            untimed_caption(piece, random) or str(piece.attributes["style"]), seed=seed,
            key=NO_KEY if hold == "free" else key_of(piece.attributes).name,
            tempo_bpm=float(piece.attributes["tempo_bpm"]) if hold == "both" else 0.0, **how,
        )[0]
        for piece in pieces
    ]  # fmt: skip


def render(found: Mapping[str, Any]) -> str:
    """Write the measurements as Markdown."""
    lines = [
        "# Is a named key played?", "",
        f"Made by `benchmarks/keys.py`; its first lines say what is measured. {found['pieces']} "
        f"prompts, {found['asked']}; clips of {found['seconds']:g} s, seed {found['seed']}.",
        "", "| | on its notes | key heard | or relative | style heard | tempo met |",
        "|---|---|---|---|---|---|",
    ]  # fmt: skip
    for name, row in found["models"].items():
        cells = [f"{row[m][0]:.2f} ± {row[m][1]:.2f}" for m in MEASURES]
        if not (name == "real pieces" or "held: both" in name):
            cells[-1] = ""  # no tempo was named
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, ""])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--manifest", type=Path, required=True)
    parser.add_argument("--model", default="pocket")
    parser.add_argument("--diversity", type=float, nargs="*", default=[], help="dial places too")
    parser.add_argument(
        "--hold", nargs="+", choices=["free", "key", "both"], default=["free", "key"],
        help="in turn",
    )  # fmt: skip
    parser.add_argument("--ask", choices=sorted(ASKED), default="style", help="by what")
    parser.add_argument(
        "--louder", type=float, nargs="+", default=[1.0], help="the key, so many times, in turn"
    )
    parser.add_argument("--split", help="of the manifest; all but train if not given")
    parser.add_argument("--pieces", type=int, default=60, help="how many of them are asked")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/keys"))
    given = parser.parse_args()
    try:
        every = read_manifest(given.manifest)
        pieces = [
            e for e in every if e.split == given.split or (not given.split and e.split != "train")
        ][: given.pieces]
        if len(pieces) < 2:
            raise InputError("two held-out pieces or more are needed: data make --test 0.9")
        probe, facts = load_probe(PROBE), [piece.attributes for piece in pieces]

        def measure(clips: Sequence[Clip]) -> dict[str, list[float]]:
            pairs = zip(clips, facts, strict=True)
            return summarise([judge(clip, told, probe) for clip, told in pairs])

        places = [given.manifest.parent / piece.audio for piece in pieces]
        models = {"real pieces": measure([real_clip(p, given.seconds) for p in places])}
        pipeline = Pipeline.load(given.model)
        kinds = [(h, k) for h, k in product(given.hold, given.louder)
                 if h != "free" or k == given.louder[0]]  # fmt: skip
        for diversity, (hold, louder) in product((None, *given.diversity), kinds):
            tell_louder(pipeline.holds.key.adapter, louder)
            clips = (play if given.ask == "style" else play_captions)(
                pipeline, pieces, hold,
                duration_s=given.seconds, seed=given.seed, diversity=diversity,
                    guidance_scale=None if diversity is None else 1.0,
            )  # fmt: skip
            name = given.model + ("" if diversity is None else f", dial {diversity:g}")
            tell_louder(pipeline.holds.key.adapter, 1 / louder)
            name += "" if hold == "free" else f", held: {hold}"
            name += "" if hold == "free" or louder == 1.0 else f", x {louder:g}"
            models[name] = measure(clips)
    except MusicgenRLError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    found = {
        "model_sha256": pipeline.model_sha256, "key_sha256": pipeline.holds.key.sha256,
        "asked": ASKED[given.ask], "pieces": len(pieces), "seconds": given.seconds,
        "seed": given.seed, "models": models,
    }  # fmt: skip
    write_json(given.out.with_suffix(".json"), found)
    given.out.with_suffix(".md").write_text(render(found), encoding="utf-8")
    sys.stdout.write(render(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
