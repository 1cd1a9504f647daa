"""What holds the codec's chroma and onsets below 1: its codes, or how they are sounded?

    python benchmarks/codec_limits.py --corpus FOLDER --held-out FOLDER [--minutes 20] [--clips 200]
        [--codec checkpoints/pocket/codec] [--out STEM]

Rows, all over the same clips of pieces that the codec never learnt from: the codec as it is; its
latents sounded before they are coded (what the codes cost); and its codes sounded by a decoder that
learnt on for some minutes while encoder and codebooks stood still, once by the distances it was
trained with, once with a term more on the onset envelope and on the chromagram, the two things that
are measured. `musicgen-rl data make` makes both corpora, of different seeds.

Codes are those that `encode` finds. When the committed result was made these were the nearest
entries; since then they are searched for (`benchmarks/codec_search.py`), and the page says which.
"""

import argparse
import json
import math
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import librosa
import torch
from torch import Tensor

from musicgen_rl.checkpoint import checkpoints_folder
from musicgen_rl.codec.frame import EMPHASIS, FrameCodec
from musicgen_rl.codec.load import load_codec
from musicgen_rl.codec.quantizer import BEAM
from musicgen_rl.codec.spectral import PERIOD
from musicgen_rl.errors import InputError, MusicgenRLError
from musicgen_rl.storage import write_json
from musicgen_rl.training.codec import PITCH_WEIGHT
from musicgen_rl.training.codec_crops import (
    AudioPool,
    draw_crops,
    fixed_crops,
    fixed_files,
    read_split,
)
from musicgen_rl.training.codec_losses import training_distances
from musicgen_rl.training.codec_report import ONSET_HOP, judge_codec
from musicgen_rl.training.tokens import hash_folder

CLIP_S, CROP_S, BATCH, TRANSPOSE = 10.0, 1.6, 12, 3
RATE, WARMUP_STEPS = 5e-4, 30
ONSET_WEIGHT, CHROMA_WEIGHT = 1.0, 4.0
SHOWN = ("distance", "chroma", "chroma_interval", "onset_f1", "onset_f1_interval", "onset_f1_moved")


class Uncoded:
    """A codec whose decoder is given the latents themselves; only for `judge_codec`."""

    def __init__(self, codec: FrameCodec) -> None:
        self._codec = codec
        self.sample_rate, self.codebook_size = codec.sample_rate, codec.codebook_size
        self.device = codec.device

    @torch.no_grad()
    def encode(self, samples: Tensor) -> Tensor:
        """Keep the latents of samples [1, 1, M]; return the codes they would have had."""
        self._latents = self._codec.latents(samples[:, 0])
        return self._codec.encode(samples)

    @torch.no_grad()
    def decode(self, codes: Tensor) -> Tensor:
        """Sound what `encode` kept."""
        return self._codec.synthesize(self._latents, torch.zeros(1, dtype=torch.long))[:, None]


class Heard:
    """What the measures hear, so that a gradient goes through it; after librosa's definitions."""

    def __init__(self, sample_rate: int) -> None:
        mel = librosa.filters.mel(sr=sample_rate, n_fft=2048, n_mels=128)
        chroma = librosa.filters.chroma(sr=sample_rate, n_fft=4096, tuning=0.0)
        self._mel, self._chroma = torch.from_numpy(mel), torch.from_numpy(chroma)

    def onsets(self, samples: Tensor) -> Tensor:
        """Rise of each mel band in dB from frame to frame, [B, 128, T]."""
        bands = 10.0 * (self._mel @ _power(samples, 2048, ONSET_HOP)).clamp(min=1e-10).log10()
        bands = torch.maximum(bands, bands.detach().amax((1, 2), keepdim=True) - 80.0)
        return bands.diff(dim=-1).clamp(min=0.0)

    def chroma(self, samples: Tensor) -> Tensor:
        """The chromagram less its mean, [B, 12 * T]."""
        found = self._chroma @ _power(samples, 4096, 1024)
        found = (found / (found.amax(1, keepdim=True) + 1e-4)).flatten(1)
        return found - found.mean(1, keepdim=True)

    def loss(self, made: Tensor, real: Tensor) -> Tensor:
        """Compare onset envelopes and chromagrams, weighted."""
        with torch.no_grad():
            onsets, chroma = self.onsets(real), self.chroma(real)
        rises = self.onsets(made)
        envelope = (rises.mean(1) - onsets.mean(1)).abs().mean()
        onset = envelope + 0.1 * (rises - onsets).abs().mean()
        unlike = 1.0 - torch.nn.functional.cosine_similarity(self.chroma(made), chroma, eps=1e-3)
        return ONSET_WEIGHT * onset + CHROMA_WEIGHT * unlike.mean()


def _power(samples: Tensor, window: int, hop: int) -> Tensor:
    spectrum = torch.stft(
        samples, window, hop, window=torch.hann_window(window), return_complex=True
    )
    return spectrum.real.square() + spectrum.imag.square()


def train_decoder(
    codec: FrameCodec, pool: AudioPool, minutes: float, heard: Heard | None
) -> dict[str, Any]:
    """Go on training what sounds the codes; encoder and codebooks stay.

    Args:
        codec: changed in place.
        pool: music to learn from.
        minutes: of training; the rate falls to zero over them.
        heard: for the terms on onsets and chroma; None leaves them out.

    Returns:
        Steps taken, and the spectral distance of the first and the last tenth of them.
    """
    codec.requires_grad_(False)
    parts = (codec.decoder, codec.tone_head, codec.noise_head)
    learnt = [p.requires_grad_(True) for part in parts for p in part.parameters()]
    optimizer = torch.optim.AdamW(learnt, lr=RATE, betas=(0.9, 0.98), weight_decay=0.0)
    length = round(CROP_S * codec.sample_rate / codec.hop_length) * codec.hop_length
    generator = torch.Generator().manual_seed(5)
    began, course = time.monotonic(), list[float]()
    while (done := (time.monotonic() - began) / (60.0 * minutes)) < 1.0:
        step = len(course)
        warm = min(1.0, (step + 1) / WARMUP_STEPS)
        optimizer.param_groups[0]["lr"] = RATE * warm * 0.5 * (1.0 + math.cos(math.pi * done))
        crops = draw_crops(pool, BATCH, length, 5, step, TRANSPOSE)
        with torch.no_grad():
            latents = codec.quantizer.decode(codec.encode(crops[:, None]))
        made = codec.synthesize(latents, torch.randint(0, PERIOD, (BATCH,), generator=generator))
        distances = training_distances(made, crops, codec.sample_rate)
        spectral = torch.stack(
            [d * (PITCH_WEIGHT if name == "pitch" else 1.0) for name, d in distances.items()]
        ).sum()
        loss = spectral if heard is None else spectral + heard.loss(made, crops)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(learnt, 5.0)
        optimizer.step()
        course.append(spectral.item())
    tenth = max(1, len(course) // 10)
    first, last = sum(course[:tenth]) / tenth, sum(course[-tenth:]) / tenth
    return {"steps": len(course), "loss": [round(first, 3), round(last, 3)]}


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Train and judge; see the top of this file."""
    codec = load_codec(args.codec)
    if not isinstance(codec, FrameCodec):
        raise InputError(f"{args.codec} is not a frame codec: only its parts can be told apart")
    rate, length = codec.sample_rate, round(CLIP_S * codec.sample_rate)
    held = read_split(args.held_out / "manifest.jsonl", "valid")
    clips = fixed_crops(AudioPool(held, rate, length), args.clips, length)
    pieces = fixed_files(len(held), args.clips)
    pool = AudioPool(
        read_split(args.corpus / "manifest.jsonl", "train"), rate, round(2 * CROP_S * rate)
    )
    rows: list[dict[str, Any]] = []

    def judge(name: str, judged: Any, **more: Any) -> None:
        report, _ = judge_codec(judged, clips, pieces)
        rows.append({"name": name, **{k: report[k] for k in SHOWN if k in report}, **more})
        sys.stderr.write(f"{rows[-1]}\n")

    judge("as it is", codec)
    judge("latents, uncoded", Uncoded(codec))
    for name, heard in (
        ("decoder trained on", None), ("the same, onsets and chroma in the loss", Heard(rate))
    ):  # fmt: skip
        trained = load_codec(args.codec)
        assert isinstance(trained, FrameCodec)
        judge(name, trained, **train_decoder(trained, pool, args.minutes, heard))
    return {
        "codec_hash": hash_folder(args.codec), "clips": args.clips, "pieces": len(set(pieces)),
        "searched": [BEAM, EMPHASIS], "minutes": args.minutes,
        "threads": torch.get_num_threads(), "rows": rows,
    }  # fmt: skip


def table(found: Mapping[str, Any]) -> str:
    """Write the rows as Markdown."""

    def between(row: Mapping[str, Any], name: str) -> str:
        low, high = row.get(f"{name}_interval", (None, None))
        return f"{row[name]:.3f}" + ("" if low is None else f" ({low:.3f} to {high:.3f})")

    ways, emphasis = found.get("searched", (1, 0.0))
    codes = (
        f"{ways} ways followed, changes emphasised by {emphasis:g}" if ways > 1 else
        "nearest entries, as before they were [searched for](codec_search.md)"
    )  # fmt: skip
    lines = [
        "# What holds the codec's chroma and onsets below 1?",
        "",
        "Made by `benchmarks/codec_limits.py`; its first lines say what each row is. "
        f"{found['clips']} clips of {CLIP_S:g} s of {found['pieces']} pieces, 95 % by bootstrap "
        f"over pieces; {found['minutes']:g} minutes of training, {found['threads']} threads. "
        f"Codes: {codes}.",
        "",
        "| decoder | distance | chroma | onset F1 | steps | loss, first and last tenth |",
        "|---|---|---|---|---|---|",
    ]
    for row in found["rows"]:
        loss = " to ".join(f"{x:.3f}" for x in row.get("loss", []))
        lines.append(
            f"| {row['name']} | {row['distance']:.3f} | {between(row, 'chroma')} | "
            f"{between(row, 'onset_f1')} | {row.get('steps', '')} | {loss} |"
        )
    return "\n".join(lines) + "\n"


def main() -> int:
    """Run from the command line; see the top of this file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--held-out", type=Path, required=True)
    parser.add_argument("--codec", type=Path, default=checkpoints_folder() / "pocket" / "codec")
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--clips", type=int, default=200)
    parser.add_argument("--out", default="benchmarks/results/codec_limits")
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
