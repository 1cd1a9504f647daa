"""Beat conditioning: a learnt metronome that a frozen language model listens to.

A prompt's words say what to play, and a small model passes over a number among them. Where each
beat falls can be told at every frame instead (lm/told.py).

Rhythm as a condition of every frame beside MusicGen's text is MusiConGen's (arXiv:2407.15060),
which tunes the model for it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from musicgen_rl.lm.told import Course

HARMONICS = (0.5, 1.0, 2.0, 3.0, 4.0)
"""Cycles a beat: pairs of beats, beats, halves, thirds, quarters."""
FEATURES = 2 * len(HARMONICS) + 2
SLOWEST_BPM, FASTEST_BPM = 55.0, 190.0
"""Tempi that are learnt and held; others are held at half or double."""
FIRST_BEAT_S = 0.05
"""Where the first beat of a new piece falls: about where that of a rendered piece does."""


@dataclass(frozen=True)
class Beat:
    """Where beats fall in a clip."""

    bpm: float
    """Beats a minute."""
    first_s: float = FIRST_BEAT_S
    """Seconds from the beginning of the new music to a beat; may be negative."""

    def places(self, first_frame: int, frames: int, frame_rate: float) -> Tensor:
        """Tell the place of frames in beats, counted from a beat.

        Args:
            first_frame: frame of the new music; negative before it.
            frames: S.
            frame_rate: frames a second.

        Returns:
            float64 [S]: whole numbers are beats.
        """
        middle = torch.arange(first_frame, first_frame + frames, dtype=torch.float64) + 0.5
        return (middle / frame_rate - self.first_s) * self.bpm / 60.0


def beat_features(places: Tensor, bpm: Tensor) -> Tensor:
    """Describe places within beats.

    Args:
        places: in beats, [B, S].
        bpm: [B].

    Returns:
        float32 [B, S, FEATURES]: cosine and sine of every harmonic, one, and the logarithm of the
        tempo over 100.
    """
    turns = [2 * math.pi * cycles * places for cycles in HARMONICS]
    waves = [wave for turn in turns for wave in (turn.cos(), turn.sin())]
    pace = (bpm.to(places.dtype) / 100.0).log().unsqueeze(1).expand_as(places)
    return torch.stack([*waves, torch.ones_like(places), pace], dim=-1).float()


class BeatAdapter(nn.Module):
    """From the place within the beat to what each block of a language model is told.

    Args:
        width: D of the model.
        num_layers: L of the model.
        hidden: width of the one hidden layer.
    """

    def __init__(self, width: int, num_layers: int, hidden: int = 128) -> None:
        super().__init__()
        self.width, self.num_layers = width, num_layers
        self.inner = nn.Linear(FEATURES, hidden)
        self.outer = nn.Linear(hidden, num_layers * width)
        nn.init.zeros_(self.outer.weight)
        nn.init.zeros_(self.outer.bias)

    def forward(self, places: Tensor, bpm: Tensor) -> Tensor:
        """Compute what is added before each block.

        Args:
            places: in beats, [B, S].
            bpm: [B].

        Returns:
            float32 [L, B, S, D].
        """
        told: Tensor = self.outer(F.gelu(self.inner(beat_features(places, bpm))))
        B, S, _ = told.shape
        return told.view(B, S, self.num_layers, self.width).permute(2, 0, 1, 3)


class Metronome:
    """Tells a batch of clips where their beats fall, window by window.

    Args:
        adapter: the model's.
        beats: of each of B clips; None is told nothing.
        frame_rate: frames a second.
    """

    def __init__(
        self, adapter: BeatAdapter, beats: Sequence[Beat | None], frame_rate: float
    ) -> None:
        self.adapter, self.beats, self.frame_rate = adapter, tuple(beats), frame_rate

    @torch.no_grad()
    def told(self, first_frame: int, steps: int) -> Tensor:
        """Compute what is added before each block, as `Teller.told`."""
        adapter = self.adapter
        told = torch.zeros(adapter.num_layers, len(self.beats), steps, adapter.width)
        for row, beat in enumerate(self.beats):
            if beat is not None:  # one by one: a row does not depend on its company
                places = beat.places(first_frame, steps, self.frame_rate).unsqueeze(0)
                told[:, row] = adapter(places, torch.tensor([beat.bpm]))[:, 0]
        return told


class MovingMetronome:
    """Tells one clip its beats, whose tempo changes while it is made; what was told stays.

    Args:
        adapter: the model's.
        beat: at first; None is told nothing.
        frame_rate: frames a second.
    """

    def __init__(self, adapter: BeatAdapter, beat: Beat | None, frame_rate: float) -> None:
        self.adapter, self.frame_rate = adapter, frame_rate
        self.course = Course(beat)

    def move(self, frame: int, bpm: float | None) -> None:
        """Go on at another tempo from a frame of the clip; None tells no beat from there.

        The count goes on: no beat comes early or late by the move, which it would by a new start.
        """
        before = self.course.before(frame)
        if bpm is None:
            self.course.move(frame, None)
        elif before is not None and before.bpm == bpm:
            self.course.move(frame, before)
        elif frame <= 0:
            self.course.move(frame, Beat(bpm))
        else:
            place = 0.0 if before is None else float(before.places(frame, 1, self.frame_rate))
            first_s = (frame + 0.5) / self.frame_rate - place * 60.0 / bpm
            self.course.move(frame, Beat(bpm, first_s))

    @torch.no_grad()
    def told(self, first_frame: int, steps: int) -> Tensor:
        """Compute what is added before each block, as `Teller.told`."""
        adapter = self.adapter
        told = torch.zeros(adapter.num_layers, 1, steps, adapter.width)
        for start, stop, beat in self.course.spans(first_frame, first_frame + steps):
            if beat is not None:
                places = beat.places(start, stop - start, self.frame_rate).unsqueeze(0)
                bpm = torch.tensor([beat.bpm])
                told[:, :, start - first_frame : stop - first_frame] = adapter(places, bpm)
        return told
