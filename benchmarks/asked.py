"""Are a tempo and a key that a prompt names heard in what is played?

    python benchmarks/asked.py --manifest held_out/manifest.jsonl [--model pocket ...]
        [--diversity 0 ...] [--guidance 2 ...] [--after 4] [--pieces 80] [--seconds 10] [--seed 0]
        [--out STEM]

What is asked is what the words alone do: nothing is held (`benchmarks/takes.py` and
`benchmarks/keys.py` ask that).
For each held-out piece three prompts are played once, unpicked: its style with its tempo in bpm,
its style with its key, and its style alone.

- tempo: share of clips in which librosa hears the tempo named, its half or its double, within 4 %;
- key: share of tonal energy on the notes of the key named.

`--after 4` gives the first 4 s of the piece itself to go on from, which are not measured: is a
tempo kept that is there already?

*Unasked* is the same of the clips that were told the style alone: what the style brings by itself.
*Real* are the pieces themselves, unasked the next piece's in their place. Errors are standard
errors over pieces of the difference between both.
"""

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from pocket_music import at_rate, pulse_and_wobble, share_of_key

from musicgen_rl.audio.clip import Clip
from musicgen_rl.audio.tempo import tempo_fits
from musicgen_rl.data.keys import NO_KEY
from musicgen_rl.data.manifest import Entry, read_manifest
from musicgen_rl.data.pocket.captions import key_name, key_of
from musicgen_rl.data.pocket.listen import harmonic_chroma
from musicgen_rl.errors import InputError, MusicgenRLError
from musicgen_rl.pipeline import Pipeline
from musicgen_rl.storage import write_json
from musicgen_rl.training.reward_mels import read_mono


def beside_unasked(
    asked: Sequence[Any], unasked: Sequence[Any], named: Sequence[Any],
    fits: Callable[[Any, Any], float],
) -> dict[str, float]:  # fmt: skip
    """Compare what is heard with what the prompts name, where they name it and where they do not.

    Args:
        asked: heard in N clips of prompts that name it, N >= 2.
        unasked: heard in N clips of the same prompts without it.
        named: by the N prompts.
        fits: how well one fits the other, 0 to 1.

    Returns:
        `share`, `unasked`, and the standard `error` of their difference over clips.
    """
    pairs = np.array(
        [[fits(a, n), fits(u, n)] for a, u, n in zip(asked, unasked, named, strict=True)]
    )  # [N, 2]
    error = float((pairs[:, 0] - pairs[:, 1]).std(ddof=1) / len(pairs) ** 0.5)
    share, without = pairs.mean(0).tolist()
    return {"share": share, "unasked": without, "error": error}


def fits_tempo(heard: float, named: float) -> float:
    return float(tempo_fits(heard, named))


def hear(
    tempo_clips: Sequence[np.ndarray],
    key_clips: Sequence[np.ndarray],
    plain_clips: Sequence[np.ndarray],
    pieces: Sequence[Entry],
) -> dict[str, dict[str, float]]:
    """Measure clips [M] at RATE of the three prompts of each piece."""
    tempi = [float(p.attributes["tempo_bpm"]) for p in pieces]
    keys = [key_of(p.attributes) for p in pieces]
    beats = [[pulse_and_wobble(c)[0] for c in clips] for clips in (tempo_clips, plain_clips)]
    notes = [[harmonic_chroma(c) for c in clips] for clips in (key_clips, plain_clips)]
    return {
        "tempo": beside_unasked(*beats, tempi, fits_tempo),
        "key": beside_unasked(*notes, keys, share_of_key),
    }


def play(
    pipeline: Pipeline,
    prompts: Sequence[str],
    seconds: float,
    begun: Sequence[Clip | None],
    **how: Any,
) -> list[np.ndarray]:
    """Play each prompt once.

    Args:
        pipeline: of the model.
        prompts: N texts.
        seconds: of new music.
        begun: what each of the N clips goes on from; None begins with nothing.
        how: `seed`, `diversity` and `guidance_scale`; None is the model's own.

    Returns:
        N times the new music alone, samples [M] at RATE.
    """
    given = {name: value for name, value in how.items() if value is not None}
    made: list[Clip] = []
    if any(begun):
        for prompt, source in zip(prompts, begun, strict=True):
            made += pipeline.generate(
                prompt, duration_s=seconds, tempo_bpm=0.0, key=NO_KEY, continue_from=source, **given
            )
    else:
        made = pipeline.generate(prompts, duration_s=seconds, tempo_bpm=0.0, key=NO_KEY, **given)
    length = round(seconds * pipeline.sample_rate)
    return [at_rate(c.samples.mean(0)[-length:], c.sample_rate) for c in made]


def beginning(path: Path, seconds: float) -> Clip:
    """Read the beginning of a piece."""
    samples, rate = read_mono(path)
    return Clip(samples[: round(seconds * rate)].numpy(), rate)


def render(found: Mapping[str, Any], seconds: float) -> str:
    """Write the measurements as Markdown."""
    lines = [
        "# Are a tempo and a key heard that a prompt names?", "",
        "Made by `benchmarks/asked.py`; its first lines say what is measured. Clips of "
        f"{seconds:g} s.",
        "", "| model | tempo met | unasked | key | unasked | pieces |", "|---|---|---|---|---|---|",
    ]  # fmt: skip
    for model, row in found.items():
        tempo, key = row["tempo"], row["key"]
        lines.append(
            f"| {model} | {tempo['share']:.2f} ± {tempo['error']:.2f} | {tempo['unasked']:.2f} | "
            f"{key['share']:.2f} ± {key['error']:.2f} | {key['unasked']:.2f} | {row['pieces']} |"
        )
    return "\n".join([*lines, ""])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--manifest", type=Path, required=True)
    parser.add_argument("--model", nargs="+", default=["pocket"])
    parser.add_argument("--diversity", type=float, nargs="*", default=[], help="dial places too")
    parser.add_argument("--guidance", type=float, nargs="*", default=[], help="in turn")
    parser.add_argument(
        "--after", type=float, default=0.0, help="seconds of the piece to go on from"
    )
    parser.add_argument("--pieces", type=int, default=80, help="how many of them are asked")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/asked"))
    given = parser.parse_args()
    try:
        pieces = [e for e in read_manifest(given.manifest) if e.split != "train"][: given.pieces]
        if len(pieces) < 2:
            raise InputError("two held-out pieces or more are needed: data make --test 0.9")
        facts = [p.attributes for p in pieces]
        prompts = [f"{f['style']}, {f['tempo_bpm']} bpm" for f in facts]
        prompts += [f"{f['style']} in {key_name(f)}" for f in facts]
        prompts += [str(f["style"]) for f in facts]
        places = [given.manifest.parent / p.audio for p in pieces]
        heads = [beginning(place, given.seconds) for place in places]
        real = [at_rate(head.samples[0], head.sample_rate) for head in heads]
        begun = [beginning(place, given.after) if given.after else None for place in places]
        shifted = real[1:] + real[:1]
        found: dict[str, Any] = {
            "real": {**hear(real, real, shifted, pieces), "pieces": len(pieces)}
        }
        for name in given.model:
            pipeline = Pipeline.load(name)
            for diversity, guidance in product((None, *given.diversity), given.guidance or (None,)):
                clips = play(
                    pipeline, prompts, given.seconds, begun * 3,
                    seed=given.seed, diversity=diversity, guidance_scale=guidance,
                )  # fmt: skip
                told = {"dial": diversity, "guidance": guidance, "after": given.after or None}
                label = ", ".join([name, *(f"{k} {v:g}" for k, v in told.items() if v is not None)])
                thirds = [clips[i * len(pieces) : (i + 1) * len(pieces)] for i in range(3)]
                found[label] = {**hear(*thirds, pieces), "pieces": len(pieces)}
    except MusicgenRLError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    write_json(given.out.with_suffix(".json"), found)
    given.out.with_suffix(".md").write_text(render(found, given.seconds), encoding="utf-8")
    sys.stdout.write(render(found, given.seconds))
    return 0


if __name__ == "__main__":
    sys.exit(main())
