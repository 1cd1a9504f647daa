"""CLAP as encoder and scorer, where the user has a checkpoint in transformers' format."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from musicgen_rl.errors import CheckpointError, ModelNotFoundError, UnsupportedModelError
from musicgen_rl.rewards.identity import Identity, hash_file

_RATE = 48_000


class Clap:
    """A loaded CLAP model behind the interface of encoders and scorers."""

    def __init__(self, model: Any, processor: Any, identity: Identity) -> None:
        self._model, self._processor = model.eval(), processor
        self.identity = identity
        """Which checkpoint it is: scores of two of them differ by more than two models do."""

    @torch.no_grad()
    def embed(self, samples: Tensor, sample_rate: int) -> Tensor:
        """Embed samples [B, M] as unit vectors [B, d]."""
        import soxr

        sound = [soxr.resample(s.cpu().numpy(), sample_rate, _RATE) for s in samples]
        inputs = self._processor(audio=sound, sampling_rate=_RATE, return_tensors="pt")
        return F.normalize(_vectors(self._model.get_audio_features(**inputs)), dim=-1)

    @torch.no_grad()
    def score(self, samples: Tensor, sample_rate: int, captions: Sequence[str]) -> Tensor:
        """Score samples [B, M] against B captions by cosine, [B]."""
        inputs = self._processor(text=list(captions), return_tensors="pt", padding=True)
        texts = F.normalize(_vectors(self._model.get_text_features(**inputs)), dim=-1)
        return (self.embed(samples, sample_rate) * texts).sum(dim=-1)


def load_clap(name: str) -> Clap:
    """Load a CLAP checkpoint.

    Args:
        name: a folder, or a hub id such as laion/larger_clap_music.

    Raises:
        ModelNotFoundError: there is none.
        UnsupportedModelError: it is no CLAP model.
        CheckpointError: it has no safetensors, so its hash cannot be told.
    """
    from transformers import AutoConfig, ClapModel, ClapProcessor

    try:
        folder = Path(name).expanduser()
        if not folder.is_dir():
            from huggingface_hub import snapshot_download

            folder = Path(snapshot_download(name))
        config = AutoConfig.from_pretrained(folder)
        if config.model_type != "clap":
            raise UnsupportedModelError(
                f"{name} is a {config.model_type} model, not CLAP: give one such as "
                "laion/larger_clap_music"
            )
        weights = sorted(folder.glob("*.safetensors"))
        if not weights:
            raise CheckpointError(f"{name} has no safetensors: convert it first")
        model = ClapModel.from_pretrained(folder)
        processor = ClapProcessor.from_pretrained(folder)
    except (OSError, ValueError) as error:
        if isinstance(error, UnsupportedModelError | CheckpointError):
            raise
        raise ModelNotFoundError(f"cannot load CLAP {name!r}: {error}") from error
    return Clap(model, processor, Identity(name, hash_file(weights[0]), "encoder", "report"))


def _vectors(output: Any) -> Tensor:
    """Take the projected embeddings out of what this version of transformers returns."""
    pooled = getattr(output, "pooler_output", None)
    found: Tensor = output if pooled is None else pooled
    return found
