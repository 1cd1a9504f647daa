"""Is a named tempo met: by one clip and by the nearest of several, left free and held to it?

    python benchmarks/takes.py --manifest held_out/manifest.jsonl [--model pocket]
        [--diversity 0 ...] [--takes 4 8 16] [--tempo free held] [--louder 1 ...] [--pieces 60]
        [--split test] [--seconds 8] [--seed 0] [--out STEM]

For each held-out piece a clip of twice `--seconds` is asked for by its style and its tempo in bpm.
The take is chosen by its first half and judged by its second, for a tempo that was only misheard is
not heard again in other music. Told are the shares of second halves at the tempo named, its half or
its double, within 4 %: of the first take, of the chosen one, and of the pieces themselves. Beside
them stands what choosing and judging the whole clip finds, as `--takes` does, and how often the
style probe hears the style asked for, so that it is seen what the choice costs. Errors are standard
errors over pieces. Seconds are those of the most takes and of one clip alone, on one thread.

*Held* clips are told where each beat falls (docs/training.md), *free* ones know the tempo from the
prompt alone. `--louder 1.5` tells all that is told half as strongly again.

`musicgen-rl data make probe --hours 1 --seed 4711 --test 0.9` makes such a manifest.
"""

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from musicgen_rl.audio.clip import Clip
from musicgen_rl.audio.tempo import hear_tempo, tempo_fits, tempo_gap
from musicgen_rl.checkpoint import checkpoints_folder
from musicgen_rl.data.manifest import Entry, read_manifest
from musicgen_rl.errors import InputError, MusicgenRLError
from musicgen_rl.pipeline import Pipeline
from musicgen_rl.rewards import load_probe
from musicgen_rl.rewards.probe import Probe
from musicgen_rl.storage import write_json
from musicgen_rl.training.reward_mels import read_mono

PROBE = checkpoints_folder() / "pocket/rewards/probe"
Heard = Mapping[str, Any]


def hear(clip: Clip, probe: Probe) -> dict[str, Any]:
    """Hear the tempo of a clip, of its first half and its second, and its style."""
    middle = clip.num_samples // 2
    parts = {"whole": clip.samples, "first": clip.samples[:, :middle],
             "second": clip.samples[:, middle:]}  # fmt: skip
    mono = torch.from_numpy(clip.samples.mean(axis=0, keepdims=True))
    style = probe.log_probs(mono, clip.sample_rate)["style"][0]
    return {name: hear_tempo(part, clip.sample_rate) for name, part in parts.items()} | {
        "style": probe.classes["style"][int(style.argmax())]
    }


def nearest(takes: Sequence[Heard], named: float, part: str) -> Heard:
    """Choose a take by the tempo of a part of it."""
    return min(takes, key=lambda take: tempo_gap(take[part], named))


def summarise(
    heard: Sequence[Sequence[Heard]], pieces: Sequence[Mapping[str, Any]], counts: Sequence[int]
) -> dict[str, dict[str, float]]:
    """Take shares over pieces.

    Args:
        heard: of each piece all its takes.
        pieces: their attributes, with style and tempo_bpm.
        counts: of how many takes it is chosen.

    Returns:
        Number of takes, as text -> shares: `second`, where the first half chose, with `error`;
        `whole`, where the whole clip chose and was heard; `style`, of those that the first half
        chose.
    """
    found = {}
    for count in counts:
        rows = []
        for takes, facts in zip(heard, pieces, strict=True):
            named = float(facts["tempo_bpm"])
            by_half = nearest(takes[:count], named, "first")
            by_whole = nearest(takes[:count], named, "whole")
            rows.append([tempo_fits(by_half["second"], named), tempo_fits(by_whole["whole"], named),
                         by_half["style"] == facts["style"]])  # fmt: skip
        table = np.array(rows, dtype=float)  # [P, 3]
        second, whole, style = table.mean(axis=0).tolist()
        error = float(table[:, 0].std(ddof=1) / len(table) ** 0.5)
        found[str(count)] = {"second": second, "error": error, "whole": whole, "style": style}
    return found


def real_clip(path: Path, seconds: float) -> Clip:
    """Read the beginning of a piece."""
    samples, rate = read_mono(path)
    mono: NDArray[np.float32] = samples[: round(seconds * rate)].numpy()
    return Clip(mono, rate)


def tell_louder(adapter: nn.Module | None, louder: float) -> None:
    """Multiply what an adapter adds."""
    if adapter is not None:
        with torch.no_grad():
            for tensor in adapter.get_submodule("outer").parameters():
                tensor *= louder


def play(
    pipeline: Pipeline, pieces: Sequence[Entry], probe: Probe, *, takes: int, **how: Any
) -> tuple[list[list[dict[str, Any]]], float, float]:
    """Play all takes of every piece, and hear them.

    Returns:
        What is heard, by piece and take; seconds that all of it took; seconds that one clip takes.
    """
    heard, spent = [], 0.0
    for piece in pieces:
        prompt = f"{piece.attributes['style']}, {piece.attributes['tempo_bpm']} bpm"
        begun = time.perf_counter()
        clips = pipeline.generate(prompt, clips_per_prompt=takes, **how)
        spent += time.perf_counter() - begun
        heard.append([hear(clip, probe) for clip in clips])
    begun = time.perf_counter()
    pipeline.generate(prompt, **how)
    return heard, spent / len(pieces), time.perf_counter() - begun


def render(found: Mapping[str, Any]) -> str:
    """Write the measurements as Markdown."""
    lines = [
        "# Is a named tempo met?", "",
        f"Made by `benchmarks/takes.py`; its first lines say what is measured. {found['pieces']} "
        f"prompts of a style and a tempo in bpm, clips of {found['seconds']:g} s, seed "
        f"{found['seed']}.", "",
        "| | takes | tempo met, second half | whole clip | style heard | seconds |",
        "|---|---|---|---|---|---|",
    ]  # fmt: skip
    for name, model in found["models"].items():
        for takes, row in model["takes"].items():
            spent = {"1": model["one_s"], str(found["most"]): model["most_s"]}.get(takes)
            lines.append(
                f"| {name} | {takes} | {row['second']:.2f} ± {row['error']:.2f} | "
                f"{row['whole']:.2f} | {row['style']:.2f} | "
                f"{'' if spent is None else f'{spent:.1f}'} |"
            )
    return "\n".join([*lines, ""])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--manifest", type=Path, required=True)
    parser.add_argument("--model", default="pocket")
    parser.add_argument("--diversity", type=float, nargs="*", default=[], help="dial places too")
    parser.add_argument("--takes", type=int, nargs="*", default=[4, 8, 16])
    parser.add_argument(
        "--tempo", nargs="+", choices=["free", "held"], default=["free"], help="in turn"
    )
    parser.add_argument(
        "--louder",
        type=float,
        nargs="+",
        default=[1.0],
        help="what is told, so many times, in turn",
    )
    parser.add_argument("--split", help="of the manifest; all but train if not given")
    parser.add_argument("--pieces", type=int, default=60, help="how many of them are asked")
    parser.add_argument("--seconds", type=float, default=8.0, help="of each half")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/takes"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    try:
        every = read_manifest(given.manifest)
        kept = [
            e for e in every if e.split == given.split or (not given.split and e.split != "train")
        ]
        pieces = kept[: given.pieces]
        if len(pieces) < 2:
            raise InputError("two held-out pieces or more are needed: data make --test 0.9")
        probe, most, length = load_probe(PROBE), max(given.takes, default=1), 2 * given.seconds
        facts = [piece.attributes for piece in pieces]
        real = [[hear(real_clip(given.manifest.parent / p.audio, length), probe)] for p in pieces]
        models: dict[str, Any] = {
            "real pieces": {"takes": summarise(real, facts, [1]), "one_s": None, "most_s": None}
        }
        pipeline = Pipeline.load(given.model)
        kinds = [(t, k) for t, k in product(given.tempo, given.louder)
                 if t == "held" or k == given.louder[0]]  # fmt: skip
        for (tempo, louder), diversity in product(kinds, (None, *given.diversity)):
            tell_louder(pipeline.holds.tempo.adapter, louder)
            heard, most_s, one_s = play(
                pipeline, pieces, probe, takes=most, duration_s=length, seed=given.seed,
                diversity=diversity, tempo_bpm=0.0 if tempo == "free" else None,
            )  # fmt: skip
            name = given.model + ("" if diversity is None else f", dial {diversity:g}")
            tell_louder(pipeline.holds.tempo.adapter, 1 / louder)
            name += ", held" if tempo == "held" else ""
            name += f", x {louder:g}" if tempo == "held" and louder != 1.0 else ""
            counts = sorted({1, *given.takes})
            models[name] = {
                "takes": summarise(heard, facts, counts), "one_s": one_s, "most_s": most_s
            }  # fmt: skip
    except MusicgenRLError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    found = {
        "model_sha256": pipeline.model_sha256, "pieces": len(pieces), "seconds": length,
        "seed": given.seed, "most": most, "models": models,
    }  # fmt: skip
    write_json(given.out.with_suffix(".json"), found)
    given.out.with_suffix(".md").write_text(render(found), encoding="utf-8")
    sys.stdout.write(render(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
