"""EnCodec through transformers: the codec of facebook/musicgen-*.

Stereo is two mono passes whose codebooks alternate left, right, left, right, as transformers'
MusicGen has it.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from musicgen_rl.errors import CheckpointError, InputError, UnsupportedModelError

LSTM_FRAMES = 64
"""Frames before a chunk that its LSTM is run over; with random weights of MusicGen's shape what
came before them changes samples by less than 1e-4 of their peak."""
CONVOLUTION_FRAMES = 5
"""Reach of the decoder's convolutions in frames, to either side where they are not causal."""


class EncodecCodec:
    """Adapter of transformers' EncodecModel to the `Codec` protocol.

    Decoding is not strictly local: an LSTM carries all of the past. Streaming with
    `context_frames` is therefore equal to the whole decode only to a tolerance, see LSTM_FRAMES.
    """

    def __init__(self, model: Any, *, audio_channels: int = 1) -> None:
        """Wrap a model.

        Args:
            model: a transformers EncodecModel of one channel.
            audio_channels: 2 runs it once a channel.

        Raises:
            UnsupportedModelError: a model that chunks, normalizes, or has two channels itself.
        """
        check_config(model.config.to_dict())
        if audio_channels not in (1, 2):
            raise UnsupportedModelError(f"audio_channels must be 1 or 2, got {audio_channels}")
        self._model = model.eval().requires_grad_(False)
        self._channels = audio_channels
        self._bandwidth = model.config.target_bandwidths[-1]
        self._mono_codebooks: int = model.config.num_quantizers

    @property
    def device(self) -> torch.device:
        """Where it lies: samples and codes are given there, and come back there."""
        place: torch.device = next(self._model.parameters()).device
        return place

    def to(self, device: torch.device) -> "EncodecCodec":
        """Move to a device, in place."""
        self._model.to(device)
        return self

    @property
    def model(self) -> Any:
        """The EncodecModel inside."""
        return self._model

    @property
    def sample_rate(self) -> int:
        """Hz."""
        return int(self._model.config.sampling_rate)

    @property
    def hop_length(self) -> int:
        """Samples of one frame."""
        return int(self._model.config.hop_length)

    @property
    def num_codebooks(self) -> int:
        """K over all channels."""
        return self._mono_codebooks * self._channels

    @property
    def codebook_size(self) -> int:
        """V."""
        return int(self._model.config.codebook_size)

    @property
    def audio_channels(self) -> int:
        """C: 1 or 2."""
        return self._channels

    @property
    def context_frames(self) -> tuple[int, int]:
        """Frames (before, after) for streaming; the LSTM's share is a tolerance, not a bound."""
        config = self._model.config
        lstm = LSTM_FRAMES if config.num_lstm_layers else 0
        return lstm + CONVOLUTION_FRAMES, 0 if config.use_causal_conv else CONVOLUTION_FRAMES

    @torch.inference_mode()
    def encode(self, samples: Tensor) -> Tensor:
        """Encode samples [B, C, M] in [-1, 1] to codes [B, K, T], T = ceil(M / hop_length).

        Raises:
            InputError: another number of channels, empty, or not finite.
        """
        if samples.dim() != 3 or samples.shape[1] != self._channels or samples.shape[2] == 0:
            raise InputError(
                f"this codec encodes samples [B, {self._channels}, M], got {tuple(samples.shape)}"
            )
        if not bool(torch.isfinite(samples).all()):
            raise InputError("samples hold nan or infinite values: check the file they came from")
        B, C, M = samples.shape
        short = -M % self.hop_length
        padded = torch.nn.functional.pad(samples, (0, short)).reshape(B * C, 1, M + short)
        codes = self._model.encode(padded, bandwidth=self._bandwidth, return_dict=True).audio_codes
        mono = codes[0].view(B, C, self._mono_codebooks, -1)  # [B, C, K / C, T]
        out: Tensor = mono.transpose(1, 2).reshape(B, self.num_codebooks, -1)
        return out

    @torch.inference_mode()
    def decode(self, codes: Tensor) -> Tensor:
        """Decode codes [B, K, T] to samples [B, C, T * hop_length], float32.

        Raises:
            InputError: another number of codebooks, or values outside of them.
        """
        if codes.dim() != 3 or codes.shape[1] != self.num_codebooks:
            raise InputError(
                f"this codec decodes codes [B, {self.num_codebooks}, T], got {tuple(codes.shape)}"
            )
        B, K, T = codes.shape
        if T == 0:
            return torch.zeros(B, self._channels, 0, device=codes.device)
        low, high = int(codes.min()), int(codes.max())
        if low < 0 or high >= self.codebook_size:
            raise InputError(f"codes must lie in [0, {self.codebook_size}), got {low} to {high}")
        C = self._channels
        mono = codes.view(B, K // C, C, T).transpose(1, 2).reshape(1, B * C, K // C, T)
        samples: Tensor = self._model.decode(mono, [None], return_dict=True).audio_values
        return samples.reshape(B, C, -1)[..., : T * self.hop_length].float()


def check_config(config: Mapping[str, Any]) -> None:
    """Refuse EnCodec variants that this package does not run.

    Args:
        config: an EncodecConfig as a dictionary.

    Raises:
        UnsupportedModelError: naming the field and its value.
    """
    kind = config.get("model_type")
    if kind != "encodec":
        raise UnsupportedModelError(
            f"the codec is of type {kind!r}; this package runs encodec and its own frame codec"
        )
    for name, wanted in (("chunk_length_s", None), ("normalize", False), ("audio_channels", 1)):
        value = config.get(name, wanted)
        if value != wanted:
            raise UnsupportedModelError(
                f"the EnCodec has {name} {value!r}; only models with {name} {wanted!r}, like those "
                "of facebook/musicgen-*, are run here"
            )


def encodec_from_tensors(
    config: Mapping[str, Any], tensors: Mapping[str, Tensor], *, audio_channels: int = 1
) -> EncodecCodec:
    """Build the codec from a config and weights.

    Args:
        config: an EncodecConfig as a dictionary, for example `audio_encoder` of MusicGen's.
        tensors: the EncodecModel's weights, names without prefix.
        audio_channels: 2 for MusicGen's stereo models.

    Raises:
        UnsupportedModelError: a variant that is not run here.
        CheckpointError: tensors are missing, unknown or misshapen.
    """
    check_config(config)
    from transformers import EncodecConfig, EncodecModel

    model = EncodecModel(EncodecConfig(**config))
    wanted = model.state_dict()
    # Old files name the two halves of a normed weight otherwise.
    given = {_new_name(name): tensor for name, tensor in tensors.items()}
    problems = [f"{name} is missing" for name in wanted.keys() - given.keys()]
    problems += [
        f"{name} is {list(t.shape)}, not {list(wanted[name].shape)}"
        for name, t in given.items()
        if name in wanted and t.shape != wanted[name].shape
    ]
    if problems:
        listed = "; ".join(sorted(problems)[:8])
        raise CheckpointError(f"{len(problems)} EnCodec tensors do not fit: {listed}")
    model.load_state_dict({name: given[name].to(wanted[name].dtype) for name in wanted})
    return EncodecCodec(model, audio_channels=audio_channels)


def encodec_from_folder(folder: Path, *, audio_channels: int = 1) -> EncodecCodec:
    """Load a folder that EncodecModel.save_pretrained wrote; safetensors only.

    Raises:
        UnsupportedModelError: a variant that is not run here.
        CheckpointError: a file or tensor is missing, damaged or misshapen.
    """
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        tensors = load_file(folder / "model.safetensors")
    except (OSError, ValueError, SafetensorError) as error:
        raise CheckpointError(f"the EnCodec in {folder} cannot be read: {error}") from error
    return encodec_from_tensors(config, tensors, audio_channels=audio_channels)


def _new_name(name: str) -> str:
    name = name.replace(".weight_g", ".parametrizations.weight.original0")
    return name.replace(".weight_v", ".parametrizations.weight.original1")
