"""The weights of a MusicLM in int8, in one block of memory, for `compiled`."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from musicgen_rl.config import LMConfig
from musicgen_rl.errors import CheckpointError
from musicgen_rl.lm.compiled_layout import WIDTH
from musicgen_rl.lm.compiled_native import Block, native_function
from musicgen_rl.lm.transformer import MusicLM

LERP = "musicgen_rl.lm.compiled_kernels", "lerp_quantize"
"""Where the native code of quantizing is."""
_LINEARS = (
    "self_qkv",
    "self_out",
    "cross_query",
    "cross_key_value",
    "cross_out",
    "ffn_in",
    "ffn_out",
)
_NORMS = ("self_norm", "cross_norm", "ffn_norm")


@dataclass(frozen=True)
class Place:
    """Where a quantized weight lies."""

    outputs: int
    inputs: int
    width: int
    """Inputs, padded with zeros."""
    weight_at: int
    """Index of its first number in `CompiledWeights.numbers`."""
    scale_at: int
    """Index of its first output's scale in `CompiledWeights.scales`."""


class CompiledWeights:
    """Weights of one model: linear layers in int8 with a scale an output, the rest in float32.

    Runners of one model share one of these. Changing it changes what they compute from the next
    step on; the text they were given stays encoded with the old weights until `begin`.

    Args:
        config: shape of the model; all weights are zero until `load_`.
    """

    def __init__(self, config: LMConfig) -> None:
        self.config = config
        D, K, V = config.hidden_size, config.num_codebooks, config.codebook_size
        shapes = {
            "self_qkv": (3 * D, D), "self_out": (D, D), "cross_query": (D, D),
            "cross_key_value": (2 * D, D), "cross_out": (D, D), "ffn_in": (config.ffn_size, D),
            "ffn_out": (D, config.ffn_size),
        }  # fmt: skip
        self.places: dict[str, Place] = {}
        weight_at = scale_at = 0
        named = [
            (f"blocks.{i}.{name}.weight", *shapes[name])
            for i in range(config.num_layers)
            for name in shapes
        ]
        named.append(("heads.weight", K * V, D))
        if config.text_hidden_size != D:
            named.append(("text_projection.weight", D, config.text_hidden_size))
        for name, outputs, inputs in named:
            width = -(-inputs // WIDTH) * WIDTH
            self.places[name] = Place(outputs, inputs, width, weight_at, scale_at)
            weight_at += outputs * width
            scale_at += outputs
        self.numbers = aligned((weight_at,), np.int8)
        self.scales = aligned((scale_at,), np.float32)
        self.norms = aligned((3 * config.num_layers + 1, 2, D), np.float32)
        self.embed = aligned((K * (V + 1), D), np.float32)
        self.text_bias = np.zeros(D, np.float32)
        norms = torch.from_numpy(self.norms)
        self._plain = {"embed.weight": torch.from_numpy(self.embed)}
        for i in range(config.num_layers):
            for j, name in enumerate(_NORMS):
                self._plain[f"blocks.{i}.{name}.weight"] = norms[3 * i + j, 0]
                self._plain[f"blocks.{i}.{name}.bias"] = norms[3 * i + j, 1]
        self._plain |= {"norm.weight": norms[-1, 0], "norm.bias": norms[-1, 1]}
        if "text_projection.weight" in self.places:
            self._plain["text_projection.bias"] = torch.from_numpy(self.text_bias)

    @classmethod
    def from_model(cls, model: MusicLM) -> "CompiledWeights":
        """Quantize a model; the model is only read."""
        weights = cls(model.config)
        weights.load_(model.state_dict())
        return weights

    def copy(self) -> "CompiledWeights":
        """Make weights of one's own, as these are now."""
        other = CompiledWeights(self.config)
        for name in ("numbers", "scales", "norms", "embed", "text_bias"):
            getattr(other, name)[...] = getattr(self, name)
        return other

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return sum(a.nbytes for a in (self.numbers, self.scales, self.norms, self.embed))

    @torch.no_grad()
    def load_(self, state: Mapping[str, Tensor]) -> None:
        """Take tensors of `MusicLM.state_dict()` over, in place; those not given stay.

        Args:
            state: any floating dtype.

        Raises:
            CheckpointError: a name or shape is not one of this model's; nothing was changed then.
        """
        for name, tensor in state.items():
            self._check(name, tensor)
        for name, tensor in state.items():
            if name in self._plain:
                self._plain[name].copy_(tensor)
            else:
                self._lerp(name, tensor, tensor, 0.0)

    @torch.no_grad()
    def lerp_quantize_(self, name: str, quality: Tensor, diversity: Tensor, lam: float) -> None:
        """Set one tensor to quality + lam (diversity - quality), quantized in the same pass.

        Args:
            name: a name of `MusicLM.state_dict()`.
            quality: the tensor at lam = 0.
            diversity: the tensor at lam = 1.
            lam: may lie outside [0, 1].

        Raises:
            CheckpointError: a name or shape is not one of this model's.
        """
        self._check(name, quality)
        self._check(name, diversity)
        if name in self._plain:
            torch.lerp(quality.float(), diversity.float(), lam, out=self._plain[name])
        else:
            self._lerp(name, quality, diversity, lam)

    def dequantized(self, name: str) -> Tensor:
        """Return a copy of a tensor as it is used, float32."""
        if name in self._plain:
            return self._plain[name].clone()
        numbers, scales = self._view(name)
        inputs = self.places[name].inputs
        return torch.from_numpy(numbers[:, :inputs] * scales[:, None])

    def _view(self, name: str) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
        at = self.places[name]
        numbers = self.numbers[at.weight_at : at.weight_at + at.outputs * at.width]
        return numbers.reshape(at.outputs, at.width), self.scales[at.scale_at :][: at.outputs]

    def _lerp(self, name: str, a: Tensor, b: Tensor, weight: float) -> None:
        numbers, scales = self._view(name)
        first = a.float().contiguous().numpy()
        second = first if b is a else b.float().contiguous().numpy()
        room = np.empty(first.shape[1], np.float32)
        block = Block(first, second, np.array([weight]), room, numbers, scales)
        native_function(*LERP)(0, block.address)

    def _check(self, name: str, tensor: Tensor) -> None:
        if name in self._plain:
            shape = tuple(self._plain[name].shape)
        elif name in self.places:
            shape = (self.places[name].outputs, self.places[name].inputs)
        else:
            raise CheckpointError(f"tensor {name!r} is not part of this model: check its config")
        if tuple(tensor.shape) != shape:
            raise CheckpointError(
                f"tensor {name!r} has shape {tuple(tensor.shape)}, this model has {shape}: "
                "config and weights are not of one model"
            )


def aligned(shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
    """Make zeros that begin at a line of the processor's cache."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    raw = np.zeros(size + 64, np.uint8)
    start = -raw.ctypes.data % 64
    result: NDArray[Any] = raw[start : start + size].view(dtype).reshape(shape)
    return result
