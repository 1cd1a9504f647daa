"""How much of each codebook does music use, and how much music does it take to tell?

Counts the codes of pieces that the codec never learnt from: of a few minutes, of an hour, of four,
of all there are. A share of entries grows with the music it is counted over, so a number without
its hours says little.

    python benchmarks/codec_usage.py --tokens FOLDER [--model pocket]
        [--out benchmarks/results/codec_usage.json]

FOLDER holds the tokens of a corpus (`musicgen-rl train lm --manifest M` leaves them in OUT/tokens).
"""

import argparse
import random
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from musicgen_rl.checkpoint import find_model
from musicgen_rl.errors import InputError, MusicgenRLError
from musicgen_rl.storage import write_json
from musicgen_rl.training.codec_codebooks import usage
from musicgen_rl.training.dataset import TokenPiece
from musicgen_rl.training.tokens import hash_folder, load_tokens

HOURS = (1 / 15, 1.0, 4.0)


def usage_by_hours(
    pieces: Sequence[TokenPiece], frame_rate: float, codebook_size: int
) -> list[dict[str, Any]]:
    """Measure use and perplexity of growing amounts of music.

    Args:
        pieces: in the order they are counted in; codes [K, T].
        frame_rate: frames a second.
        codebook_size: V.

    Returns:
        A row for each of `HOURS` that there is music for, and one for all of it.
    """
    codes = torch.cat([piece.codes.long() for piece in pieces], dim=-1)[None]  # [1, K, T]
    frames = [round(hours * 3600 * frame_rate) for hours in HOURS]
    rows = []
    for count in [*(n for n in frames if n < codes.shape[-1]), codes.shape[-1]]:
        used, perplexity = usage(codes[..., :count], codebook_size)
        rows.append(
            {
                "hours": round(count / frame_rate / 3600, 3),
                "used": [round(share, 3) for share in used],
                "perplexity": [round(value) for value in perplexity],
            }
        )
    return rows


def main() -> int:
    """Count and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokens", type=Path, required=True)
    parser.add_argument("--model", default="pocket")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/codec_usage.json"))
    options = parser.parse_args()
    try:
        codec_hash = hash_folder(find_model(options.model) / "codec")
        info, pieces = load_tokens(options.tokens)
        if info.codec_hash != codec_hash:
            raise InputError(
                f"{options.tokens} was made by codec {info.codec_hash}, {options.model} has "
                f"{codec_hash}: encode the corpus again"
            )
    except MusicgenRLError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    random.Random(0).shuffle(pieces)
    rows = usage_by_hours(pieces, info.frame_rate, info.codebook_size)
    result = {
        "command": "python benchmarks/codec_usage.py --tokens TOKENS", "codec_hash": codec_hash,
        "pieces": len(pieces), "rows": rows,
    }  # fmt: skip
    write_json(options.out, result)
    for row in rows:
        print(f"{row['hours']:.2f} h: used {min(row['used']):.2f} to {max(row['used']):.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
