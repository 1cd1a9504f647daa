"""A codec, a manifest and a stand-in text encoder, for the runs that begin with audio."""

import json
from pathlib import Path

import numpy as np
import soundfile
import torch

from musicgen_rl.codec.frame import FrameCodec
from musicgen_rl.codec.load import save_codec
from musicgen_rl.config import FrameCodecConfig
from musicgen_rl.lm.condition import Condition

CODEC = FrameCodecConfig(
    sample_rate=8000, hop_length=160, n_fft=320, n_mels=20, num_codebooks=2, codebook_size=16,
    codebook_dim=4, encoder_layers=1, encoder_width=8, decoder_layers=1, decoder_width=8,
)  # fmt: skip


class Encoder:
    """States of ones, 16 wide, whatever the prompt."""

    hidden_size = 16

    def encode(self, prompts: list[str]) -> Condition:
        hidden = torch.ones(len(prompts), 3, 16)
        return Condition(hidden, torch.ones(len(prompts), 3, dtype=torch.bool))

    def by_length(self) -> "Encoder":
        return self


def write_corpus(folder: Path) -> Path:
    """Write `codec/`, `minilm/` and `m.jsonl` of three short recordings; returns the folder."""
    write_codec(folder / "codec", seed=0)
    write_reader(folder / "minilm", "first")
    random = np.random.default_rng(0)
    rows = []
    for index, split in enumerate(("train", "train", "valid")):
        samples = 0.1 * random.standard_normal(20000)
        soundfile.write(folder / f"{index}.wav", samples, 8000)
        rows.append({"audio": f"{index}.wav", "captions": [f"noise {index}"], "split": split,
                     "license": "CC0-1.0"})  # fmt: skip
    (folder / "m.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def write_reader(folder: Path, weights: str) -> None:
    """Write what tells one text encoder from another; `Encoder` is what reads."""
    folder.mkdir(exist_ok=True)
    (folder / "model.safetensors").write_text(weights)
    (folder / "README.md").write_text("For people.")


def write_codec(folder: Path, seed: int) -> None:
    """Write a codec whose weights follow from the seed."""
    torch.manual_seed(seed)
    save_codec(FrameCodec(CODEC), folder)
