"""What goes with words that do not say it: one linear layer over the meaning of a prompt.

The layer gives each of some choices its log-probability, as captions of music whose facts are known
say it; a clip draws one by its seed. Which tempo (text/tempo.py), which scale (text/key.py) and
which chords (text/progression.py) are found so.
"""

from pathlib import Path
from typing import ClassVar, Self, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from musicgen_rl.checkpoint import ModelInfo
from musicgen_rl.checkpoint.holds import SENSES, Hold, find_hold
from musicgen_rl.errors import CheckpointError
from musicgen_rl.storage import read_tensors
from musicgen_rl.text.base import TextEncoder

S = TypeVar("S", bound="Sense")


class Sense(nn.Module):
    """Knows how likely each of its choices goes with words.

    Args:
        width: D of the text encoder's states.
    """

    subject: ClassVar[str]
    """What it finds, in words."""
    count: ClassVar[int]
    """Of its choices."""
    typical: ClassVar[float]
    """Log-probabilities are multiplied by this before one is drawn: rare ones are left out."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layer = nn.Linear(width, self.count)
        nn.init.zeros_(self.layer.weight)
        nn.init.zeros_(self.layer.bias)

    def forward(self, meanings: Tensor) -> Tensor:
        """Give log-probabilities of the choices, [B, count], for prompts of `meanings` [B, D]."""
        return torch.log_softmax(self.layer(meanings), dim=-1)

    @torch.no_grad()
    def draw(self, meaning: Tensor, place: float, among: Tensor | None = None) -> int:
        """Draw one of the choices.

        Args:
            meaning: of the prompt, [D].
            place: drawn evenly from 0 to 1.
            among: which of them may be drawn, bool [count]; all where None.
        """
        worth = (self.typical * self(meaning[None].cpu())[0]).double()
        if among is not None:
            worth = worth.masked_fill(~among, -torch.inf)
        weights = worth.softmax(0).numpy()
        number = int(np.searchsorted(weights.cumsum(), place * weights.sum()))
        return min(number, self.count - 1)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Load it in float32 on the CPU.

        Raises:
            CheckpointError: it is missing, damaged, or of another version.
        """
        state = read_tensors([path])
        weight = state.get("layer.weight")
        if weight is None or weight.ndim != 2 or weight.shape[0] != cls.count:
            raise CheckpointError(
                f"{path} is not a sense of {cls.subject} of this version: train it again"
            )
        sense = cls(weight.shape[1])
        try:
            sense.load_state_dict({name: tensor.float() for name, tensor in state.items()})
        except RuntimeError as error:
            raise CheckpointError(f"{path} is not a sense of {cls.subject}: {error}") from None
        if not all(bool(torch.isfinite(t).all()) for t in sense.state_dict().values()):
            raise CheckpointError(f"{path} holds numbers that are not finite: train it again")
        return sense.eval().requires_grad_(False)


def load_sense(info: ModelInfo, hold: Hold, kind: type[S]) -> S | None:
    """Load what finds that which a model's clips are held to; None where it has nothing for it.

    Args:
        info: the model.
        hold: one of HOLDS.
        kind: of what finds it.

    Raises:
        CheckpointError: it is damaged, or of another version.
    """
    path = find_hold(info, SENSES[hold])
    return None if path is None else kind.load(path)


def meaning_of(text: TextEncoder, prompt: str) -> Tensor:
    """Encode a prompt as the direction of its states' mean, float32 [D] on the CPU."""
    found = text.encode([prompt])
    states = found.hidden[0][found.mask[0].bool()].float().cpu()
    return F.normalize(states.mean(dim=0), dim=0)
