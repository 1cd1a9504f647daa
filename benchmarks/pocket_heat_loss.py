"""What does the heat in pocket's heads cost on held-out music?

    python benchmarks/pocket_heat_loss.py --tokens FOLDER [--model pocket] [--rows 64] [--out STEM]

The shipped heads are divided by temperatures (`training/temper.py`; the model's note
`temperature_in_heads` tells which), so that what is sampled at temperature 1 does not hold one
note for long. The loss of true music is lowest without them. Both are measured on the same crops,
with their prompts and without, as `train lm` measures its held-out loss: the weights as they ship,
and with the temperatures taken out again.

FOLDER holds the tokens of a corpus that the model has not learnt from; only its valid and test
splits are heard:

    musicgen-rl data make music --hours 7 --seed 8118 --tempo-share 0.7
    musicgen-rl data encode music/manifest.jsonl -o music-tokens

`results/pocket_heat_loss_nearest` is of the same music in the codes that the model learnt from, the
nearest entries, as `data encode` found them until 30 November 2026 (`codec_search.py`).
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from musicgen_rl.checkpoint import checkpoints_folder, find_model, load_lm, model_hash, read_info
from musicgen_rl.errors import ConfigError, InputError, MusicgenRLError
from musicgen_rl.storage import write_json
from musicgen_rl.text.minilm import MiniLM
from musicgen_rl.training.dataset import (
    TokenDataset,
    TokenPiece,
    precompute_text_states,
    unique_captions,
)
from musicgen_rl.training.lm_loss import evaluate
from musicgen_rl.training.temper import FOLDED, tempered
from musicgen_rl.training.tokens import load_tokens

CROP_S = 20.0
BATCH = 4
"""Crops at once."""


def measure(model: str, pieces: Sequence[TokenPiece], frame_rate: float, rows: int) -> Any:
    """Measure a model's loss with the temperatures in its heads, and without them.

    Returns:
        row -> what `evaluate` gives, and the temperatures.

    Raises:
        ConfigError: there are none in its heads.
    """
    info = read_info(find_model(model))
    folded = info.notes.get(FOLDED, 1.0)
    heat = [float(t) for t in (folded if isinstance(folded, list) else [folded])]
    if all(t == 1.0 for t in heat):
        raise ConfigError(f"{model} has no temperature in its heads: nothing to compare")
    captions = unique_captions(pieces)
    data = TokenDataset(pieces, captions, info.lm.pad_token)
    with tempfile.TemporaryDirectory() as folder:
        encoder = MiniLM.load(checkpoints_folder() / "minilm")
        text = precompute_text_states(captions, encoder, folder)
    found = {}
    for name, given in (("as trained", [1.0 / t for t in heat]), ("as shipped", [1.0])):
        lm = load_lm(info).eval()
        lm.load_state_dict({k: v.float() for k, v in tempered(info, given)[1].items()})
        found[name] = evaluate(
            lm, info.lm, data, text, rows=rows, crop_frames=round(CROP_S * frame_rate),
            micro_batch_size=BATCH, device=torch.device("cpu"),
        )  # fmt: skip
        found[name]["temperature"] = heat if name == "as shipped" else [1.0] * len(heat)
    return found


def markdown(result: dict[str, Any]) -> str:
    """Write the losses as a table."""
    trained, shipped = (result["rows"][name] for name in ("as trained", "as shipped"))
    lines = [
        "# What the heat in the heads costs", "",
        f"Made by `benchmarks/pocket_heat_loss.py` on {result['model']}: {result['crops']} crops "
        f"of {CROP_S:g} s of {result['pieces']} held-out pieces, nats a code; its first lines say "
        "of which.", "",
        "| codebook | temperature | as trained | as shipped | without a prompt | as shipped |",
        "|---|---|---|---|---|---|",
    ]  # fmt: skip
    columns = [(row["loss_per_codebook"], row["loss_null_per_codebook"])
               for row in (trained, shipped)]  # fmt: skip
    heat = shipped["temperature"] * (len(columns[0][0]) // len(shipped["temperature"]))
    for k, told in enumerate(heat):
        cells = [columns[i][j][k] for j in (0, 1) for i in (0, 1)]
        lines.append(f"| {k + 1} | {told:g} | " + " | ".join(f"{x:.3f}" for x in cells) + " |")
    whole = [row[name] for name in ("loss", "loss_null") for row in (trained, shipped)]
    lines.append("| all | | " + " | ".join(f"{x:.3f}" for x in whole) + " |")
    return "\n".join([*lines, ""])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="pocket")
    parser.add_argument("--tokens", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/pocket_heat_loss"))
    given = parser.parse_args()
    try:
        info, pieces = load_tokens(given.tokens)
        pieces = [piece for piece in pieces if piece.split != "train"]
        if not pieces:
            raise InputError(f"{given.tokens} has no held-out pieces: mark some valid or test")
        result = {
            "model": given.model,
            "model_sha256": model_hash(read_info(find_model(given.model))),
            "codec_hash": info.codec_hash,
            "crops": given.rows,
            "pieces": len(pieces),
            "rows": measure(given.model, pieces, info.frame_rate, given.rows),
        }
    except MusicgenRLError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    write_json(given.out.with_suffix(".json"), result)
    given.out.with_suffix(".md").write_text(markdown(result), encoding="utf-8")
    print(markdown(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
