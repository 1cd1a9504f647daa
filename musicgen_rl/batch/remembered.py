"""Text states kept for a whole run: each prompt is encoded once, not once for every lam."""

from torch import Tensor

from musicgen_rl.lm.condition import Condition
from musicgen_rl.text.base import TextEncoder
from musicgen_rl.text.cache import stack_states

_MOST_BYTES = 256 << 20
"""About 8,000 prompts of MiniLM's states; what comes after is encoded when it is needed."""


class RememberedText:
    """A text encoder that remembers; a prompt's states do not depend on its company.

    Args:
        encoder: encodes each prompt alone, as those of this package do.
        most_bytes: room for states.
    """

    def __init__(self, encoder: TextEncoder, most_bytes: int = _MOST_BYTES) -> None:
        self._encoder, self._room = encoder, most_bytes
        self._states: dict[str, Tensor] = {}

    @property
    def hidden_size(self) -> int:
        """D."""
        return self._encoder.hidden_size

    def encode(self, prompts: list[str]) -> Condition:
        """Encode B prompts to states [B, L, D] and mask [B, L], L = the longest of them."""
        return stack_states([self._get(prompt) for prompt in prompts])

    def _get(self, prompt: str) -> Tensor:
        if prompt not in self._states:
            one = self._encoder.encode([prompt])
            states = one.hidden[0][one.mask[0]]  # [L, D]
            if states.nbytes > self._room:
                return states
            self._room -= states.nbytes
            self._states[prompt] = states
        return self._states[prompt]
