"""The key a clip is held to."""

from collections.abc import Sequence
from typing import Any

from musicgen_rl.checkpoint import ModelInfo
from musicgen_rl.checkpoint.holds import KEY, has_hold, hold_hash, load_key
from musicgen_rl.data.keys import Key
from musicgen_rl.lm.chords import Chart
from musicgen_rl.lm.key import KeySignature
from musicgen_rl.pipeline.asked import asked_chords, asked_key, finds_chords, finds_key
from musicgen_rl.pipeline.request import GenerationConfig
from musicgen_rl.pipeline.source import Source
from musicgen_rl.pipeline.work import Batch
from musicgen_rl.sampling.randomness import clip_seed
from musicgen_rl.text.base import TextEncoder
from musicgen_rl.text.key import KeySense
from musicgen_rl.text.sense import load_sense, meaning_of


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

    def homes(
        self, batch: Batch, request: GenerationConfig, source: Source | None
    ) -> list[Key | None]:
        """Say which key goes with each clip that asks for one, or for chords to be found in it.

        What goes on from a clip goes on in the key that one was held to; where it was held to none
        no other is found.
        """
        seeds = batch.seeds_or(request.seed or 0)
        homes: list[Key | None] = []
        for prompt, index, seed in zip(batch.prompts, batch.indices, seeds, strict=True):
            home = asked_key(prompt, request)
            if home is None and (finds_key(prompt, request) or finds_chords(prompt, request)):
                home = self.find(prompt, seed, index) if source is None else source.held_key
            homes.append(home)
        return homes

    def keys(
        self,
        batch: Batch,
        request: GenerationConfig,
        homes: Sequence[Key | None],
        charts: Sequence[Chart | None],
    ) -> list[Key | None]:
        """Say which key each clip is held to; None for those that are held to none.

        Chords say which notes to play: those that are found are in the clip's key, which is then
        not told beside them, nor is a key found for chords that are asked for. Told both, the music
        loses more of its style (docs/experiments/2026-11-30-chords.md).

        Args:
            batch: the clips.
            request: their orders.
            homes: from `homes`.
            charts: the chords each is held to.
        """
        if self.adapter is None:
            return [None] * len(batch.prompts)
        held: list[Key | None] = []
        for prompt, home, chart in zip(batch.prompts, homes, charts, strict=True):
            by_chords = chart is not None and asked_chords(prompt, request) is None
            found = home if finds_key(prompt, request) and chart is None else None
            held.append(None if by_chords else asked_key(prompt, request) or found)
        return held

    def find(self, prompt: str, seed: int, index: int = 0) -> Key | None:
        """Find a key that goes with a prompt, for a variation of a seed; None where it cannot."""
        if self._sense is None:
            return None
        return self._sense.choose(meaning_of(self._text, prompt), clip_seed(seed, index))

    def signature(self, keys: Sequence[Key | None]) -> KeySignature | None:
        """Make what tells a batch its keys; None where no clip is held to one."""
        if self.adapter is None or not any(keys):
            return None
        return KeySignature(self.adapter, keys)

    def describe(self, key: Key | None) -> dict[str, Any] | None:
        """Say for the settings of a clip which key it is held to, and by what."""
        return None if key is None else {"name": key.name, "sha256": self.sha256}
