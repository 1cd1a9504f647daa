"""Text states by prompt, remembered and stacked.

Each prompt is encoded alone, without padding. Its states are then the same bits whatever stands
beside it in a batch, which is what lets clip 3 of a seed come out alone as it does among eight;
and prompts are short (tens of tokens), so a batch would save little on a CPU.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from threading import Lock

import torch
from torch import Tensor

from musicgen_rl.lm.condition import Condition

DEFAULT_ENTRIES = 256
"""Prompts remembered: at most 50 MB of MiniLM's states, usually 10."""


class StateCache:
    """The states of the prompts used last, safe to use from several threads."""

    def __init__(
        self, encode_one: Callable[[str], Tensor], max_entries: int = DEFAULT_ENTRIES
    ) -> None:
        """Start empty.

        Args:
            encode_one: prompt -> states [L, D].
            max_entries: prompts kept; the one unused for longest goes first.
        """
        self._encode_one = encode_one
        self._max_entries = max_entries
        self._states: OrderedDict[str, Tensor] = OrderedDict()
        self._lock = Lock()

    def get(self, prompt: str) -> Tensor:
        """Return the states [L, D] of a prompt, encoding it if it is not remembered.

        The tensor is shared between callers and must not be changed in place.
        """
        with self._lock:
            if prompt in self._states:
                self._states.move_to_end(prompt)
                return self._states[prompt]
        states = self._encode_one(prompt)  # outside the lock: two threads may do it twice
        with self._lock:
            self._states[prompt] = states
            while len(self._states) > self._max_entries:
                self._states.popitem(last=False)
        return states

    def clear(self) -> None:
        """Forget all, for example when the model moved to another device."""
        with self._lock:
            self._states.clear()


def as_prompts(prompts: str | Sequence[str]) -> list[str]:
    """Take one string for one prompt, never for its characters.

    Lone surrogates, which a terminal's or a file's broken bytes become, turn into "?": no
    tokenizer takes them.
    """
    listed = [prompts] if isinstance(prompts, str) else prompts
    return [prompt.encode("utf-8", "replace").decode("utf-8") for prompt in listed]


def stack_states(states: Sequence[Tensor]) -> Condition:
    """Stack prompts of different lengths.

    Args:
        states: B tensors [L_i, D] of one device and dtype, B >= 1.

    Returns:
        hidden [B, L, D] with zeros behind each prompt, mask [B, L], L = the longest.
    """
    hidden = torch.nn.utils.rnn.pad_sequence(list(states), batch_first=True)  # [B, L, D]
    lengths = torch.tensor([len(s) for s in states], device=hidden.device)
    positions = torch.arange(hidden.shape[1], device=hidden.device)
    return Condition(hidden, positions[None] < lengths[:, None])
