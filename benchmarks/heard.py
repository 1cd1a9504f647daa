"""Is the style asked for still heard where a beat and a key are found for the words?

    python benchmarks/heard.py [--model pocket] [--diversity 0.5] [--variations 8] [--seconds 10]
        [--seed 0] [--ways free steady ...] [--takes 1 ...] [--lead]
        [--louder 1] [--out STEM]

Variations of each style's name alone, of the examples on the studio's page and of the plain
prompts of `pocket_prompts.py` that ask for one are played left free, to a steady beat, in a key
that goes with the words, with both, with chords that go with the words (which bring a beat with
them), and with all three; `--ways` plays some of these, `--louder` tells chords so many times as
strongly. Told is of how many the style probe hears the style asked for, and how varied those of a
prompt are (mean of 1 - cosine on the encoder for reports). What a prompt names itself is held in
all but the first. With `--takes 1 4` each way is played with single takes and with the best of
four, which the training scorer chooses: neither probe nor encoder took part in that.
Guidance is off; with `--lead` what is held is played once more, begun as the model does by itself:
guided for its first second.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pocket_prompts import PROMPTS, REWARDS
from takes import tell_louder

from app.words import EXAMPLES
from musicgen_rl.data.chords import AUTO_CHORDS, NO_CHORDS
from musicgen_rl.data.keys import AUTO_KEY, NO_KEY
from musicgen_rl.data.pocket.styles import STYLES
from musicgen_rl.errors import MusicgenRLError
from musicgen_rl.pipeline import Pipeline
from musicgen_rl.rewards import AudioEncoder, Probe, load_encoder, load_probe
from musicgen_rl.rewards.diversity import pairwise_diversity
from musicgen_rl.storage import write_json

WAYS: dict[str, dict[str, Any]] = {
    "free": {"tempo_bpm": 0.0, "key": NO_KEY, "chords": NO_CHORDS},
    "steady": {"steady": True},
    "in a key": {"key": AUTO_KEY},
    "both": {"steady": True, "key": AUTO_KEY},
    "chords": {"chords": AUTO_CHORDS},
    "all": {"key": AUTO_KEY, "chords": AUTO_CHORDS},
}
EXAMPLE_STYLES = (
    "solo piano", "chiptune", "house", "ambient", "lo-fi", "bossa nova", "metal", "folk",
)  # fmt: skip
"""Of EXAMPLES, in order."""


def sets() -> dict[str, list[tuple[str, set[str]]]]:
    """List the prompts of each set, with the styles that answer them."""
    examples = zip(EXAMPLES, EXAMPLE_STYLES, strict=True)
    return {
        "styles by name": [(name, {name}) for name in STYLES],
        "examples of the page": [(prompt, {style}) for prompt, style in examples],
        "plain prompts": [(prompt, styles) for prompt, styles, _ in PROMPTS if styles],
    }


def hear(
    pipeline: Pipeline,
    probe: Probe,
    encoder: AudioEncoder,
    prompt: str,
    styles: set[str],
    **how: Any,
) -> dict[str, float]:
    """Count the variations of a prompt that are heard as one of its styles; tell their variety."""
    clips = pipeline.generate(prompt, **how)
    mono = torch.from_numpy(np.stack([clip.samples.mean(axis=0) for clip in clips]))
    heard = probe.log_probs(mono, clips[0].sample_rate)["style"].argmax(dim=1)
    right = sum(probe.classes["style"][int(number)] in styles for number in heard)
    embeddings = encoder.embed(mono, clips[0].sample_rate)
    variety = float(pairwise_diversity(embeddings[None])[0])
    return {"right": right, "variety": variety}


def ways_of(found: Mapping[str, Any]) -> dict[str, tuple[str, dict[str, Any]]]:
    """List the columns: name -> way and what is asked beside it."""
    columns: dict[str, tuple[str, dict[str, Any]]] = {}
    for scale in (1.0, *([None] if found.get("lead") else [])):
        for way in found["ways"]:
            for takes in found["takes"]:
                name = way + ("" if takes == 1 else f", best of {takes}")
                name += ", words leading" if scale is None else ""
                if scale is not None or way != "free":
                    columns[name] = way, {"takes": takes, "guidance_scale": scale}
    return columns


def render(found: Mapping[str, Any]) -> str:
    """Write the counts as Markdown."""
    louder = found["louder"]
    ways = list(ways_of(found))

    def row(name: str, cells: Sequence[Any]) -> str:
        return f"| {name} | " + " | ".join(map(str, cells)) + " |"

    lines = [
        "# Is the style asked for heard?", "",
        f"Made by `benchmarks/heard.py`; its first lines say what is measured. {found['model']} at "
        f"{found['diversity']:g} of the dial, {found['variations']} variations of "
        f"{found['seconds']:g} s of each prompt, seed {found['seed']}"
        + ("." if louder == 1 else f", chords told {louder:g} times as strongly."),
        "", row("", [*ways, "clips"]), "|---" * (len(ways) + 2) + "|",
    ]  # fmt: skip
    for name, prompts in found["sets"].items():
        clips = len(prompts) * found["variations"]
        shares = [sum(each[way]["right"] for each in prompts.values()) / clips for way in ways]
        lines.append(row(name, [*(f"{share:.2f}" for share in shares), clips]))
    for name, prompts in found["sets"].items():
        each = [np.mean([by[way]["variety"] for by in prompts.values()]) for way in ways]
        lines.append(row(f"{name}, variety", [*(f"{mean:.2f}" for mean in each), ""]))
    for name, prompts in found["sets"].items():
        lines += [
            "",
            f"## {name.capitalize()}",
            "",
            row("", ways),
            "|---" * (len(ways) + 1) + "|",
        ]
        lines += [row(prompt, [by[way]["right"] for way in ways]) for prompt, by in prompts.items()]
    return "\n".join([*lines, ""])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="pocket")
    parser.add_argument("--diversity", type=float, default=0.5)
    parser.add_argument("--variations", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS), metavar="WAY")
    parser.add_argument("--takes", type=int, nargs="+", default=[1], metavar="N")
    parser.add_argument("--lead", action="store_true", help="held music once more, begun guided")
    parser.add_argument("--louder", type=float, default=1.0, help="the chords, so many times")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/heard"))
    given = parser.parse_args()
    try:
        pipeline, probe = Pipeline.load(given.model), load_probe(REWARDS / "probe")
        encoder = load_encoder(REWARDS / "encoder-report")
        tell_louder(pipeline.holds.chords.adapter, given.louder)
        how = {
            "duration_s": given.seconds, "seed": given.seed, "diversity": given.diversity,
            "clips_per_prompt": given.variations,
        }  # fmt: skip
        found = {
            name: {
                prompt: {
                    name: hear(
                        pipeline, probe, encoder, prompt, styles, **how, **asked, **WAYS[way]
                    )
                    for name, (way, asked) in ways_of(vars(given)).items()
                }
                for prompt, styles in prompts
            }
            for name, prompts in sets().items()
        }
    except MusicgenRLError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    about = vars(given) | {"model_sha256": pipeline.model_sha256, "sets": found}
    del about["out"]
    write_json(given.out.with_suffix(".json"), about)
    given.out.with_suffix(".md").write_text(render(about), encoding="utf-8")
    sys.stdout.write(render(about))
    return 0


if __name__ == "__main__":
    sys.exit(main())
