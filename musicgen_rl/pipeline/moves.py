"""What changes in a jam, and when: as it happens, and as a file's tags hold it."""

import itertools
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from musicgen_rl.checkpoint.holds import HOLDS, Hold
from musicgen_rl.config import SamplingConfig, require
from musicgen_rl.data.chords import Progression
from musicgen_rl.data.keys import Key
from musicgen_rl.errors import InputError
from musicgen_rl.pipeline.asked import BEATS_PER_BAR
from musicgen_rl.pipeline.request import GenerationConfig, check_prompts

POLICIES = ("recompute", "keep")
MAX_MOVES = 10_000


@dataclass(frozen=True, kw_only=True)
class Move:
    """What holds from a frame on."""

    frame: int
    """Frames that were there when it took effect."""
    prompt: str
    """What to play."""
    sampling: SamplingConfig
    """How tokens are drawn."""
    diversity: float | None = None
    """Where the dial stands; None is the base."""

    def __post_init__(self) -> None:
        """Check every field."""
        require(
            isinstance(self.frame, int) and self.frame >= 0,
            f"a move's frame must be a whole number from 0, got {self.frame!r}",
        )
        check_prompts(self.prompt)
        GenerationConfig(diversity=self.diversity)

    def described(self) -> dict[str, Any]:
        """Bring it to what tags can hold."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Begins:
    """To what a jam is held."""

    which: Collection[Hold] = HOLDS
    """What it may be held to where its prompts name it, if the model can."""
    bpm: float | None = None
    """Tempo at first, where the first prompt names none, beats a minute; then a tempo is held until
    another is named. None lets it go with the prompt that named it."""
    key: Key | None = None
    """Key at first, likewise."""
    chords: Progression | None = None
    """Chords at first, likewise; they change on the beats of a tempo that is held."""
    beats_per_bar: int = BEATS_PER_BAR
    """Of the chords' bars."""
    returning: float = 1.0
    """How strongly what was played over its chords before comes back."""


def read_moves(stored: object) -> tuple[Move, ...]:
    """Check the moves in a file's tags; none where there are none.

    Raises:
        InputError, ConfigError: they cannot be; the tags were edited.
    """
    if stored is None:
        return ()
    if not isinstance(stored, list) or not 1 <= len(stored) <= MAX_MOVES:
        raise InputError("its settings hold moves that cannot be: they were edited")
    moves = []
    for entry in stored:
        if not isinstance(entry, Mapping) or set(entry) != set(Move.__dataclass_fields__):
            raise InputError(f"its settings hold a move {entry!r:.60}, which cannot be")
        try:
            sampling = SamplingConfig(**entry["sampling"])
        except TypeError:
            raise InputError(
                "its settings hold a move without sampling: they were edited"
            ) from None
        moves.append(Move(**{**entry, "sampling": sampling}))
    frames = [move.frame for move in moves]
    if frames[0] != 0 or any(a >= b for a, b in itertools.pairwise(frames)):
        raise InputError(f"its settings hold moves at frames {frames!r:.60}, not in order from 0")
    return tuple(moves)
