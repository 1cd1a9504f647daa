"""How much of the sound do frame rate and number of codebooks keep, before any network is trained?

What the frame codec hears (log bands, two to a semitone, and mel bands) is projected on its
principal components and quantized by residual k-means of 1,024 entries; the root mean square error
on held-out pieces, in nats of a band's level, is what no decoder gets back. Takes two minutes.

    python benchmarks/codec_rates.py --manifest corpus/manifest.jsonl
"""

import argparse
import json
from pathlib import Path

import torch
from torch import Tensor

from musicgen_rl.codec.frame import FEATURE_SPREAD, FrameCodec
from musicgen_rl.config import FrameCodecConfig
from musicgen_rl.training.codec_crops import AudioPool, fixed_crops, read_split

SHAPES = [(640, 64, (4, 6, 8)), (1280, 128, (8, 10, 12, 16))]
"""Samples a frame, latent width, codebooks."""
ENTRIES, ROUNDS, SECONDS, RATE = 1024, 8, 4, 32000


def nearest(points: Tensor, entries: Tensor) -> Tensor:
    """Number of each point's nearest entry, [N]."""
    return torch.cat([torch.cdist(part, entries).argmin(1) for part in points.split(8192)])


def learn_entries(points: Tensor, generator: torch.Generator) -> Tensor:
    """Run k-means on points [N, D]; entries without a point start again elsewhere."""
    entries = points[torch.randperm(len(points), generator=generator)[:ENTRIES]].clone()
    for _ in range(ROUNDS):
        found = nearest(points, entries)
        counts = torch.bincount(found, minlength=ENTRIES)[:, None]
        means = torch.zeros_like(entries).index_add_(0, found, points) / counts.clamp(min=1)
        fresh = points[torch.randperm(len(points), generator=generator)[:ENTRIES]]
        entries = torch.where(counts > 0, means, fresh)
    return entries


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--manifest", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/codec_rates.json"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    length = SECONDS * RATE
    pools = (AudioPool(read_split(options.manifest, s), RATE, length) for s in ("train", "valid"))
    train, valid = (fixed_crops(pool, n, length) for pool, n in zip(pools, (360, 40), strict=True))
    rows = []
    for hop, dim, wanted in SHAPES:
        codec = FrameCodec(FrameCodecConfig(hop_length=hop, codebook_dim=dim))
        heard, held = (
            torch.cat([codec.features(part).flatten(0, 1) for part in torch.split(sound, 8)])
            for sound in (train, valid)
        )
        heard = heard[:: 1280 // hop]  # as many examples at either rate
        mean = heard.mean(0)
        covariance = (heard - mean).T @ (heard - mean) / len(heard)
        axes = torch.linalg.eigh(covariance.double())[1][:, -dim:].float()
        left, left_held = (heard - mean) @ axes, (held - mean) @ axes
        lost = (held - mean - left_held @ axes.T).square().mean()
        generator = torch.Generator().manual_seed(0)
        for k in range(1, max(wanted) + 1):
            entries = learn_entries(left, generator)
            left = left - entries[nearest(left, entries)]
            left_held = left_held - entries[nearest(left_held, entries)]
            if k in wanted:
                error = (left_held.square().sum(1).mean() / held.shape[1] + lost).sqrt()
                rows.append({
                    "frame_rate": RATE / hop, "num_codebooks": k,
                    "kbps": k * 10 * RATE / hop / 1000,
                    "error_nats": round(FEATURE_SPREAD * float(error), 3),
                    "error_unquantized": round(FEATURE_SPREAD * float(lost.sqrt()), 3),
                })  # fmt: skip
                print(rows[-1], flush=True)
    options.out.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
