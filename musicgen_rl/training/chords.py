"""Teach a frozen model to play chords (training/hold.py), told which one sounds when."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor, nn

from musicgen_rl.checkpoint import ModelInfo
from musicgen_rl.checkpoint.holds import CHORDS
from musicgen_rl.data.chords import Chord, read_chord
from musicgen_rl.errors import ConfigError
from musicgen_rl.lm.chords import ChordAdapter, chord_features
from musicgen_rl.training.dataset import TokenPiece
from musicgen_rl.training.hold import HoldTrainConfig, Lesson

WRONG = 2
"""Chords so many semitones above the true ones are what the report sets against them."""


@dataclass(frozen=True, kw_only=True)
class ChordTrainConfig(HoldTrainConfig):
    """How a chord adapter is trained."""

    minutes: float = 15.0
    learning_rate: float = 5e-3
    strength: float = 2.0


def chords_of(piece: TokenPiece) -> tuple[list[float], list[Chord]]:
    """Read when which chord of a piece begins, in seconds; nothing where it does not say.

    `chords` is a list of pairs, the second at which a chord begins and its name, in order.
    """
    listed = piece.attributes.get("chords")
    starts, chords = list[float](), list[Chord]()
    try:
        for start, name in listed if isinstance(listed, list) else ():
            starts.append(float(start))
            chords.append(read_chord(name))
    except (ConfigError, TypeError, ValueError):
        return [], []
    in_order = all(a < b for a, b in pairwise(starts))
    return (starts, chords) if in_order else ([], [])


class ChordLesson(Lesson[ChordAdapter]):
    """Which chord sounds when; wrong are all of them a tone above."""

    hold = CHORDS
    needs = '"chords", such as [[0.0, "Am"], [2.1, "F"]]'

    def knows(self, piece: TokenPiece) -> bool:
        """Tell whether a piece's attributes say its chords."""
        return bool(chords_of(piece)[0])

    def adapter(self, info: ModelInfo) -> ChordAdapter:
        """Make an adapter that adds nothing yet."""
        return ChordAdapter(info.lm.hidden_size, info.lm.num_layers)

    def finish(self, adapter: ChordAdapter) -> None:
        """Leave out what is the same for all chords."""
        nn.init.zeros_(adapter.outer.bias)

    def tell(
        self,
        adapter: ChordAdapter,
        pieces: Sequence[TokenPiece],
        starts: Sequence[int],
        steps: int,
        frame_rate: float,
        *,
        wrong: bool,
    ) -> Tensor:
        """Compute what is added for crops, as `Lesson.tell`."""
        rows = []
        for piece, start in zip(pieces, starts, strict=True):
            begun, chords = chords_of(piece)
            if wrong:
                chords = [replace(c, root=(c.root + WRONG) % 12) for c in chords]
            seconds = (torch.arange(start, start + steps, dtype=torch.float64) + 0.5) / frame_rate
            places = torch.searchsorted(torch.tensor(begun).double(), seconds, right=True) - 1
            rows.append(chord_features(chords)[places.clamp_min(0)])
        told: Tensor = adapter(torch.stack(rows))
        return told
