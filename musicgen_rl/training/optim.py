"""Muon and AdamW for the language model: who gets which, the steps, the schedule, the average.

Muon (Keller Jordan, 2024) replaces a matrix's momentum by its nearest semi-orthogonal matrix.
`torch.optim.Muon` computes that in bfloat16 without asking, which on a CPU without bfloat16 units
is about 200 times slower than float32; this one takes the dtype as an argument, and cuts fused
projections (query, key and value in one matrix) into their parts, each of which is a matrix of
its own to Muon.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
"""Coefficients of the quintic iteration, from Jordan's post; steep at zero rather than exact."""


@dataclass(frozen=True)
class ParameterGroups:
    """Names of a model's parameters, by who updates them."""

    muon: dict[str, int]
    """Matrices of the blocks -> how many projections are stacked in their rows."""
    adamw_decay: tuple[str, ...]
    """Other matrices: embeddings, heads, projections outside the blocks."""
    adamw_plain: tuple[str, ...]
    """Vectors: norms and biases; never decayed."""


def group_parameters(shapes: Mapping[str, Sequence[int]]) -> ParameterGroups:
    """Divide parameters between Muon and AdamW.

    Args:
        shapes: parameter name -> shape. Matrices below `blocks.` are the blocks'; `qkv` in a name
            means three projections in one matrix, `key_value` means two.

    Returns:
        Every name in exactly one group, in the given order.
    """
    muon: dict[str, int] = {}
    decay: list[str] = []
    plain: list[str] = []
    for name, shape in shapes.items():
        if len(shape) < 2:
            plain.append(name)
        elif len(shape) == 2 and "blocks." in name:
            muon[name] = 3 if "qkv" in name else 2 if "key_value" in name else 1
        else:
            decay.append(name)
    return ParameterGroups(muon, tuple(decay), tuple(plain))


def orthogonalize(matrices: Tensor, steps: int = 5, dtype: torch.dtype = torch.float32) -> Tensor:
    """Push matrices' singular values towards 1 by Newton-Schulz iteration.

    Args:
        matrices: [R, C], or many of one shape, [N, R, C]; any scale.
        steps: iterations; 5 bring the values to about 0.7..1.2.
        dtype: what to compute in.

    Returns:
        The same shape in `dtype`, with the same singular vectors; zero where a matrix is zero.

    Source: Keller Jordan, "Muon: an optimizer for hidden layers in neural networks" (2024).
    """
    a, b, c = NEWTON_SCHULZ
    x = matrices.to(dtype)
    x = x if x.dim() == 3 else x.unsqueeze(0)
    wide = x.shape[1] <= x.shape[2]
    x = x if wide else x.mT
    x = x / torch.linalg.matrix_norm(x, keepdim=True).clamp(min=1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    x = x if wide else x.mT
    return x.reshape(matrices.shape)


class Muon(Optimizer):
    """Momentum, orthogonalised; for matrices only."""

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float,
        *,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
        steps: int = 5,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """Set up.

        Args:
            params: matrices [R, C], or groups of them; a group may give `parts`, the number of
                projections stacked in the rows of each of its matrices.
            lr: step size; a matrix with more rows than columns gets sqrt(R / C) times as much.
            momentum: Nesterov momentum.
            weight_decay: decoupled, times lr.
            steps: Newton-Schulz iterations.
            dtype: what the iteration is computed in.
        """
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "weight_decay": weight_decay,
            "steps": steps,
            "parts": 1,
        }
        self._dtype = dtype
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Update every matrix that has a gradient."""
        if closure is not None:
            raise NotImplementedError("Muon takes no closure")
        for group in self.param_groups:
            given = [parameter for parameter in group["params"] if parameter.grad is not None]
            for parameter, direction in zip(given, self._directions(given, group), strict=True):
                R, C = parameter.shape[0] // group["parts"], parameter.shape[1]
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                rate = group["lr"] * math.sqrt(max(1.0, R / C))
                parameter.add_(direction.to(parameter.dtype), alpha=-rate)
        return None

    def _directions(self, parameters: Sequence[Tensor], group: dict[str, Any]) -> list[Tensor]:
        """Orthogonalise the momentum of matrices; those of one shape together, which spares a GPU
        thousands of launches."""
        momenta = []
        for parameter in parameters:
            gradient = parameter.grad
            assert gradient is not None
            state = self.state[parameter]
            if "momentum_buffer" not in state:
                state["momentum_buffer"] = torch.zeros_like(gradient)
            buffer: Tensor = state["momentum_buffer"]
            buffer.lerp_(gradient, 1 - group["momentum"])
            momenta.append(gradient.lerp(buffer, group["momentum"]))
        alike: dict[torch.Size, list[int]] = {}
        for index, momentum in enumerate(momenta):
            alike.setdefault(momentum.shape, []).append(index)
        for members in alike.values():
            parts = [part for i in members for part in momenta[i].chunk(group["parts"])]
            done = orthogonalize(torch.stack(parts), group["steps"], self._dtype)
            for index, own in zip(members, done.chunk(len(members)), strict=True):
                momenta[index] = own.flatten(0, 1)
        return momenta


def build_optimizers(
    model: nn.Module,
    *,
    muon_lr: float,
    adamw_lr: float,
    muon_decay: float,
    adamw_decay: float,
    muon_steps: int,
    dtype: torch.dtype = torch.float32,
) -> list[Optimizer]:
    """Make the two optimisers; each group remembers its peak rate as `peak_lr`.

    Args:
        model: names its blocks `blocks.N`.
        muon_lr: peak rate of the blocks' matrices; 0 gives these to AdamW too.
        adamw_lr: peak rate of everything else.
        muon_decay: weight decay of the blocks' matrices.
        adamw_decay: weight decay of the other matrices.
        muon_steps: Newton-Schulz iterations.
        dtype: what Muon computes in.

    Returns:
        [Muon, AdamW], or [AdamW].
    """
    named = {name: p for name, p in model.named_parameters() if p.requires_grad}
    groups = group_parameters({name: tuple(p.shape) for name, p in named.items()})
    decay = [named[name] for name in groups.adamw_decay]
    optimizers: list[Optimizer] = []
    if muon_lr > 0 and groups.muon:
        by_parts: dict[int, list[Tensor]] = {}
        for name, count in groups.muon.items():
            by_parts.setdefault(count, []).append(named[name])
        matrices = [{"params": p, "parts": n, "peak_lr": muon_lr} for n, p in by_parts.items()]
        muon = Muon(matrices, muon_lr, weight_decay=muon_decay, steps=muon_steps, dtype=dtype)
        optimizers.append(muon)
    else:
        decay += [named[name] for name in groups.muon]
    plain = [named[name] for name in groups.adamw_plain]
    rest = [
        {"params": decay, "weight_decay": adamw_decay, "peak_lr": adamw_lr},
        {"params": plain, "weight_decay": 0.0, "peak_lr": adamw_lr},
    ]
    rest = [group for group in rest if group["params"]]
    optimizers.append(torch.optim.AdamW(rest, lr=adamw_lr, betas=(0.9, 0.95), eps=1e-8))
    return optimizers


def set_rate(optimizers: Iterable[Optimizer], factor: float) -> None:
    """Set every group's rate to `factor` times its peak."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = factor * group["peak_lr"]


def rate_factor(step: int, progress: float, warmup_steps: int, final_fraction: float) -> float:
    """Warm up linearly by steps, then fall as a half cosine by progress.

    Args:
        step: steps done.
        progress: share of the run that is done, 0 to 1.
        warmup_steps: steps until the full rate.
        final_fraction: the rate at the end, as a share of the peak.

    Returns:
        Share of the peak rate for the next step.
    """
    warm = min(1.0, (step + 1) / (warmup_steps + 1))
    cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, max(0.0, progress))))
    return warm * (final_fraction + (1 - final_fraction) * cosine)


class WeightAverage:
    """Exponential moving average of a model's parameters, in float32."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        """Start as a copy of the model.

        Args:
            model: its parameters are averaged.
            decay: weight of the old average; smaller in the first steps.
        """
        self.decay = decay
        self.tensors = {n: p.detach().float().clone() for n, p in model.named_parameters()}

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Take in the model after `step` steps."""
        decay = min(self.decay, (1 + step) / (10 + step))
        for name, parameter in model.named_parameters():
            self.tensors[name].lerp_(parameter.detach().float(), 1 - decay)

    @torch.no_grad()
    def swap(self, model: nn.Module) -> None:
        """Exchange the average and the model's weights; twice is as before, bit for bit."""
        for name, parameter in model.named_parameters():
            held = parameter.detach().clone()
            parameter.copy_(self.tensors[name])
            self.tensors[name].copy_(held)
