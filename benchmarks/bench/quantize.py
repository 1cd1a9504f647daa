"""int8 linear layers for decoding on a CPU, where a step's time is the bytes of its weights.

Weights have one scale an output channel. Inputs are scaled row by row to 7 bits (so that the
8-bit multiply-add of CPUs without VNNI cannot overflow its 16-bit sums) and the sums are exact
integers. So a row's result does not depend on the other rows of the batch.
"""

import warnings
from typing import Any

import torch
from torch import Tensor, nn

from musicgen_rl.errors import ConfigError

_LEVELS = 63  # of the input on either side of zero: 7 bits


def int8_available() -> bool:
    """Tell whether this build of torch has the int8 kernels used here (x86 with AVX2)."""
    return "fbgemm" in torch.backends.quantized.supported_engines


class Int8Linear(nn.Module):
    """A linear layer without bias, weights in int8.

    Args:
        weight: [out, in], any floating dtype.

    Raises:
        ConfigError: this CPU or build of torch has no int8 kernels.
    """

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        if not int8_available():
            raise ConfigError("dtype int8 needs an x86 CPU with AVX2: use dtype fp32 here")
        self.out_features, self.in_features = weight.shape
        self._packed: Any = None
        self.load_weight(weight)

    @torch.no_grad()
    def load_weight(self, weight: Tensor) -> None:
        """Quantize `weight` [out, in] and use it from now on."""
        weight = weight.detach().float()
        scale = weight.abs().amax(1).clamp_(min=1e-12) / 127
        zero = torch.zeros(len(scale), dtype=torch.long)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the eager API warns of its successor
            quantized = torch.quantize_per_channel(weight, scale, zero, 0, torch.qint8)
            self._packed = torch.ops.quantized.linear_prepack(quantized, None)

    def forward(self, x: Tensor) -> Tensor:
        """Multiply x [..., in] by the weight: [..., out], float32."""
        size = x.abs().amax(-1, keepdim=True).clamp_(min=1e-12)
        out: Tensor = torch.ops.quantized.linear_with_input_q_dq_qweight_dq_output_fp32(
            x / size, 1 / _LEVELS, _LEVELS + 1, self._packed
        )
        return out.mul_(size)

    def dequantized(self) -> Tensor:
        """Return the weight as it is used, [out, in] float32."""
        weight: Tensor = torch.ops.quantized.linear_unpack(self._packed)[0].dequantize()
        return weight


def quantize_linears(module: nn.Module) -> None:
    """Replace every bias-free `nn.Linear` below `module` by an `Int8Linear`, in place."""
    for name, child in list(module.named_children()):
        if isinstance(child, nn.Linear) and "bias" not in dict(child.named_parameters()):
            setattr(module, name, Int8Linear(child.weight))
        else:
            quantize_linears(child)
