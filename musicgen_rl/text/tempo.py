"""Which tempo goes with words that name none.

A lo-fi piece is played at 65 to 90, drum and bass at 160 to 176: captions of music whose tempo is
known say so.
"""

import numpy as np
from torch import Tensor

from musicgen_rl.text.sense import Sense

FIRST_BPM, STEPS_PER_OCTAVE, COUNT = 48.0, 12, 26
TEMPI = tuple(
    round(FIRST_BPM * 2.0 ** ((number + 0.5) / STEPS_PER_OCTAVE)) for number in range(COUNT)
)
"""Tempi that may be drawn, beats a minute: the middles of steps of 6 %, from 49 to 209."""
_STREAM = 0x7E3
"""Keeps this draw apart from those of the tokens."""


class TempoSense(Sense):
    """Knows the tempi of what words describe."""

    subject, count, typical = "tempo", COUNT, 2.5

    def choose(self, meaning: Tensor, seed: int) -> float:
        """Draw a tempo for a clip.

        Args:
            meaning: of its prompt, [D].
            seed: of the clip; the same draws the same.

        Returns:
            Beats a minute, one of TEMPI.
        """
        place = np.random.default_rng([_STREAM, seed]).random()
        return float(TEMPI[self.draw(meaning, place)])


def number_of(bpm: float) -> int:
    """Say which of TEMPI stands for a tempo: the nearest by ratio, within their range."""
    steps = np.log2(bpm / FIRST_BPM) * STEPS_PER_OCTAVE
    return int(min(max(np.floor(steps), 0), COUNT - 1))
