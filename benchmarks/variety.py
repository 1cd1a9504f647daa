"""What is the diversity of a prompt's clips made of?

    python benchmarks/variety.py --manifest held_out/manifest.jsonl [--model pocket]
        [--prompts docs/results/pocket/final.jsonl] [--clips 4] [--seconds 5] [--seed 0]
        [--ways base ...] [--out STEM]

The mean cosine of two clips is taken of three kinds of pairs: of one prompt (a), of two prompts
that ask for one style (b), of two styles (c). Since vectors have length 1, what is reported as
diversity is D = 1 - a, and

    1 = D + (a - b) + (b - c) + c:

what a prompt leaves open, what its other words settle, what its style settles, and what all clips
share. So D can only grow by as much as prompts or styles come to settle less, or by clips that
share less. Where clips are heard as the style asked for is told, and D among those alone. Of
held-out pieces, which have no prompt in common, b and c are told, as they are and through the
codec; and of how many directions either encoder makes use: the squared sum of the variances along
its axes over the sum of their squares.

Errors are standard errors by jackknife over styles. Nothing is held.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from best_of import FREE
from numpy.typing import NDArray
from pocket_prompts import REWARDS

from musicgen_rl.data.manifest import Entry, read_manifest
from musicgen_rl.data.pocket.styles import STYLES
from musicgen_rl.errors import InputError, MusicgenRLError
from musicgen_rl.evaluation.prompts import Prompt, read_prompts
from musicgen_rl.evaluation.real import cut_clip
from musicgen_rl.pipeline import Pipeline
from musicgen_rl.rewards import load_encoder, load_probe
from musicgen_rl.storage import write_json

Vectors = NDArray[np.float64]
WAYS: dict[str, dict[str, Any]] = {
    "base": {"guidance_scale": 1.0},
    "guidance 1.5": {"guidance_scale": 1.5},
    "guidance 2": {"guidance_scale": 2.0},
    "guidance 3": {"guidance_scale": 3.0},
    "quality end": {"diversity": 0.0},
    "half-way": {"diversity": 0.5},
    "diversity end": {"diversity": 1.0},
}
ROLES = ("report", "training")
PARTS = ("D", "words", "style", "shared", "D of right")
PIECES, PIECES_CODED = "held-out pieces", "held-out pieces, through the codec"


@dataclass(frozen=True)
class Heard:
    """What was heard in the clips of a way."""

    styles: list[str]
    """Asked for, by prompt [P]."""
    right: NDArray[np.bool_]
    """Heard as that style [P, N]."""
    vectors: dict[str, Vectors]
    """Role -> unit vectors [P, N, d]."""


def alike(vectors: Vectors, kept: NDArray[np.bool_]) -> tuple[Vectors, Vectors]:
    """Sum the cosines between the clips of any two prompts, and count their pairs.

    Args:
        vectors: unit vectors [P, N, d].
        kept: which clips count [P, N].

    Returns:
        Sums and numbers of pairs of different clips, [P, P].
    """
    counted = vectors * kept[..., None]
    sums, counts = counted.sum(axis=1), kept.sum(axis=1).astype(np.float64)
    total, pairs = sums @ sums.T, np.outer(counts, counts)
    own = (counted**2).sum(axis=(1, 2))
    return total - np.diag(own), pairs - np.diag(counts)


def parts_of(vectors: Vectors, styles: Sequence[str], right: NDArray[np.bool_]) -> dict[str, float]:
    """Take the diversity of prompts' clips apart; every prompt weighs as much as its clips.

    Args:
        vectors: unit vectors [P, N, d]; N is 1 for pieces that have no prompt in common.
        styles: of each prompt.
        right: clips heard as their style [P, N].

    Returns:
        D, words (a - b), style (b - c), shared (c) and D of right; D and words are nan at N = 1,
        where style is told all the same.
    """
    total, pairs = alike(vectors, np.ones_like(right))
    one = np.eye(len(styles), dtype=bool)
    same = np.equal.outer(np.array(styles), np.array(styles)) & ~one
    other = ~same & ~one

    def mean(where: NDArray[np.bool_], sums: Vectors, numbers: Vectors) -> float:
        counted = float(numbers[where].sum())
        return float(sums[where].sum()) / counted if counted else float("nan")

    a, b, c = (mean(where, total, pairs) for where in (one, same, other))
    of_right = 1.0 - mean(one, *alike(vectors, right))
    found = (1.0 - a, a - b, b - c, c, of_right)
    return dict(zip(PARTS, found, strict=True))


def with_errors(
    vectors: Vectors, styles: Sequence[str], right: NDArray[np.bool_]
) -> dict[str, list[float]]:
    """Take the diversity apart, with standard errors by jackknife over styles."""
    whole = parts_of(vectors, styles, right)
    names = sorted(set(styles))
    without = []
    for name in names:
        kept = np.array([style != name for style in styles])
        left = [style for style in styles if style != name]
        without.append(parts_of(vectors[kept], left, right[kept]))
    errors = {}
    for part in PARTS:
        values = np.array([each[part] for each in without])
        errors[part] = ((len(names) - 1) * values.var()) ** 0.5
    return {part: [whole[part], float(errors[part])] for part in PARTS}


def directions(vectors: Vectors) -> float:
    """Count the directions that vectors [.., d] make use of: 1 to d."""
    flat = vectors.reshape(-1, vectors.shape[-1])
    along = np.linalg.eigvalsh(np.cov(flat.T))
    return float(along.sum() ** 2 / (along**2).sum())


def render(found: Mapping[str, Any]) -> str:
    """Write the figures as Markdown."""
    lines = [
        "# What diversity is made of", "",
        f"Made by `benchmarks/variety.py`; its first lines say what is measured. {found['model']}, "
        f"{found['captions']} captions of {Path(found['prompts']).name}, {found['clips']} clips of "
        f"{found['seconds']:g} s of each, seed {found['seed']}; {found['pieces']} held-out pieces.",
    ]  # fmt: skip
    for role in ROLES:
        lines += [
            "", f"Encoder for {role}, of which held-out pieces use {found['directions'][role]:.1f} "
            f"directions of {found['dims'][role]}:", "",
            "| | diversity D | other words settle | the style settles | all share | style heard "
            "| D of clips heard as it |", "|---|---|---|---|---|---|---|",
        ]  # fmt: skip
        for row in (row for row in found["rows"] if row["role"] == role):
            told = {part: f"{m:.3f} ± {e:.3f}" for part, (m, e) in row["parts"].items()}
            if row["way"] in (PIECES, PIECES_CODED):  # no two are of one prompt
                apart, error = row["parts"]["within style"]
                told |= {"D": f"{apart:.3f} ± {error:.3f}, of one style", "words": "",
                         "D of right": ""}  # fmt: skip
            cells = [told["D"], told["words"], told["style"], told["shared"],
                     f"{row['right']:.2f}", told["D of right"]]  # fmt: skip
            lines.append(f"| {row['way']} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, ""])


def hear_ways(given: argparse.Namespace, prompts: Sequence[Prompt], pipeline: Pipeline
              ) -> dict[str, Heard]:  # fmt: skip
    """Make every way's clips and hear them."""
    probe = load_probe(REWARDS / "probe")
    encoders = {role: load_encoder(REWARDS / f"encoder-{role}") for role in ROLES}
    styles = [str(prompt.attributes["style"]) for prompt in prompts]
    found = {}
    for way in given.ways:
        right: list[NDArray[np.bool_]] = []
        vectors: dict[str, list[Vectors]] = {role: [] for role in ROLES}
        for prompt, style in zip(prompts, styles, strict=True):
            clips = pipeline.generate(
                prompt.text, duration_s=given.seconds, seed=given.seed,
                clips_per_prompt=given.clips, **FREE, **WAYS[way],
            )  # fmt: skip
            mono = torch.from_numpy(np.stack([clip.samples.mean(axis=0) for clip in clips]))
            heard = probe.log_probs(mono, clips[0].sample_rate)["style"].argmax(dim=1)
            right.append(np.array([probe.classes["style"][int(n)] == style for n in heard]))
            for role, encoder in encoders.items():
                embedded = encoder.embed(mono, clips[0].sample_rate)
                vectors[role].append(embedded.double().numpy())
        stacked = {role: np.stack(each) for role, each in vectors.items()}
        found[way] = Heard(styles, np.stack(right), stacked)
    return found


def hear_pieces(
    manifest: Path, entries: Sequence[Entry], pipeline: Pipeline, seconds: float
) -> dict[str, Heard]:
    """Hear the middle of held-out pieces, as they are and through the codec."""
    probe = load_probe(REWARDS / "probe")
    encoders = {role: load_encoder(REWARDS / f"encoder-{role}") for role in ROLES}
    codec, rate = pipeline.codec, pipeline.codec.sample_rate
    styles = [str(entry.attributes["style"]) for entry in entries]
    right: dict[str, list[bool]] = {PIECES: [], PIECES_CODED: []}
    vectors: dict[str, dict[str, list[Vectors]]] = {
        way: {role: [] for role in ROLES} for way in right
    }
    for entry, style in zip(entries, styles, strict=True):
        plain = torch.from_numpy(cut_clip(manifest.parent, entry, 0.5, rate, seconds))[None]
        coded = codec.decode(codec.encode(plain[:, None]))[:, 0, : plain.shape[-1]]
        for way, mono in ((PIECES, plain), (PIECES_CODED, coded)):
            heard = int(probe.log_probs(mono, rate)["style"].argmax(dim=1))
            right[way].append(probe.classes["style"][heard] == style)
            for role, encoder in encoders.items():
                vectors[way][role].append(encoder.embed(mono, rate).double().numpy())
    return {
        way: Heard(styles, np.array(right[way])[:, None],
                   {role: np.stack(each) for role, each in vectors[way].items()})
        for way in right
    }  # fmt: skip


def measure(given: argparse.Namespace) -> dict[str, Any]:
    """Make the clips and take their diversity apart."""
    if given.clips < 2:
        raise InputError(f"diversity lies between clips: give 2 clips or more, got {given.clips}")
    prompts = [p for p in read_prompts(given.prompts) if p.attributes.get("style") in STYLES]
    entries = [e for e in read_manifest(given.manifest) if e.attributes.get("style") in STYLES
               and e.split != "train" and e.duration_s >= given.seconds]  # fmt: skip
    if len({p.attributes["style"] for p in prompts}) < 3 or len(entries) < 3:
        raise InputError("captions of three styles and three held-out pieces at least are needed")
    pipeline = Pipeline.load(given.model)
    heard = hear_pieces(given.manifest, entries, pipeline, given.seconds)
    pieces = heard[PIECES]
    heard |= hear_ways(given, prompts, pipeline)
    rows = []
    for role in ROLES:
        for way, each in heard.items():
            parts = with_errors(each.vectors[role], each.styles, each.right)
            if each.right.shape[1] == 1:
                apart = within_style(each.vectors[role], each.styles)
                parts = {p: parts[p] for p in ("style", "shared")} | {"within style": apart}
            right = float(each.right.mean())
            rows.append({"way": way, "role": role, "right": right, "parts": parts})
    about = vars(given) | {
        "prompts": str(given.prompts), "manifest": given.manifest.name, "captions": len(prompts),
        "pieces": len(entries), "model_sha256": pipeline.model_sha256,
        "directions": {role: directions(pieces.vectors[role]) for role in ROLES},
        "dims": {role: pieces.vectors[role].shape[-1] for role in ROLES},
    }  # fmt: skip
    del about["out"]
    return about | {"rows": rows}


def within_style(vectors: Vectors, styles: Sequence[str]) -> list[float]:
    """Average 1 - cosine over pairs of pieces [P, 1, d] of one style; its error over styles."""

    def apart(kept: Sequence[int]) -> float:
        chosen, named = vectors[list(kept), 0], np.array(styles)[list(kept)]
        same = np.equal.outer(named, named) & ~np.eye(len(kept), dtype=bool)
        return 1.0 - float((chosen @ chosen.T)[same].mean())

    everyone = range(len(styles))
    names = sorted(set(styles))
    without = np.array([apart([i for i in everyone if styles[i] != name]) for name in names])
    return [apart(everyone), float(((len(names) - 1) * without.var()) ** 0.5)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="pocket")
    parser.add_argument("--manifest", type=Path, required=True)
    parser.add_argument("--prompts", type=Path, default=Path("docs/results/pocket/final.jsonl"))
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=list(WAYS))
    parser.add_argument("--clips", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/variety"))
    given = parser.parse_args()
    try:
        found = measure(given)
    except MusicgenRLError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    write_json(given.out.with_suffix(".json"), found)
    given.out.with_suffix(".md").write_text(render(found), encoding="utf-8")
    sys.stdout.write(render(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
