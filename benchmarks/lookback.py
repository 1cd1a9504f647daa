"""Does a language model look back for what it has heard? Losses that fall only if it does.

    python benchmarks/lookback.py --tokens FOLDER [--model pocket] [--out STEM]

Three measurements on held-out music, in nats a code:

- by place: the loss in each stretch of a crop. Music repeats, so a model that looks back finds
  later places easier than early ones;
- loops: a stretch of music over and over, exactly. The first time it is new; from the second on, a
  model that finds the place again has nothing left to guess;
- what there is to find: how often the first codebook's code comes back after a lag, on average and
  at each piece's best lag of one second and more. That is music without exact repeats: human
  timing, and a beat that need not be a whole number of frames.

FOLDER holds the tokens of a corpus that the model has not learnt from.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from musicgen_rl.checkpoint import checkpoints_folder, find_model, load_lm, read_info
from musicgen_rl.errors import InputError, MusicgenRLError
from musicgen_rl.lm.delay import apply_delay, shift_right
from musicgen_rl.lm.transformer import MusicLM
from musicgen_rl.storage import write_json
from musicgen_rl.text.minilm import MiniLM
from musicgen_rl.training.dataset import (
    TextStates,
    TokenDataset,
    TokenPiece,
    precompute_text_states,
    unique_captions,
)
from musicgen_rl.training.lm_loss import token_losses
from musicgen_rl.training.tokens import load_tokens

SEED = 5
LOOPS_S = (0.5, 2.0, 5.0)
"""Lengths of a loop."""
STRETCHES = 8
BATCH = 8
"""Crops at once."""


@torch.no_grad()
def losses(lm: MusicLM, codes: Tensor, text: TextStates, captions: Sequence[int]) -> Tensor:
    """Compute the loss of codes [B, K, T], averaged over B, undelayed: [K, T]."""
    pad = lm.config.pad_token
    found = []
    for first in range(0, len(codes), BATCH):
        part = slice(first, first + BATCH)
        targets = apply_delay(codes[part], pad)
        logits = lm(shift_right(targets, pad), text.condition(tuple(captions[part])))
        delayed = token_losses(logits, targets, pad).mean(0)  # [K, S]
        T = codes.shape[-1]
        found.append(torch.stack([row[k : k + T] for k, row in enumerate(delayed)]))
    return torch.stack(found).mean(0)


def by_place(lm: MusicLM, data: TokenDataset, text: TextStates, rows: int, frames: int) -> Tensor:
    """Measure the loss in each of `STRETCHES` stretches of crops, [K, STRETCHES]."""
    batch = data.draw(SEED, range(rows), frames)
    found = losses(lm, batch.codes, text, batch.captions)
    return torch.stack([part.mean(-1) for part in found.tensor_split(STRETCHES, -1)], -1)


def in_loops(
    lm: MusicLM, data: TokenDataset, text: TextStates, rows: int, length: int, times: int
) -> Tensor:
    """Measure the loss of each playing of loops of `length` frames, [K, times]."""
    batch = data.draw(SEED + 1, range(rows), length)
    codes = batch.codes.repeat(1, 1, times)
    return losses(lm, codes, text, batch.captions).unflatten(-1, (times, length)).mean(-1)


def returning(pieces: Sequence[TokenPiece], frame_rate: float, longest_s: float = 12.0) -> Any:
    """Measure how often the first codebook's codes come back after a lag of 1 s and more.

    Returns:
        mean, best: shares of the frames, over all lags and at each piece's best, over pieces.
    """
    first, last = round(frame_rate), round(longest_s * frame_rate)
    mean, best = [], []
    for piece in pieces:
        codes = piece.codes[0].long()
        if len(codes) < 2 * last:
            continue
        same = [float((codes[lag:] == codes[:-lag]).float().mean()) for lag in range(first, last)]
        mean.append(sum(same) / len(same))
        best.append(max(same))
    if not mean:
        raise InputError(f"no piece is {2 * longest_s:g} s long: measure on longer music")
    return {"mean": sum(mean) / len(mean), "best": sum(best) / len(best), "pieces": len(mean)}


def measure(
    lm: MusicLM, pieces: Sequence[TokenPiece], text: TextStates, frame_rate: float, rows: int
) -> dict[str, Any]:
    """Measure everything; see the top of this file."""
    data = TokenDataset(pieces, unique_captions(pieces), lm.config.pad_token)
    places = by_place(lm, data, text, rows, round(20 * frame_rate))
    return {
        "by_place": places.tolist(),
        "loops": {
            f"{seconds:g}": in_loops(lm, data, text, rows, round(seconds * frame_rate), 3).tolist()
            for seconds in LOOPS_S
        },
        "returning": returning(pieces, frame_rate),
    }


def render(found: dict[str, Any]) -> str:
    """Write the measurements as Markdown."""
    K = len(found["by_place"])
    shown = [0, 1, K // 2, K - 1]
    lines = [
        "# Does it look back?",
        "",
        f"Made by `benchmarks/lookback.py` on {found['model']}, {found['rows']} held-out crops of "
        "20 s, nats a code; its first lines say what is measured.",
        "",
        "| codebook | " + " | ".join(f"{2.5 * i:g} s" for i in range(STRETCHES)) + " |",
        "|---" * (STRETCHES + 1) + "|",
    ]
    lines += [
        f"| {k + 1} | " + " | ".join(f"{loss:.2f}" for loss in found["by_place"][k]) + " |"
        for k in shown
    ]
    lines += [
        "",
        "| loop | codebook | first time | second | third |",
        "|---|---|---|---|---|",
    ]
    for seconds, rows in found["loops"].items():
        lines += [
            f"| {seconds} s | {k + 1} | " + " | ".join(f"{loss:.2f}" for loss in rows[k]) + " |"
            for k in shown
        ]
    back = found["returning"]
    lines += [
        "",
        f"A code of the first codebook comes back after a lag of one to twelve seconds in "
        f"{back['mean']:.0%} of the frames, at a piece's best lag in {back['best']:.0%} "
        f"({back['pieces']} pieces).",
        "",
    ]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="pocket")
    parser.add_argument("--tokens", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/lookback"))
    given = parser.parse_args()
    try:
        lm = load_lm(read_info(find_model(given.model))).eval()
        info, pieces = load_tokens(given.tokens)
        encoder = MiniLM.load(checkpoints_folder() / "minilm")
        with tempfile.TemporaryDirectory() as folder:
            text = precompute_text_states(unique_captions(pieces), encoder, folder)
        found = measure(lm, pieces, text, info.frame_rate, given.rows)
    except MusicgenRLError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    found |= {"model": given.model, "rows": given.rows}
    write_json(given.out.with_suffix(".json"), found)
    given.out.with_suffix(".md").write_text(render(found), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
