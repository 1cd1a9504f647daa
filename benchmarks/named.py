"""Which words of a caption does a language model know? True ones against others, on true music.

    python benchmarks/named.py --tokens FOLDER [--model pocket ...] [--pieces 80] [--out STEM]

For each held-out piece the start of a crop is scored under short captions that differ in one word:
the true one and four others. The share of pieces whose codes are likeliest under the true word is
what the model knows of such words: one in five is chance. Asked are the style, the tempo as a
number (the piece's own, and .8, .9, 1.12 and 1.25 times it), the lead instrument, the key, and how
fast it is (slow, medium, fast: one in three is chance). The first seconds of a crop count, because
later the music itself has told.

FOLDER holds the tokens of a corpus that the model has not learnt from: `musicgen-rl data make probe
--hours 1 --test 0.9`, then `musicgen-rl data encode probe/manifest.jsonl -o FOLDER`.
"""

import argparse
import math
import random
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from musicgen_rl.checkpoint import checkpoints_folder, find_model, load_lm, read_info
from musicgen_rl.data.pocket.captions import TEMPO_WORDS, key_name
from musicgen_rl.errors import InputError, MusicgenRLError
from musicgen_rl.lm.delay import apply_delay, shift_right
from musicgen_rl.lm.transformer import MusicLM
from musicgen_rl.storage import write_json
from musicgen_rl.text.base import TextEncoder
from musicgen_rl.text.minilm import MiniLM
from musicgen_rl.training.dataset import TokenPiece
from musicgen_rl.training.lm_loss import token_losses
from musicgen_rl.training.tokens import load_tokens

SEED = 17
OTHERS = 4
OTHER_TEMPI = (0.8, 0.9, 1.12, 1.25)
CROP_S = 5.0
Facts = Mapping[str, Any]


def captions_of(facts: Facts, known: Mapping[str, Sequence[str]], rng: random.Random) -> Any:
    """List what is asked of one piece: what -> captions, the true one first."""
    style, lead, bpm = str(facts["style"]), str(facts["lead"]), int(facts["tempo_bpm"])
    bands = [facts["tempo_band"], *(b for b in TEMPO_WORDS if b != facts["tempo_band"])]

    def others(name: str, true: str) -> list[str]:
        return [true, *rng.sample([n for n in known[name] if n != true], OTHERS)]

    return {
        "style": others("style", style),
        "tempo in bpm": [f"{style}, {round(bpm * f)} bpm" for f in (1.0, *OTHER_TEMPI)],
        "lead instrument": [f"{style} with {name}" for name in others("lead", lead)],
        "key": [f"{style} in {name}" for name in others("key", key_name(facts))],
        "slow, medium, fast": [f"{TEMPO_WORDS[band][0]} {style}" for band in bands],
    }


@torch.no_grad()
def losses_under(
    lm: MusicLM, encoder: TextEncoder, codes: Tensor, captions: Sequence[str]
) -> Tensor:
    """Compute what codes [K, T] cost under each of N captions, in nats: [N]."""
    pad = lm.config.pad_token
    rows = codes.long().expand(len(captions), -1, -1)
    targets = apply_delay(rows, pad)
    logits = lm(shift_right(targets, pad), encoder.encode(list(captions)))
    found: Tensor = token_losses(logits, targets, pad).sum((1, 2))
    return found


def share_known(
    pieces: Sequence[TokenPiece],
    frames: int,
    score: Callable[[Tensor, Sequence[str]], Tensor],
) -> dict[str, dict[str, float]]:
    """Ask of every piece; see the top of this file.

    Args:
        pieces: held out, with the attributes of the pocket corpus.
        frames: of a crop.
        score: what codes cost under captions.

    Returns:
        What is asked -> share of pieces where the true word costs least, its standard error,
        chance, and nats that the true word saves against the others' mean.
    """
    rng = random.Random(SEED)
    asked = [p for p in pieces if p.split != "train" and p.codes.shape[1] > frames]
    if not asked:
        raise InputError("no held-out piece is long enough: make some with data make --test 0.9")
    known = {name: sorted({str(p.attributes[name]) for p in asked}) for name in ("style", "lead")}
    known["key"] = sorted({key_name(p.attributes) for p in asked})
    won: dict[str, list[tuple[bool, float, int]]] = {}
    for piece in asked:
        start = rng.randrange(piece.codes.shape[1] - frames)
        codes = piece.codes[:, start : start + frames]
        for what, captions in captions_of(piece.attributes, known, rng).items():
            costs = score(codes, captions)
            saved = float(costs[1:].mean() - costs[0])
            won.setdefault(what, []).append((int(costs.argmin()) == 0, saved, len(captions)))
    found = {}
    for what, rows in won.items():
        share, n = sum(r[0] for r in rows) / len(rows), len(rows)
        found[what] = {
            "share": share, "error": math.sqrt(share * (1 - share) / n), "chance": 1 / rows[0][2],
            "saved": sum(r[1] for r in rows) / n, "pieces": n,
        }  # fmt: skip
    return found


def render(found: Mapping[str, Any]) -> str:
    """Write the measurements as Markdown."""
    lines = [
        "# Which words does it know?", "",
        f"Made by `benchmarks/named.py`; its first lines say what is measured. {CROP_S:g} s of "
        "each piece; shares with standard errors.", "",
        "| model | asked | true word is likeliest | chance | nats it saves | pieces |",
        "|---|---|---|---|---|---|",
    ]  # fmt: skip
    for model, rows in found.items():
        lines += [
            f"| {model} | {what} | {r['share']:.2f} ± {r['error']:.2f} | {r['chance']:.2f} | "
            f"{r['saved']:+.2f} | {r['pieces']} |"
            for what, r in rows.items()
        ]
    return "\n".join([*lines, ""])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", nargs="+", default=["pocket"])
    parser.add_argument("--tokens", type=Path, required=True)
    parser.add_argument("--pieces", type=int, default=80, help="how many of them are asked")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/named"))
    given = parser.parse_args()
    try:
        info, pieces = load_tokens(given.tokens)
        encoder = MiniLM.load(checkpoints_folder() / "minilm")
        pieces = [piece for piece in pieces if piece.split != "train"][: given.pieces]
        found = {}
        for name in given.model:
            lm = load_lm(read_info(find_model(name))).eval()
            found[name] = share_known(
                pieces, round(CROP_S * info.frame_rate),
                lambda codes, captions, lm=lm: losses_under(lm, encoder, codes, captions),
            )  # fmt: skip
    except MusicgenRLError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    write_json(given.out.with_suffix(".json"), found)
    given.out.with_suffix(".md").write_text(render(found), encoding="utf-8")
    sys.stdout.write(render(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
