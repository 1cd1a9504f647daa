"""Teach a frozen model to play in a key (training/hold.py), told which it is."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import Tensor, nn

from musicgen_rl.checkpoint import ModelInfo
from musicgen_rl.checkpoint.holds import KEY
from musicgen_rl.data.keys import stated_key
from musicgen_rl.lm.key import KeyAdapter
from musicgen_rl.training.dataset import TokenPiece
from musicgen_rl.training.hold import HoldTrainConfig, Lesson

WRONG = 1
"""A key so many semitones above the true one is what the report sets against it."""


@dataclass(frozen=True, kw_only=True)
class KeyTrainConfig(HoldTrainConfig):
    """How a key adapter is trained."""

    minutes: float = 15.0
    learning_rate: float = 5e-3
    strength: float = 2.0


class KeyLesson(Lesson[KeyAdapter]):
    """Which key it is; wrong is one a semitone above."""

    hold = KEY
    needs = '"key" and "mode", such as "D" and "minor"'

    def knows(self, piece: TokenPiece) -> bool:
        """Tell whether a piece's attributes say its key."""
        return stated_key(piece.attributes) is not None

    def adapter(self, info: ModelInfo) -> KeyAdapter:
        """Make an adapter that adds nothing yet."""
        return KeyAdapter(info.lm.hidden_size, info.lm.num_layers)

    def finish(self, adapter: KeyAdapter) -> None:
        """Leave out what is the same for all keys."""
        nn.init.zeros_(adapter.outer.bias)

    def tell(
        self,
        adapter: KeyAdapter,
        pieces: Sequence[TokenPiece],
        starts: Sequence[int],
        steps: int,
        frame_rate: float,
        *,
        wrong: bool,
    ) -> Tensor:
        """Compute what is added for crops, as `Lesson.tell`."""
        stated = (stated_key(piece.attributes) for piece in pieces)
        keys = [key for key in stated if key is not None]
        if wrong:
            keys = [replace(key, tonic=(key.tonic + WRONG) % 12) for key in keys]
        told: Tensor = adapter(keys)
        return told
