"""CLAP as encoder and scorer, where the user has a checkpoint in transformers' format."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from musicgen_rl.errors import CheckpointError, ModelNotFoundError, UnsupportedModelError
from musicgen_rl.rewards.identity import Identity
from musicgen_rl.storage import hash_file

_RATE = 48_000
_BATCH = 16  # clips heard at once: beside a model on a GPU, more would only cost memory
_TENSORS = {"return_tensors": "pt"}


class Clap:
    """A loaded CLAP model behind the interface of encoders and scorers."""

    def __init__(self, model: Any, processor: Any, identity: Identity) -> None:
        self._model, self._processor = model.eval(), processor
        self.identity = identity
        """Which checkpoint it is: scores of two of them differ by more than two models do."""

    def to(self, device: torch.device | str) -> "Clap":
        """Move to a device, in place."""
        self._model.to(device)
        return self

    @torch.no_grad()
    def embed(self, samples: Tensor, sample_rate: int) -> Tensor:
        """Embed samples [B, M] as unit vectors [B, d], on CLAP's device."""
        return torch.cat([self._hear(part, sample_rate) for part in torch.split(samples, _BATCH)])

    @torch.no_grad()
    def score(self, samples: Tensor, sample_rate: int, captions: Sequence[str]) -> Tensor:
        """Score samples [B, M] against B captions by cosine, [B], on CLAP's device."""
        inputs = self._placed(self._processor(text=list(captions), padding=True, **_TENSORS))
        texts = F.normalize(_vectors(self._model.get_text_features(**inputs)), dim=-1)
        return (self.embed(samples, sample_rate) * texts).sum(dim=-1)

    def _hear(self, samples: Tensor, sample_rate: int) -> Tensor:
        import soxr

        sound = [soxr.resample(s.cpu().numpy(), sample_rate, _RATE) for s in samples]
        inputs = self._placed(self._processor(audio=sound, sampling_rate=_RATE, **_TENSORS))
        return F.normalize(_vectors(self._model.get_audio_features(**inputs)), dim=-1)

    def _placed(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Bring what the processor made, on the CPU, to where the model is."""
        device = next(self._model.parameters()).device
        return {name: tensor.to(device) for name, tensor in inputs.items()}


def load_clap(name: str, device: torch.device | str = "cpu") -> Clap:
    """Load a CLAP checkpoint.

    Args:
        name: a folder, or a hub id such as laion/larger_clap_music.
        device: where it runs.

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
    identity = Identity(name, hash_file(weights[0]), "encoder", "report")
    return Clap(model, processor, identity).to(device)


def _vectors(output: Any) -> Tensor:
    """Take the projected embeddings out of what this version of transformers returns."""
    pooled = getattr(output, "pooler_output", None)
    found: Tensor = output if pooled is None else pooled
    return found
