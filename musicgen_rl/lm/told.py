"""What a frozen language model is told at every frame beside its prompt: the beat, the key.

A small adapter turns it into a vector for each block, which is added to the stream before it. The
model's own weights stay as they are, so where nothing is told every number is what it was, and one
adapter serves the base and both ends of the dial.

A frozen model and an addition that starts at zero are ControlNet's (arXiv:2302.05543).
"""

from collections.abc import Iterator, Sequence
from typing import Generic, Protocol, TypeVar

import torch
from torch import Tensor, nn

T = TypeVar("T")


class LinearAdapter(nn.Module):
    """From what is told to what each block of a language model is told, by one layer.

    Args:
        features: F, numbers that describe what is told.
        width: D of the model.
        num_layers: L of the model.
    """

    def __init__(self, features: int, width: int, num_layers: int) -> None:
        super().__init__()
        self.width, self.num_layers = width, num_layers
        self.outer = nn.Linear(features, num_layers * width)
        nn.init.zeros_(self.outer.weight)
        nn.init.zeros_(self.outer.bias)

    def added(self, features: Tensor) -> Tensor:
        """Compute what is added before each block.

        Args:
            features: [B, S, F].

        Returns:
            float32 [L, B, S, D].
        """
        told: Tensor = self.outer(features.to(self.outer.weight.device))
        B, S, _ = told.shape
        return told.view(B, S, self.num_layers, self.width).permute(2, 0, 1, 3)


class Teller(Protocol):
    """Tells a batch of clips something, window by window."""

    def told(self, first_frame: int, steps: int) -> Tensor:
        """Compute what is added before each block.

        Args:
            first_frame: frame of the new music that the first step decides; negative before it.
            steps: S.

        Returns:
            float32 [L, B, S, D] on the CPU; zero for clips that are told nothing.
        """
        ...


class Tellers:
    """Tells all that several tell.

    Args:
        tellers: of the same clips and model, one or more.
    """

    def __init__(self, tellers: Sequence[Teller]) -> None:
        self._tellers = tuple(tellers)

    def told(self, first_frame: int, steps: int) -> Tensor:
        """Compute what is added before each block, as `Teller.told`."""
        return torch.stack([t.told(first_frame, steps) for t in self._tellers]).sum(0)


class Course(Generic[T]):
    """What holds from which frame of a clip on; what held before stays.

    Args:
        first: what holds at first.
    """

    def __init__(self, first: T) -> None:
        self._parts: list[tuple[int | None, T]] = [(None, first)]

    def before(self, frame: int) -> T | None:
        """Say what held until a frame; None where nothing did, or not for a frame."""
        if frame <= 0:
            return None
        return next(v for start, v in reversed(self._parts) if start is None or start < frame)

    def move(self, frame: int, value: T) -> None:
        """Let something else hold from a frame on; at the beginning it is all that ever held."""
        if frame <= 0:
            self._parts = [(None, value)]
            return
        self._parts = [p for p in self._parts if p[0] is None or p[0] < frame]
        if self._parts[-1][1] != value:
            self._parts.append((frame, value))

    def since(self, frame: int) -> int | None:
        """Say from which frame on that has held which holds at a frame; None for all along."""
        return next(s for s, _ in reversed(self._parts) if s is None or s <= frame)

    def spans(self, first: int, end: int) -> Iterator[tuple[int, int, T]]:
        """Divide frames, from `first` to before `end`, by what holds: (from, to, what)."""
        starts = [first if s is None else max(first, s) for s, _ in self._parts] + [end]
        for (_, value), start, stop in zip(self._parts, starts, starts[1:], strict=False):
            if start < min(stop, end):
                yield start, min(stop, end), value
