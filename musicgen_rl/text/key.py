"""Which key goes with words that name none.

Words say something of the scale: techno is minor or phrygian, a march major, and a prompt may say
"minor" itself. Of the tonic they say nothing, so each of the twelve is as likely.
"""

import numpy as np
from torch import Tensor

from musicgen_rl.data.keys import KEY_NAMES, MODES, Key
from musicgen_rl.text.sense import Sense

SCALES = tuple(MODES)
"""Scales that may be drawn."""
_STREAM = 0x5CA1E
"""Keeps this draw apart from those of the tokens and of the tempo."""


class KeySense(Sense):
    """Knows the scales of what words describe."""

    subject, count, typical = "key", len(SCALES), 2.5

    def choose(self, meaning: Tensor, seed: int) -> Key:
        """Draw a key for a clip.

        Args:
            meaning: of its prompt, [D].
            seed: of the clip; the same draws the same.
        """
        random = np.random.default_rng([_STREAM, seed])
        scale = SCALES[self.draw(meaning, random.random())]
        return Key(int(random.integers(len(KEY_NAMES))), scale)
