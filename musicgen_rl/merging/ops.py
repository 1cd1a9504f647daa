"""Interpolation between weights: pure functions of tensors and of state dicts.

Arithmetic and results are float32 whatever dtype comes in; rounding back is the caller's. Every
formula is anchored at the weights it lies nearest to, so that the ends come out to the bit.
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from musicgen_rl.errors import CheckpointError, ConfigError

State = Mapping[str, Tensor]

STRAIGHT = 1e-3
"""Radians from 0 or pi within which SLERP is LERP: there the two differ by less than float32's
rounding (near 0), or SLERP has no direction to go (near pi)."""


@torch.no_grad()
def lerp(quality: Tensor, diversity: Tensor, lam: float) -> Tensor:
    """Interpolate linearly.

    Args:
        quality: any shape, any floating dtype; the result at lam = 0, to the bit.
        diversity: the same shape; the result at lam = 1, to the bit.
        lam: usually in [0, 1]; beyond it extrapolates.

    Returns:
        (1 - lam) quality + lam diversity, float32.

    Raises:
        ConfigError: lam is nan or infinite.

    Source: arXiv:2410.06084, the merge of its quality and diversity models.
    """
    _finite(lam=lam)
    return torch.lerp(quality.float(), diversity.float(), lam)


def slerp(quality: Tensor, diversity: Tensor, base: Tensor, lam: float) -> Tensor:
    """Interpolate the task vectors along the arc between them.

    With d1 = quality - base, d2 = diversity - base and W the angle between them as flat vectors:
    base + sin((1 - lam) W) / sin W d1 + sin(lam W) / sin W d2. Where W is within `STRAIGHT` of zero
    or of pi, or a task vector is zero, it is LERP. Near zero that makes no difference; near pi it
    does (the arc has no direction there), so results jump at that threshold.

    Args:
        quality: any shape, any floating dtype; the result at lam = 0, to the bit.
        diversity: the same shape; the result at lam = 1, to the bit.
        base: what both were tuned from.
        lam: in [0, 1].

    Returns:
        The interpolated weights, float32.

    Raises:
        ConfigError: lam is nan or infinite.

    Source: arXiv:2406.16768, section 3 (spherical interpolation of task vectors).
    """
    radians = angle(task_vector(quality, base), task_vector(diversity, base))
    return merge(quality, diversity, base, lam, method="slerp", radians=radians)


def liti(base: Tensor, tuned: Tensor, strength: float) -> Tensor:
    """Interpolate towards the initialisation.

    Args:
        base: the initialisation; the result at strength = 0, to the bit.
        tuned: the same shape; the result at strength = 1, to the bit.
        strength: the share of the way from base to tuned.

    Returns:
        (1 - strength) base + strength tuned, float32.

    Raises:
        ConfigError: strength is nan or infinite.

    Source: arXiv:2406.16768, section 3 (there the share is eta).
    """
    _finite(strength=strength)
    return lerp(base, tuned, strength)


@torch.no_grad()
def task_vector(tuned: Tensor, base: Tensor) -> Tensor:
    """Subtract what the weights were before tuning: tuned - base, float32."""
    return tuned.float() - base.float()


@torch.no_grad()
def apply_task_vector(base: Tensor, vector: Tensor, scale: float = 1.0) -> Tensor:
    """Add a task vector: base + scale vector, float32.

    Raises:
        ConfigError: scale is nan or infinite.
    """
    _finite(scale=scale)
    return torch.add(base.float(), vector.float(), alpha=scale)


@torch.no_grad()
def angle(first: Tensor, second: Tensor) -> float:
    """Measure the angle between two tensors as flat vectors, in radians [0, pi].

    From the lengths of the sum and the difference of the unit vectors, in float64: the arc cosine
    would lose half of the digits near 0 and pi. Zero where one of them is zero.
    """
    u, v = first.double().flatten(), second.double().flatten()
    lengths = float(u.norm()), float(v.norm())
    if 0.0 in lengths:
        return 0.0
    u, v = u / lengths[0], v / lengths[1]
    return 2.0 * math.atan2(float((u - v).norm()), float((u + v).norm()))


def is_straight(radians: float) -> bool:
    """Tell whether SLERP at this angle is LERP."""
    return not STRAIGHT < radians < math.pi - STRAIGHT


def slerp_shares(radians: float, lam: float) -> tuple[float, float]:
    """Tell how much of each task vector SLERP takes.

    Args:
        radians: the angle between them.
        lam: 0 is all of the first.

    Returns:
        The shares of the first and of the second; exactly (1, 0) and (0, 1) at the ends.

    Raises:
        ConfigError: lam is nan or infinite.
    """
    _finite(lam=lam)
    if is_straight(radians):
        return 1.0 - lam, lam
    whole = math.sin(radians)
    return math.sin((1.0 - lam) * radians) / whole, math.sin(lam * radians) / whole


@torch.no_grad()
def combine(
    quality: Tensor, diversity: Tensor, base: Tensor, of_quality: float, of_diversity: float
) -> Tensor:
    """Add shares of two task vectors to their base.

    SLERP and LITI are this with different shares. It is computed as a correction to whichever of
    the three has the largest share, so (1, 0), (0, 1) and (0, 0) give quality, diversity and base
    to the bit.

    Args:
        quality: any shape, any floating dtype.
        diversity: the same shape.
        base: the same shape.
        of_quality: share of quality - base.
        of_diversity: share of diversity - base.

    Returns:
        base + of_quality (quality - base) + of_diversity (diversity - base), float32.

    Raises:
        ConfigError: a share is nan or infinite.
    """
    _finite(of_quality=of_quality, of_diversity=of_diversity)
    q, d, b = quality.float(), diversity.float(), base.float()
    anchor, shares = b, (of_quality, of_diversity)
    if max(shares) > 1.0 - sum(shares):
        anchor = q if of_quality >= of_diversity else d
        shares = (of_quality - float(anchor is q), of_diversity - float(anchor is d))
    return torch.add(anchor, q - b, alpha=shares[0]).add_(d - b, alpha=shares[1])


def merge(
    quality: Tensor,
    diversity: Tensor,
    base: Tensor | None,
    lam: float,
    *,
    method: str,
    radians: float = 0.0,
    strength: float = 1.0,
) -> Tensor:
    """Merge one tensor, or any part of one: the angle known, all methods are elementwise.

    Args:
        quality: any shape, any floating dtype.
        diversity: the same shape.
        base: the same shape; lerp needs none.
        lam: in [0, 1].
        method: lerp, slerp, or liti (slerp, then the step towards the base).
        radians: the angle between the whole task vectors, for slerp and liti.
        strength: for liti, the share of the way from the base to the merge.

    Returns:
        The merge, float32.

    Raises:
        ConfigError: unknown method, a number that is not finite, or no base where one is needed.
    """
    if method not in ("lerp", "slerp", "liti"):
        raise ConfigError(f"unknown method {method!r}: use lerp, slerp or liti")
    if method != "lerp" and base is None:
        raise ConfigError(f"method {method!r} needs the base that both models were tuned from")
    if base is None or method == "lerp" or (method == "slerp" and is_straight(radians)):
        return lerp(quality, diversity, lam)
    scale = strength if method == "liti" else 1.0
    first, second = slerp_shares(radians, lam)
    return combine(quality, diversity, base, scale * first, scale * second)


def merge_states(
    quality: State,
    diversity: State,
    lam: float,
    *,
    method: str = "lerp",
    base: State | None = None,
    strength: float = 1.0,
) -> dict[str, Tensor]:
    """Merge two state dicts tensor by tensor.

    Args:
        quality: the result at lam = 0.
        diversity: the result at lam = 1, with the same names and shapes.
        lam: in [0, 1].
        method: lerp, slerp or liti, as for `merge`.
        base: what both were tuned from; slerp and liti need it.
        strength: for liti.

    Returns:
        Name -> tensor, float32.

    Raises:
        ConfigError: unknown method, a number that is not finite, or no base where one is needed.
        CheckpointError: a tensor is missing, extra, misshapen or not finite; it is named.
    """
    states = {"quality": quality, "diversity": diversity}
    require_alike(states if base is None else states | {"base": base})
    merged: dict[str, Tensor] = {}
    for name, q in quality.items():
        d, b = diversity[name], None if base is None else base[name]
        radians = 0.0
        if method != "lerp" and b is not None:
            radians = angle(task_vector(q, b), task_vector(d, b))
        merged[name] = merge(q, d, b, lam, method=method, radians=radians, strength=strength)
    return merged


def require_alike(states: Mapping[str, State]) -> None:
    """Check that all state dicts have the first one's names and shapes, and finite numbers.

    Args:
        states: what it is called -> state dict.

    Raises:
        CheckpointError: names the state dict and its first tensor that is not so.
    """
    (first, reference), *others = states.items()
    for label, state in others:
        for name in [*reference, *state]:
            if name not in state or name not in reference:
                without = label if name not in state else first
                raise CheckpointError(f"{without} lacks the tensor {name!r}: not models to merge")
            shapes = tuple(reference[name].shape), tuple(state[name].shape)
            if shapes[0] != shapes[1]:
                raise CheckpointError(
                    f"tensor {name!r} has shape {shapes[0]} in {first} and {shapes[1]} in {label}: "
                    "not models to merge"
                )
    for label, state in states.items():
        for name, tensor in state.items():
            if not torch.isfinite(tensor).all():
                raise CheckpointError(
                    f"tensor {name!r} of {label} holds nan or inf: the checkpoint is damaged"
                )


def _finite(**numbers: float) -> None:
    for name, number in numbers.items():
        if not math.isfinite(number):
            raise ConfigError(f"{name} must be a finite number, got {number!r}")
