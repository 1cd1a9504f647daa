"""The key a clip is held to."""

from typing import Any

from musicgen_rl.checkpoint import ModelInfo
from musicgen_rl.checkpoint.holds import KEY, has_hold, hold_hash, load_key
from musicgen_rl.data.keys import AUTO_KEY, NO_KEY, Key, named_key, read_key
from musicgen_rl.lm.key import KeySignature
from musicgen_rl.pipeline.request import GenerationConfig
from musicgen_rl.pipeline.source import Source
from musicgen_rl.pipeline.work import Batch
from musicgen_rl.sampling.randomness import clip_seed
from musicgen_rl.text.base import TextEncoder
from musicgen_rl.text.key import KeySense
from musicgen_rl.text.sense import load_sense, meaning_of


def asked_key(prompt: str, request: GenerationConfig) -> Key | None:
    """Tell which key is asked for; None where none is."""
    if request.key in (None, AUTO_KEY):
        return named_key(prompt)
    return None if request.key == NO_KEY else read_key(str(request.key))


def finds_key(prompt: str, request: GenerationConfig) -> bool:
    """Tell whether a model is to find a key: none is named, and one is to be held."""
    return request.key == AUTO_KEY and named_key(prompt) is None


class KeyHold:
    """What holds the keys of a model's clips; holds none where the model has no key adapter.

    Args:
        info: the model.
        text: its text encoder, by which it finds a key where it is to.

    Raises:
        CheckpointError: its adapter or its sense of key is damaged, or another model's.
    """

    def __init__(self, info: ModelInfo, text: TextEncoder) -> None:
        self.adapter = load_key(info) if has_hold(info, KEY) else None
        self.sha256 = hold_hash(info, KEY)
        self._sense = load_sense(info, KEY, KeySense)
        self._text = text

    def keys(
        self, batch: Batch, request: GenerationConfig, source: Source | None
    ) -> list[Key | None]:
        """Say which key each clip is held to; None for those that are held to none.

        What goes on from a clip goes on in the key that one was held to; where it was held to none
        no other is found.
        """
        if self.adapter is None:
            return [None] * len(batch.prompts)
        seeds = batch.seeds_or(request.seed or 0)
        return [
            asked_key(prompt, request)
            if not finds_key(prompt, request)
            else (self.find(prompt, seed, index) if source is None else source.held_key)
            for prompt, index, seed in zip(batch.prompts, batch.indices, seeds, strict=True)
        ]

    def find(self, prompt: str, seed: int, index: int = 0) -> Key | None:
        """Find a key that goes with a prompt, for a variation of a seed; None where it cannot."""
        if self.adapter is None or self._sense is None:
            return None
        return self._sense.choose(meaning_of(self._text, prompt), clip_seed(seed, index))

    def signature(
        self, batch: Batch, request: GenerationConfig, source: Source | None
    ) -> KeySignature | None:
        """Make what tells a batch its keys; None where no clip is held to one."""
        keys = self.keys(batch, request, source)
        if self.adapter is None or not any(keys):
            return None
        return KeySignature(self.adapter, keys)

    def describe(
        self, batch: Batch, request: GenerationConfig, source: Source | None
    ) -> list[dict[str, Any] | None]:
        """Say for the settings of each clip which key it is held to, and by what."""
        return [
            None if key is None else {"name": key.name, "sha256": self.sha256}
            for key in self.keys(batch, request, source)
        ]
