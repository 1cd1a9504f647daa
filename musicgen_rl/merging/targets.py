"""Where a slider writes: the parameters of a running model, in place, whatever their format."""

from collections.abc import Callable
from functools import partial
from typing import Protocol

import torch
from torch import Tensor

from musicgen_rl.lm.compiled_weights import CompiledWeights
from musicgen_rl.lm.transformer import MusicLM
from musicgen_rl.merging import ops

_BLOCK = 1 << 17
"""Numbers converted at a time: three float32 blocks stay in the processor's cache, so endpoints in
half precision cost the bandwidth of half precision. A multiple of every vector width, so blocks
give the bits of the whole."""

Mix = Callable[..., Tensor]
"""Takes blocks of one or more tensors, returns their mix in float32."""


class Target(Protocol):
    """A model whose weights can be written in place, by the names of `MusicLM.state_dict()`."""

    device: torch.device

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Map every tensor's name to its shape."""
        ...

    def lerp_(self, name: str, quality: Tensor, diversity: Tensor, lam: float) -> None:
        """Set a tensor to (1 - lam) quality + lam diversity."""
        ...

    def mix_(self, name: str, mix: Mix, *tensors: Tensor) -> None:
        """Set a tensor to `mix` of others of its shape, an elementwise function."""
        ...


def target_of(model: "MusicLM | CompiledWeights | Target") -> Target:
    """Find how to write to a model."""
    if isinstance(model, MusicLM):
        return ModelTarget(model)
    if isinstance(model, CompiledWeights):
        return CompiledTarget(model)
    return model


class ModelTarget:
    """Writes to a MusicLM in float32 or bfloat16.

    Parameters keep their addresses, so a captured CUDA graph stays valid.

    Args:
        model: prepared to run; do not move it to another device or dtype afterwards.
    """

    def __init__(self, model: MusicLM) -> None:
        self.device = model.norm.weight.device
        self._plain = dict(model.named_parameters())

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Map every tensor's name to its shape."""
        return {name: tuple(p.shape) for name, p in self._plain.items()}

    @torch.no_grad()
    def lerp_(self, name: str, quality: Tensor, diversity: Tensor, lam: float) -> None:
        """Set a tensor to (1 - lam) quality + lam diversity, in one pass where dtypes agree."""
        plain = self._plain[name]
        if plain.dtype == quality.dtype == diversity.dtype:
            # torch computes bfloat16 in float32 inside, so this is `ops.lerp`, rounded once.
            torch.lerp(quality, diversity, lam, out=plain)
        else:
            self.mix_(name, partial(ops.lerp, lam=lam), quality, diversity)

    @torch.no_grad()
    def mix_(self, name: str, mix: Mix, *tensors: Tensor) -> None:
        """Set a tensor to `mix` of others of its shape, an elementwise function."""
        _write(self._plain[name], mix, tensors)


class CompiledTarget:
    """Writes to the int8 weights of the compiled decoder, which keep their addresses.

    Args:
        weights: shared by the runners of one model.
    """

    def __init__(self, weights: CompiledWeights) -> None:
        self.device = torch.device("cpu")
        self._weights = weights
        self._shapes = _state_shapes(weights)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Map every tensor's name to its shape."""
        return self._shapes

    def lerp_(self, name: str, quality: Tensor, diversity: Tensor, lam: float) -> None:
        """Set a tensor to (1 - lam) quality + lam diversity, quantized in the same pass."""
        self._weights.lerp_quantize_(name, quality, diversity, lam)

    @torch.no_grad()
    def mix_(self, name: str, mix: Mix, *tensors: Tensor) -> None:
        """Set a tensor to `mix` of others of its shape, an elementwise function."""
        self._weights.load_({name: mix(*tensors)})


def _write(out: Tensor, mix: Mix, tensors: tuple[Tensor, ...]) -> None:
    """Write `mix` of whole tensors to `out`, block by block."""
    flat = out.view(-1)
    sources = [t.reshape(-1) for t in tensors]
    size = _BLOCK if out.device.type == "cpu" else max(out.numel(), 1)  # a GPU wants one launch
    for start in range(0, out.numel(), size):
        block = slice(start, start + size)
        flat[block].copy_(mix(*(s[block] for s in sources)))


def _state_shapes(weights: CompiledWeights) -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        model = MusicLM(weights.config)
    return {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
