"""Which chords go with words.

A blues has twelve bars of its own and trance four chords; captions of music whose progression is
known say so. Its key is found apart (text/key.py).
"""

import numpy as np
import torch
from torch import Tensor

from musicgen_rl.data.chords import Progression
from musicgen_rl.data.keys import Key
from musicgen_rl.data.progressions import PROGRESSIONS, goes_with, in_key
from musicgen_rl.text.sense import Sense

_STREAM = 0xC40D5
"""Keeps this draw apart from those of the tokens, of the tempo and of the key."""


class ProgressionSense(Sense):
    """Knows the progressions of what words describe."""

    subject, count, typical = "chords", len(PROGRESSIONS), 1.5

    def choose(self, meaning: Tensor, seed: int, key: Key) -> Progression:
        """Draw chords for a clip.

        Args:
            meaning: of its prompt, [D].
            seed: of the clip; the same draws the same.
            key: of the clip; drawn is what has its third.
        """
        place = np.random.default_rng([_STREAM, seed]).random()
        fits = set(goes_with(key))
        among = torch.tensor([name in fits for name in PROGRESSIONS])
        return in_key(PROGRESSIONS[self.draw(meaning, place, among)], key.tonic)
