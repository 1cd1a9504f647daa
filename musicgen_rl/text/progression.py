"""Which chords go with words.

A blues has twelve bars of its own and trance four chords; captions of music whose progression is
known say so. Its key is found apart (text/key.py).
"""

import numpy as np
import torch
from torch import Tensor

from musicgen_rl.data.chords import Progression
from musicgen_rl.data.keys import Key
from musicgen_rl.data.progressions import FORMS, PROGRESSIONS, goes_with, in_form
from musicgen_rl.text.sense import Sense

_STREAM = 0xC40D5
"""Keeps this draw apart from those of the tokens, of the tempo and of the key."""


class ProgressionSense(Sense):
    """Knows the progressions of what words describe."""

    subject, count, typical = "chords", len(PROGRESSIONS), 1.5

    def choose(self, meaning: Tensor, seed: int, key: Key) -> Progression:
        """Draw chords for a clip: two progressions in a form; one where they happen to be the same.

        Args:
            meaning: of its prompt, [D].
            seed: of the clip; the same draws the same.
            key: of the clip; drawn is what has its third.
        """
        random = np.random.default_rng([_STREAM, seed])
        fits = set(goes_with(key))
        among = torch.tensor([name in fits for name in PROGRESSIONS])
        first, second = (self.draw(meaning, random.random(), among) for _ in range(2))
        form = FORMS[random.integers(len(FORMS))]
        return in_form(PROGRESSIONS[first], PROGRESSIONS[second], form, key.tonic)
