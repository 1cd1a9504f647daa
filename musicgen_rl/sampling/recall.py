"""What was played at the same place before is made likelier: so music comes back.

A model that hears its last seconds repeats itself less exactly than music does. Where it is known
which earlier place is to come back - the same bar of the chords that go round - the codes that were
played there are worth some nats more when the next ones are drawn. It is a cache (arXiv:1612.04426)
that looks up one place instead of comparing all. What has come back is not called a second time: a
minute of rounds that each call the one before would end in a loop.
"""

from collections import deque
from typing import Protocol

import torch
from torch import Tensor

BONUS = (1.0, 2.0, 3.0)
"""Nats for a code of the first, the second and every further codebook: what comes back is then as
like what it was as in music that was composed (docs/experiments/2026-11-30-recall.md)."""

LONGEST = 10_000
"""Columns that are remembered: what lies further back does not come back."""


class Recall(Protocol):
    """Knows which earlier place each clip is to come back to."""

    def lags(self, first_frame: int, steps: int) -> Tensor:
        """Say how many frames before each frame that place lies.

        Args:
            first_frame: frame of the new music; negative before it.
            steps: S.

        Returns:
            long [B, S]; 0 where there is none.
        """
        ...


class Remembered:
    """The columns of a delayed grid that were decided, and what they make likelier.

    Args:
        recall: of the clips.
        strength: the bonus so many times.
        codebook_size: V; what is not below is padding, and is not repeated.
    """

    def __init__(self, recall: Recall, strength: float, codebook_size: int) -> None:
        self._recall, self._strength, self._size = recall, strength, codebook_size
        self._past: deque[Tensor] = deque(maxlen=LONGEST)
        self._came_back: deque[Tensor] = deque(maxlen=LONGEST)
        self._called: tuple[list[int], Tensor] | None = None
        self._lags: list[list[int]] = []
        self._heard: Tensor | None = None
        self._bonus = torch.zeros(0)

    def hear(self, column: Tensor) -> None:
        """Remember what was decided, or given, [B, K]; copied."""
        came_back = torch.zeros_like(column, dtype=torch.bool)
        if self._called is not None:
            clips, codes = self._called
            came_back[clips] = column[clips] == codes
        self._past.append(column.clone())
        self._came_back.append(came_back)
        self._called = None

    def forget(self) -> None:
        """Let nothing that was heard until now come back."""
        for column in self._past:
            column.fill_(self._size)

    def follow(self, first_frame: int, steps: int) -> None:
        """Look up where the next window comes back to."""
        self._lags = self._recall.lags(first_frame, steps).tolist()

    def favour(self, step: int, logits: Tensor) -> Tensor:
        """Add the bonus.

        Args:
            step: of the window.
            logits: for the next column, [rows, K, V]; under guidance the null rows come behind, and
                get the same, so that guidance leaves the bonus as it is.

        Returns:
            [rows, K, V]; `logits` itself where there is none, else overwritten by the next call.
        """
        back = [lags[step] for lags in self._lags]
        clips = [clip for clip, lag in enumerate(back) if 0 < lag <= len(self._past)]
        if not clips:
            return logits
        if self._heard is None or self._heard.shape != logits.shape:
            self._heard = torch.empty_like(logits)
            self._bonus = bonus_of(logits.shape[1]).to(logits) * self._strength
        heard = self._heard.copy_(logits)
        codes = torch.stack([self._past[-back[clip]][clip] for clip in clips])  # [clips, K]
        self._called = clips, codes
        called = codes < self._size
        called &= ~torch.stack([self._came_back[-back[clip]][clip] for clip in clips])
        codes, called = torch.where(called, codes, 0).to(heard.device), called.to(heard.device)
        bonus = torch.where(called, self._bonus, 0.0)[..., None]
        for first in range(0, len(heard), len(back)):
            rows = torch.tensor([first + clip for clip in clips], device=heard.device)
            now = heard[rows]
            heard[rows] = now.scatter_add(2, codes[..., None], bonus)
        return heard


def bonus_of(num_codebooks: int) -> Tensor:
    """Give each of K codebooks its bonus, float32 [K]."""
    return torch.tensor([BONUS[min(k, len(BONUS) - 1)] for k in range(num_codebooks)])
