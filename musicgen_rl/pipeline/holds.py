"""All that a model's clips are held to, a tempo and a key, as the pipeline and a jam use it."""

from collections.abc import Collection
from typing import Any

from torch import Tensor

from musicgen_rl.audio.tempo import without_tempo
from musicgen_rl.checkpoint import ModelInfo
from musicgen_rl.checkpoint.holds import BEAT, HOLDS, KEY, SENSE, Hold, has_hold
from musicgen_rl.data.keys import NO_KEY
from musicgen_rl.errors import ConfigError
from musicgen_rl.lm.beat import MovingMetronome
from musicgen_rl.lm.key import MovingSignature
from musicgen_rl.lm.told import Teller, Tellers
from musicgen_rl.pipeline.key import KeyHold, asked_key
from musicgen_rl.pipeline.request import GenerationConfig
from musicgen_rl.pipeline.source import Source
from musicgen_rl.pipeline.tempo import (
    TempoHold,
    asked_tempo,
    beats_of,
    finds_tempo,
    within_reach,
)
from musicgen_rl.pipeline.work import Batch
from musicgen_rl.text.base import TextEncoder


def require_holds(info: ModelInfo, request: GenerationConfig) -> None:
    """Refuse a tempo or a key where the model cannot hold one, before any work.

    One that a prompt names is no order.

    Raises:
        ConfigError: the folder lacks what would hold it.
    """
    orders = (
        (BEAT, f"{request.tempo_bpm:g} bpm" if request.tempo_bpm else "",
         "name the tempo in the prompt and let it choose among takes, or "),
        (KEY, "" if request.key in (None, NO_KEY) else str(request.key), ""),
        (SENSE, "a steady beat" if request.steady else "", ""),
    )  # fmt: skip
    for hold, order, way in orders:
        if order and not has_hold(info, hold):
            raise ConfigError(
                f"{info.name} cannot hold a {hold.holds}, so {order} cannot be set: its folder "
                f"lacks {hold.file}; {way}use a model that can, such as pocket"
            )
    if request.steady and not has_hold(info, BEAT):
        raise ConfigError(
            f"{info.name} cannot hold a {BEAT.holds}, so a steady beat cannot be set: its folder "
            f"lacks {BEAT.file}; use a model that can, such as pocket"
        )


def asked_for(hold: Hold, prompt: str, request: GenerationConfig) -> bool:
    """Tell whether a tempo or a key is asked for, by the prompt or by order, or one to be found."""
    if hold == KEY:
        return asked_key(prompt, request) is not None
    found = finds_tempo(prompt, request)
    return found if hold == SENSE else found or asked_tempo(prompt, request) is not None


def held_to(info: ModelInfo, prompt: str, request: GenerationConfig) -> str:
    """Say in words what a clip is held to: "124 bpm and D minor"; empty where it is left free."""
    asked, key = asked_tempo(prompt, request), asked_key(prompt, request)
    said = [
        *([f"{asked:g} bpm"] if asked is not None and has_hold(info, BEAT) else []),
        *(["a steady beat"] if finds_tempo(prompt, request) else []),
        *([key.name] if key is not None and has_hold(info, KEY) else []),
    ]
    return " and ".join(said)


class Holds:
    """What holds the clips of a model; holds nothing where the model has no adapters.

    Args:
        info: the model.
        text: its text encoder.

    Raises:
        CheckpointError: an adapter is damaged, or another model's.
    """

    def __init__(self, info: ModelInfo, text: TextEncoder) -> None:
        self.tempo, self.key = TempoHold(info, text), KeyHold(info)
        self.frame_rate = info.frame_rate

    def __bool__(self) -> bool:
        """Whether anything can be held."""
        return self.tempo.adapter is not None or self.key.adapter is not None

    def words(self, batch: Batch, request: GenerationConfig, source: Source | None) -> list[str]:
        """Return the prompts as the model reads them: without a tempo that is told otherwise."""
        return self.tempo.words(batch, request, source)

    def teller(
        self, batch: Batch, request: GenerationConfig, source: Source | None
    ) -> Teller | None:
        """Make what tells a batch its beats and keys; None where no clip is held to any."""
        return _together(
            self.tempo.metronome(batch, request, source), self.key.signature(batch, request)
        )

    def describe(
        self, batch: Batch, request: GenerationConfig, source: Source | None
    ) -> list[dict[str, Any]]:
        """Say for the settings of each clip what it is held to, and by what."""
        tempi, keys = self.tempo.describe(batch, request, source), self.key.describe(batch, request)
        return [{BEAT.holds: tempo, KEY.holds: key} for tempo, key in zip(tempi, keys, strict=True)]


class MovingHolds:
    """What holds a jam to the tempo and the key that its prompt of the moment names.

    Args:
        holds: the model's.
        prompt: what it starts with.
        which: what it may be held to.
        steady_bpm: tempo at first, where its prompt names none; then a tempo is held until another
            is named. None lets it go with the prompt that named it.
    """

    def __init__(
        self,
        holds: Holds,
        prompt: str,
        which: Collection[Hold] = HOLDS,
        steady_bpm: float | None = None,
    ) -> None:
        self._holds, self._steady_bpm, self._bpm = holds, steady_bpm, steady_bpm
        self.metronome: MovingMetronome | None = None
        self.signature: MovingSignature | None = None
        if BEAT in which and holds.tempo.adapter is not None:
            (beat,) = beats_of([self._next_tempo(prompt)])
            self.metronome = MovingMetronome(holds.tempo.adapter, beat, holds.frame_rate)
        if KEY in which and holds.key.adapter is not None:
            self.signature = MovingSignature(holds.key.adapter, asked_key(prompt, _FREE))

    def told(self, first_frame: int, steps: int) -> Tensor:
        """Compute what is added before each block, as `Teller.told`; needs an adapter."""
        teller = _together(self.metronome, self.signature)
        assert teller is not None
        return teller.told(first_frame, steps)

    def __bool__(self) -> bool:
        """Whether anything can be held."""
        return self.metronome is not None or self.signature is not None

    def move(self, frame: int, prompt: str) -> None:
        """Hold what another prompt names from a frame on; what it does not name is let go."""
        if self.metronome is not None:
            asked = self._next_tempo(prompt)
            self.metronome.move(frame, None if asked is None else within_reach(asked))
        if self.signature is not None:
            self.signature.move(frame, asked_key(prompt, _FREE))

    def _next_tempo(self, prompt: str) -> float | None:
        """Say which tempo goes on with a prompt; None where none does."""
        asked = asked_tempo(prompt, _FREE)
        if asked is not None or self._steady_bpm is None:
            self._bpm = asked
        return self._bpm

    def words(self, prompt: str) -> str:
        """Return a prompt as the model reads it, without a tempo that is told by beats."""
        held = self.metronome is not None and asked_tempo(prompt, _FREE) is not None
        return without_tempo(prompt) if held else prompt

    def describe(self, prompts: Collection[str]) -> dict[str, Any]:
        """Say for the settings by what its prompts were held, if by anything."""
        can = {BEAT: self.metronome is not None, KEY: self.signature is not None}
        hashes = {BEAT: self._holds.tempo.sha256, KEY: self._holds.key.sha256}
        steady = can[BEAT] and self._steady_bpm is not None
        named = {hold: any(asked_for(hold, prompt, _FREE) for prompt in prompts) for hold in HOLDS}
        named[BEAT] |= steady
        said = {f"{hold.name}_sha256": hashes[hold] if can[hold] and named[hold] else ""
                for hold in HOLDS}  # fmt: skip
        return said | {"steady_bpm": self._steady_bpm if steady else None}


_FREE = GenerationConfig()
"""Orders nothing: what the prompt names is what is asked for."""


def _together(*tellers: Teller | None) -> Teller | None:
    there = [teller for teller in tellers if teller is not None]
    return Tellers(there) if len(there) > 1 else (there[0] if there else None)
