"""The key a clip is held to."""

from typing import Any

from musicgen_rl.checkpoint import ModelInfo
from musicgen_rl.checkpoint.holds import KEY, has_hold, hold_hash, load_key
from musicgen_rl.data.keys import NO_KEY, Key, named_key, read_key
from musicgen_rl.lm.key import KeySignature
from musicgen_rl.pipeline.request import GenerationConfig
from musicgen_rl.pipeline.work import Batch


def asked_key(prompt: str, request: GenerationConfig) -> Key | None:
    """Tell which key is asked for; None where none is."""
    if request.key is None:
        return named_key(prompt)
    return None if request.key == NO_KEY else read_key(request.key)


class KeyHold:
    """What holds the keys of a model's clips; holds none where the model has no key adapter.

    Args:
        info: the model.

    Raises:
        CheckpointError: its adapter is damaged, or another model's.
    """

    def __init__(self, info: ModelInfo) -> None:
        self.adapter = load_key(info) if has_hold(info, KEY) else None
        self.sha256 = hold_hash(info, KEY)

    def keys(self, batch: Batch, request: GenerationConfig) -> list[Key | None]:
        """Say which key each clip is held to; None for those that are held to none."""
        if self.adapter is None:
            return [None] * len(batch.prompts)
        return [asked_key(prompt, request) for prompt in batch.prompts]

    def signature(self, batch: Batch, request: GenerationConfig) -> KeySignature | None:
        """Make what tells a batch its keys; None where no clip is held to one."""
        keys = self.keys(batch, request)
        if self.adapter is None or not any(keys):
            return None
        return KeySignature(self.adapter, keys)

    def describe(self, batch: Batch, request: GenerationConfig) -> list[dict[str, Any] | None]:
        """Say for the settings of each clip which key it is held to, and by what."""
        return [
            None if key is None else {"name": key.name, "sha256": self.sha256}
            for key in self.keys(batch, request)
        ]
