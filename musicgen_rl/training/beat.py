"""Teach a frozen model to follow a beat (training/hold.py), told where each beat falls."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from musicgen_rl.checkpoint import ModelInfo
from musicgen_rl.checkpoint.holds import BEAT
from musicgen_rl.config import require_number
from musicgen_rl.lm.beat import FASTEST_BPM, FIRST_BEAT_S, SLOWEST_BPM, Beat, BeatAdapter
from musicgen_rl.training.dataset import TokenPiece
from musicgen_rl.training.hold import HoldTrainConfig, Lesson

SLOWING_S = 10.0
"""Of a piece's end that is left out: players slow down there."""
MEAN_PLACES, MEAN_TEMPI = 64, 32
"""Over so many places and tempi, evenly apart by ratio, is the mean taken that is left out."""
WRONG = 1.12
"""A tempo so much faster than the true one is what the report sets against it."""


@dataclass(frozen=True, kw_only=True)
class BeatTrainConfig(HoldTrainConfig):
    """How a beat adapter is trained."""

    learning_rate: float = 2e-3
    hidden: int = 128
    """Width of the adapter's hidden layer."""
    strength: float = 2.2

    def __post_init__(self) -> None:
        """Check every field."""
        super().__post_init__()
        require_number("hidden", self.hidden, 1, 65536)


def beat_of(piece: TokenPiece) -> Beat | None:
    """Read where a piece's beats fall; None where its attributes do not say, or say too much.

    `beat_s` is the exact length of a beat in seconds, `first_beat_s` where one falls. A tempo in
    whole beats a minute would be a quarter of a beat off within half a minute.
    """
    length = piece.attributes.get("beat_s")
    first = piece.attributes.get("first_beat_s", FIRST_BEAT_S)
    if not all(isinstance(v, int | float) and not isinstance(v, bool) for v in (length, first)):
        return None
    if not length or not SLOWEST_BPM <= 60.0 / length <= FASTEST_BPM:
        return None
    return Beat(60.0 / length, float(first))


class BeatLesson(Lesson[BeatAdapter]):
    """Where each beat falls; wrong is a tempo that is faster.

    Args:
        hidden: width of the adapter's hidden layer.
    """

    hold = BEAT
    needs = '"beat_s", the seconds of a beat'
    spare_s = SLOWING_S

    def __init__(self, hidden: int = BeatTrainConfig.hidden) -> None:
        self.hidden = hidden

    def knows(self, piece: TokenPiece) -> bool:
        """Tell whether a piece's attributes say its beats."""
        return beat_of(piece) is not None

    def adapter(self, info: ModelInfo) -> BeatAdapter:
        """Make an adapter that adds nothing yet."""
        return BeatAdapter(info.lm.hidden_size, info.lm.num_layers, self.hidden)

    @torch.no_grad()
    def finish(self, adapter: BeatAdapter) -> None:
        """Leave out what is the same at every place within two beats and at every tempo."""
        places = torch.arange(MEAN_PLACES) * (2.0 / MEAN_PLACES)
        steps = torch.linspace(0.0, 1.0, MEAN_TEMPI)
        bpm: Tensor = SLOWEST_BPM * (FASTEST_BPM / SLOWEST_BPM) ** steps
        bias = adapter.outer.bias
        told: Tensor = adapter(places.expand(MEAN_TEMPI, -1).to(bias.device), bpm.to(bias.device))
        bias.sub_(told.mean((1, 2)).flatten())

    def tell(
        self,
        adapter: BeatAdapter,
        pieces: Sequence[TokenPiece],
        starts: Sequence[int],
        steps: int,
        frame_rate: float,
        *,
        wrong: bool,
    ) -> Tensor:
        """Compute what is added for crops, as `Lesson.tell`."""
        faster = WRONG if wrong else 1.0
        known = [replace(b, bpm=b.bpm * faster) for b in map(beat_of, pieces) if b is not None]
        places = [
            beat.places(start, steps, frame_rate) for beat, start in zip(known, starts, strict=True)
        ]
        device = adapter.outer.weight.device
        bpm = torch.tensor([beat.bpm for beat in known], device=device)
        told: Tensor = adapter(torch.stack(places).to(device), bpm)
        return told
