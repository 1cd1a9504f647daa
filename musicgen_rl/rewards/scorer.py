"""The scorer: how well a clip fits a caption, as a cosine in one space of sound and text.

The text side is MiniLM's sentence embedding, frozen, under a small head.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from musicgen_rl.checkpoint import checkpoints_folder
from musicgen_rl.errors import CheckpointError, InputError
from musicgen_rl.rewards.encoder import BATCH, SAMPLE_RATE
from musicgen_rl.rewards.files import fill, read_description
from musicgen_rl.rewards.identity import Identity
from musicgen_rl.rewards.mel import check_audio, level_free, mel_levels
from musicgen_rl.rewards.towers import Tower, TowerConfig
from musicgen_rl.text.minilm import MiniLM


class ScorerNet(nn.Module):
    """A tower and a projection for sound, a two-layer head for sentence embeddings."""

    def __init__(self, tower: TowerConfig, dim: int, text_size: int, text_width: int) -> None:
        super().__init__()
        self.tower = Tower(tower)
        self.project = nn.Linear(tower.width, dim)
        self.text_in = nn.Linear(text_size, text_width)
        self.text_out = nn.Linear(text_width, dim)

    def hear(self, frames: Tensor) -> Tensor:
        """Embed frames [B, T, N_MELS] as unit vectors [B, dim]."""
        return F.normalize(self.project(self.tower(frames)), dim=-1)

    def read(self, sentences: Tensor) -> Tensor:
        """Embed unit sentence embeddings [B, text_size] as unit vectors [B, dim]."""
        wide = F.gelu(self.text_in(sentences * sentences.shape[-1] ** 0.5))
        return F.normalize(self.text_out(wide), dim=-1)


class Scorer:
    """A loaded scorer."""

    def __init__(self, net: ScorerNet, text: MiniLM, identity: Identity) -> None:
        self._net = net.eval()
        self._text = text
        self.identity = identity
        """Which one it is; goes into every result."""

    @property
    def sample_rate(self) -> int:
        """Hz to resample to; any multiple of 50 Hz from 16 kHz up is heard without."""
        return SAMPLE_RATE

    def to(self, device: torch.device | str) -> "Scorer":
        """Move to a device, in place."""
        self._net.to(device)
        self._text.to(device)
        return self

    def score(self, samples: Tensor, sample_rate: int, captions: Sequence[str]) -> Tensor:
        """Score each clip against its caption.

        Args:
            samples: [B, M], mono, 1 s or longer.
            sample_rate: Hz.
            captions: B texts.

        Returns:
            Cosines [B], in [-1, 1]; comparable only among scores of this very scorer.

        Raises:
            InputError: audio that cannot be heard, an empty caption, or another number of them.
        """
        if len(captions) != len(samples):
            raise InputError(
                f"{len(samples)} clips need as many captions, got {len(captions)}: give one a clip"
            )
        texts = self.embed_text(captions)
        return (self.embed_audio(samples, sample_rate) * texts).sum(-1)

    @torch.no_grad()
    def embed_audio(self, samples: Tensor, sample_rate: int) -> Tensor:
        """Embed clips [B, M] as unit vectors [B, d]; their products with texts' are scores."""
        samples = check_audio(samples, sample_rate).to(self._net.project.weight.device)
        parts = [
            self._net.hear(level_free(mel_levels(part, sample_rate)))
            for part in torch.split(samples, BATCH)
        ]
        return torch.cat(parts)

    @torch.no_grad()
    def embed_text(self, captions: Sequence[str]) -> Tensor:
        """Embed B captions as unit vectors [B, d].

        Raises:
            InputError: one is empty, or there is none.
        """
        if not captions or any(not caption.strip() for caption in captions):
            raise InputError("a caption is empty: a clip can only be scored against words")
        return self._net.read(self._text.embed(list(captions)))


def load_scorer(
    folder: str | Path, device: torch.device | str = "cpu", text_encoder: Path | None = None
) -> Scorer:
    """Load a scorer.

    Args:
        folder: holds reward.json and model.safetensors.
        device: where it runs.
        text_encoder: MiniLM's folder; the one shipped where None.

    Raises:
        ModelNotFoundError: the scorer or the text encoder is missing.
        CheckpointError: one is damaged, or no scorer, or it was trained with another text encoder.
    """
    identity, tower, shape = read_description(folder, "scorer")
    text = MiniLM.load(text_encoder or checkpoints_folder() / "minilm")
    if text.hidden_size != shape["text_size"]:
        raise CheckpointError(
            f"the scorer in {str(folder)!r} reads sentences of {shape['text_size']} numbers, the "
            f"text encoder gives {text.hidden_size}"
        )
    net = ScorerNet(tower, int(shape["dim"]), int(shape["text_size"]), int(shape["text_width"]))
    fill(net, folder)
    return Scorer(net, text, identity).to(device)
