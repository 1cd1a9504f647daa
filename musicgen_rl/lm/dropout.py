"""Dropout that a processor does not wait for."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_VALUES = 1 << 16
"""A draw of 64 bits makes four of 16."""


class Dropout(nn.Dropout):
    """`nn.Dropout`, drawn four values at a time on a CPU.

    torch draws one number a value there, which took a seventh of pocket's training
    (benchmarks/training_kernels.py tells how long both take). The probability is that of `p` to
    1 / 131,072, and what is kept is scaled by the probability that it is.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Drop values of x [...], in training; the result has its shape and dtype."""
        dropped = round(self.p * _VALUES)
        if not self.training or x.device.type != "cpu" or not 0 < dropped < _VALUES:
            return F.dropout(x, self.p, self.training)
        draws = torch.empty((x.numel() + 3) // 4, dtype=torch.int64)
        draws.random_(-(2**63), None)  # without bounds the sign bit is never set
        kept = draws.view(torch.int16)[: x.numel()].view(x.shape) >= dropped - _VALUES // 2
        return x * kept.to(x.dtype).mul_(_VALUES / (_VALUES - dropped))
