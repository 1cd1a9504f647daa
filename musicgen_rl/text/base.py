"""The seam to text encoders: what the rest of the package needs of one."""

from typing import Protocol

from musicgen_rl.lm.condition import Condition


class TextEncoder(Protocol):
    """Turns prompts into text states."""

    @property
    def hidden_size(self) -> int:
        """D."""
        ...

    def encode(self, prompts: list[str]) -> Condition:
        """Encode B prompts to states [B, L, D] and mask [B, L], L = the longest of them."""
        ...
