"""How best to code what the encoder hears, the codebooks as they are?

    python benchmarks/codec_search.py --manifest M [--split valid] [--clips 200] [--model pocket]
        [--out STEM]

A frame's nearest entry of each codebook in turn, or several ways followed through the codebooks;
changes from frame to frame as they are, or taken a little larger (`BEAM` of codec/quantizer.py and
`EMPHASIS` of codec/frame.py are what `encode` takes). Of ten-second clips of pieces that the codec
never learnt from:

- how far the latents lie from what is coded of them, as a share of their variance;
- `codec_report`'s measures of what is heard;
- what the codes cost the model's language model, which learnt from the nearest entries, in nats a
  code, the first codebook apart, without a prompt;
- clips the model has played itself (`PROMPTS`), coded anew: how many of the first codebook's codes
  come back, and what the codes cost;
- the time that searching takes, as a share of computing the latents, side by side in this run.

`musicgen-rl data make` makes the pieces, of a seed that training did not use.
"""

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from musicgen_rl.checkpoint import find_model, load_lm, read_info
from musicgen_rl.codec.frame import FrameCodec, emphasize_changes
from musicgen_rl.codec.load import load_codec
from musicgen_rl.errors import InputError, MusicgenRLError
from musicgen_rl.lm.condition import null_condition
from musicgen_rl.lm.delay import apply_delay, shift_right
from musicgen_rl.lm.transformer import MusicLM
from musicgen_rl.pipeline import Pipeline
from musicgen_rl.storage import write_json
from musicgen_rl.training.codec_crops import AudioPool, fixed_crops, fixed_files, read_split
from musicgen_rl.training.codec_report import judge_codec
from musicgen_rl.training.lm_loss import token_losses
from musicgen_rl.training.tokens import hash_folder

SEARCHES = (
    (1, 0.0), (2, 0.0), (4, 0.0), (8, 0.0), (16, 0.0), (8, 0.05), (8, 0.1), (8, 0.15), (8, 0.2)
)  # fmt: skip
"""Ways followed and emphasis of changes."""
HEARD = ("distance", "chroma", "chroma_interval", "onset_f1", "onset_f1_interval", "level_db")
CLIP_S = 10.0
BATCH = 8
"""Clips that the language model hears at once."""
ROUNDS = 3
"""Timings of each, taking turns; the shortest counts."""
PROMPTS = (
    "slow sad piano", "rock with electric guitar", "house", "string quartet", "funk", "lo-fi",
    "techno 130 bpm", "orchestral march", "jazz trio", "ambient pad",
)  # fmt: skip


class Searching:
    """A codec that codes along so many ways, with such an emphasis; only for `judge_codec`."""

    def __init__(self, codec: FrameCodec, ways: int, emphasis: float) -> None:
        self._codec, self._ways, self._emphasis = codec, ways, emphasis
        self.sample_rate, self.codebook_size = codec.sample_rate, codec.codebook_size
        self.device = codec.device

    @torch.no_grad()
    def encode(self, samples: Tensor) -> Tensor:
        """Code samples [B, 1, M]."""
        return self.code(self._codec.latents(samples[:, 0]))

    def code(self, latents: Tensor) -> Tensor:
        """Code latents [B, T, D]."""
        return self._codec.quantizer.encode(emphasize_changes(latents, self._emphasis), self._ways)

    def decode(self, codes: Tensor) -> Tensor:
        """Sound codes."""
        return self._codec.decode(codes)


@torch.no_grad()
def cost(lm: MusicLM, codes: Tensor) -> list[float]:
    """Compute what codes [B, K, T] cost without a prompt, nats a code of each codebook."""
    pad, total = lm.config.pad_token, torch.zeros(codes.shape[1], dtype=torch.float64)
    for first in range(0, len(codes), BATCH):
        part = codes[first : first + BATCH]
        targets = apply_delay(part, pad)
        condition = null_condition(len(part), lm.config.text_hidden_size, part.device)
        logits = lm(shift_right(targets, pad), condition)
        total += token_losses(logits, targets, pad).sum((0, 2))
    return [float(x) for x in total / (codes.shape[0] * codes.shape[2])]


def seconds_taken(codec: FrameCodec, clips: Tensor, ways: Sequence[int]) -> dict[int, float]:
    """Time searches, as shares of the time that computing the latents of clips [B, M] takes."""
    taken = {way: float("inf") for way in (0, *ways)}  # 0: the latents
    with torch.no_grad():
        latents = codec.latents(clips)
        for _ in range(ROUNDS):
            for way in taken:
                began = time.perf_counter()
                if way:
                    codec.quantizer.encode(latents, way)
                else:
                    codec.latents(clips)
                taken[way] = min(taken[way], time.perf_counter() - began)
    return {way: taken[way] / taken[0] for way in ways}


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Measure every search; see the top of this file."""
    info = read_info(find_model(args.model))
    lm = load_lm(info)
    codec = load_codec(info.folder / "codec")
    if not isinstance(codec, FrameCodec):
        raise InputError(f"{args.model} has no frame codec: only its search can be told apart")
    played = Pipeline.load(args.model).generate(PROMPTS, duration_s=CLIP_S, seed=3)
    rate, length = codec.sample_rate, round(CLIP_S * codec.sample_rate)
    held = read_split(args.manifest, args.split)
    clips = fixed_crops(AudioPool(held, rate, length), args.clips, length)
    pieces = fixed_files(len(held), args.clips)
    own = torch.stack([torch.from_numpy(clip.codes) for clip in played if clip.codes is not None])
    with torch.no_grad():
        latents = torch.cat([codec.latents(clip[None]) for clip in clips])
        own_latents = codec.latents(codec.decode(own)[:, 0])
    times = seconds_taken(codec, clips[:BATCH], sorted({ways for ways, _ in SEARCHES}))
    rows: list[dict[str, Any]] = []
    for ways, emphasis in SEARCHES:
        search: Any = Searching(codec, ways, emphasis)
        codes, again = search.code(latents), search.code(own_latents)
        report, _ = judge_codec(search, clips, pieces)
        costs, own_costs = cost(lm, codes), cost(lm, again)
        left = (codec.quantizer.decode(codes) - latents).square().mean() / latents.var()
        rows.append({
            "ways": ways, "emphasis": emphasis, "left": float(left), "time": times[ways],
            **{name: report[name] for name in HEARD if name in report},
            "cost": sum(costs) / len(costs), "costs": costs,
            "own_same_first": float((again[:, 0] == own[:, 0]).float().mean()),
            "own_same": float((again == own).float().mean()),
            "own_cost": sum(own_costs) / len(own_costs),
        })  # fmt: skip
        sys.stderr.write(f"{rows[-1]}\n")
    own_costs = cost(lm, own)
    return {
        "codec_hash": hash_folder(info.folder / "codec"), "clips": args.clips,
        "pieces": len(set(pieces)), "own_cost_as_played": sum(own_costs) / len(own_costs),
        "threads": torch.get_num_threads(), "rows": rows,
    }  # fmt: skip


def table(found: Mapping[str, Any]) -> str:
    """Write the rows as Markdown."""
    lines = [
        "# How best to code what the encoder hears",
        "",
        "Made by `benchmarks/codec_search.py`; its first lines say what each column is. "
        f"{found['clips']} clips of {CLIP_S:g} s of {found['pieces']} pieces, intervals of 95 % by "
        f"bootstrap over pieces; {len(PROMPTS)} clips of the model's own, whose codes as they were "
        f"played cost {found['own_cost_as_played']:.2f}; {found['threads']} threads.",
        "",
        "| ways | emphasis | left | distance | chroma | onset F1 | level, dB | nats a code "
        "| first codebook | own: first codes the same | own: nats a code | time |",
        "|---" * 12 + "|",
    ]
    for row in found["rows"]:
        heard = [
            f"{row[name]:.3f}" + (f" ({low:.3f} to {high:.3f})" if low is not None else "")
            for name in ("chroma", "onset_f1")
            for low, high in [row.get(f"{name}_interval") or (None, None)]
        ]
        lines.append(
            f"| {row['ways']} | {row['emphasis']:g} | {row['left']:.3f} | {row['distance']:.3f} | "
            f"{' | '.join(heard)} | {row['level_db']:.2f} | {row['cost']:.3f} | "
            f"{row['costs'][0]:.2f} | {row['own_same_first']:.2f} | {row['own_cost']:.2f} | "
            f"{row['time']:.2f} |"
        )
    return "\n".join(lines) + "\n"


def main() -> int:
    """Run from the command line; see the top of this file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--manifest", type=Path, required=True)
    parser.add_argument("--split", default="valid")
    parser.add_argument("--clips", type=int, default=200)
    parser.add_argument("--model", default="pocket")
    parser.add_argument("--out", default="benchmarks/results/codec_search")
    args = parser.parse_args()
    try:
        found = measure(args)
        write_json(Path(f"{args.out}.json"), found)
        Path(f"{args.out}.md").write_text(table(found), encoding="utf-8")
    except MusicgenRLError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    sys.stdout.write(json.dumps(found) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
