"""Key conditioning: a frozen language model is told which notes to play.

What a key adds is a sum over its notes and its tonic, so that a key that was seldom heard borrows
from those that share its notes. Over all keys it sums up to nothing but the layer's bias. In
training the bias takes up what is the same for all keys, which is most of what there is to learn:
the style of the music that is learnt from. It is left out of what is played
(docs/experiments/2026-11-29-key.md, 2026-11-30-key.md).
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from musicgen_rl.data.keys import Key
from musicgen_rl.lm.told import Course, LinearAdapter

FEATURES = 24
_NOTES = 7  # of every scale


def key_features(keys: Sequence[Key]) -> Tensor:
    """Describe B keys.

    Returns:
        float32 [B, FEATURES]: which pitch classes are in the scale, which is the tonic; over all
        twelve transpositions of a key each sums up to 0.
    """
    features = torch.zeros(len(keys), FEATURES)
    for row, key in enumerate(keys):
        features[row, list(key.notes)] = 1.0
        features[row, 12 + key.tonic] = 1.0
    features[:, :12] -= _NOTES / 12
    features[:, 12:] -= 1 / 12
    return features


class KeyAdapter(LinearAdapter):
    """From a key to what each block of a language model is told.

    Args:
        width: D of the model.
        num_layers: L of the model.
    """

    def __init__(self, width: int, num_layers: int) -> None:
        super().__init__(FEATURES, width, num_layers)

    def forward(self, keys: Sequence[Key]) -> Tensor:
        """Compute what is added before each block, at every frame alike.

        Args:
            keys: of B clips.

        Returns:
            float32 [L, B, 1, D].
        """
        return self.added(key_features(keys).unsqueeze(1))


class KeySignature:
    """Tells a batch of clips their keys.

    Args:
        adapter: the model's.
        keys: of each of B clips; None is told nothing.
    """

    def __init__(self, adapter: KeyAdapter, keys: Sequence[Key | None]) -> None:
        self.adapter, self.keys = adapter, tuple(keys)

    @torch.no_grad()
    def told(self, first_frame: int, steps: int) -> Tensor:
        """Compute what is added before each block, as `Teller.told`."""
        adapter = self.adapter
        told = torch.zeros(adapter.num_layers, len(self.keys), steps, adapter.width)
        for row, key in enumerate(self.keys):
            if key is not None:  # one by one: a row does not depend on its company
                told[:, row] = adapter([key])[:, 0]
        return told


class MovingSignature:
    """Tells one clip its key, which changes while it is made.

    Args:
        adapter: the model's.
        key: at first; None is told nothing.
    """

    def __init__(self, adapter: KeyAdapter, key: Key | None) -> None:
        self.adapter, self._course = adapter, Course(key)

    def move(self, frame: int, key: Key | None) -> None:
        """Go on in another key from a frame of the clip; None tells no key from there."""
        self._course.move(frame, key)

    @torch.no_grad()
    def told(self, first_frame: int, steps: int) -> Tensor:
        """Compute what is added before each block, as `Teller.told`."""
        adapter = self.adapter
        told = torch.zeros(adapter.num_layers, 1, steps, adapter.width)
        for start, stop, key in self._course.spans(first_frame, first_frame + steps):
            if key is not None:
                told[:, :, start - first_frame : stop - first_frame] = adapter([key])
        return told
