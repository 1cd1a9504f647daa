"""Which tempo goes with words that name none: one linear layer over the meaning of a prompt.

A lo-fi piece is played at 65 to 90, drum and bass at 160 to 176: captions of music whose tempo is
known say so. The layer gives each of TEMPI its log-probability; a clip draws one by its seed.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from musicgen_rl.checkpoint import ModelInfo
from musicgen_rl.checkpoint.holds import SENSE, find_hold
from musicgen_rl.errors import CheckpointError
from musicgen_rl.storage import read_tensors
from musicgen_rl.text.base import TextEncoder

FIRST_BPM, STEPS_PER_OCTAVE, COUNT = 48.0, 12, 26
TEMPI = tuple(
    round(FIRST_BPM * 2.0 ** ((number + 0.5) / STEPS_PER_OCTAVE)) for number in range(COUNT)
)
"""Tempi that may be drawn, beats a minute: the middles of steps of 6 %, from 49 to 209."""
TYPICAL = 2.5
"""Log-probabilities are multiplied by this before a tempo is drawn: rare ones are left out."""
_STREAM = 0x7E3
"""Keeps this draw apart from those of the tokens."""


class TempoSense(nn.Module):
    """Knows the tempi of what words describe.

    Args:
        width: D of the text encoder's states.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.tempi = nn.Linear(width, COUNT)
        nn.init.zeros_(self.tempi.weight)
        nn.init.zeros_(self.tempi.bias)

    def forward(self, meanings: Tensor) -> Tensor:
        """Give log-probabilities of TEMPI, [B, COUNT], for prompts of `meanings` [B, D]."""
        return torch.log_softmax(self.tempi(meanings), dim=-1)

    @torch.no_grad()
    def choose(self, meaning: Tensor, seed: int) -> float:
        """Draw a tempo for a clip.

        Args:
            meaning: of its prompt, [D].
            seed: of the clip; the same draws the same.

        Returns:
            Beats a minute, one of TEMPI.
        """
        weights = (TYPICAL * self(meaning[None].cpu())[0]).double().softmax(0).numpy()
        place = np.random.default_rng([_STREAM, seed]).random()
        number = int(np.searchsorted(weights.cumsum(), place * weights.sum()))
        return float(TEMPI[min(number, COUNT - 1)])


def meaning_of(text: TextEncoder, prompt: str) -> Tensor:
    """Encode a prompt as the direction of its states' mean, float32 [D] on the CPU."""
    found = text.encode([prompt])
    states = found.hidden[0][found.mask[0].bool()].float().cpu()
    return F.normalize(states.mean(dim=0), dim=0)


def number_of(bpm: float) -> int:
    """Say which of TEMPI stands for a tempo: the nearest by ratio, within their range."""
    steps = np.log2(bpm / FIRST_BPM) * STEPS_PER_OCTAVE
    return int(min(max(np.floor(steps), 0), COUNT - 1))


def load_sense(info: ModelInfo) -> TempoSense:
    """Load a model's sense of tempo in float32 on the CPU.

    Raises:
        CheckpointError: it is missing, damaged, or of another version.
    """
    path = find_hold(info, SENSE) or info.folder / SENSE.file
    state = read_tensors([path])
    weight = state.get("tempi.weight")
    if weight is None or weight.ndim != 2 or weight.shape[0] != COUNT:
        raise CheckpointError(f"{path} is not a sense of tempo of this version: train it again")
    sense = TempoSense(weight.shape[1])
    try:
        sense.load_state_dict({name: tensor.float() for name, tensor in state.items()})
    except RuntimeError as error:
        raise CheckpointError(f"{path} is not a sense of tempo: {error}") from None
    if not all(bool(torch.isfinite(t).all()) for t in sense.state_dict().values()):
        raise CheckpointError(f"{path} holds numbers that are not finite: train it again")
    return sense.eval().requires_grad_(False)
