"""All that a model's clips are held to, a tempo and a key, as the pipeline and a jam use it."""

from collections.abc import Collection
from typing import Any

from torch import Tensor

from musicgen_rl.audio.tempo import has_no_beat, without_tempo
from musicgen_rl.checkpoint import ModelInfo
from musicgen_rl.checkpoint.holds import (
    BEAT,
    HOLDS,
    KEY,
    KEY_SENSE,
    TEMPO_SENSE,
    Hold,
    has_hold,
)
from musicgen_rl.data.keys import AUTO_KEY, NO_KEY, Key, read_key
from musicgen_rl.errors import ConfigError
from musicgen_rl.lm.beat import MovingMetronome
from musicgen_rl.lm.key import MovingSignature
from musicgen_rl.lm.told import Teller, Tellers
from musicgen_rl.pipeline.key import KeyHold, asked_key, finds_key
from musicgen_rl.pipeline.moves import Begins
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

_STEADY, _AUTO = "a steady beat", "one key"
_FREE = GenerationConfig()
"""Orders nothing: what the prompt names is what is asked for."""


def require_holds(info: ModelInfo, request: GenerationConfig) -> None:
    """Refuse a tempo or a key where the model cannot hold one, before any work.

    One that a prompt names is no order.

    Raises:
        ConfigError: the folder lacks what would hold it.
    """
    tempo = f"{request.tempo_bpm:g} bpm" if request.tempo_bpm else ""
    key = "" if request.key in (None, NO_KEY, AUTO_KEY) else str(request.key)
    steady = _STEADY if request.steady else ""
    auto = f"a key of {AUTO_KEY!r}" if request.key == AUTO_KEY else ""
    orders = (
        (BEAT, tempo, "name the tempo in the prompt and let it choose among takes, or "),
        (KEY, key, ""),
        *((hold, steady, "") for hold in (TEMPO_SENSE, BEAT)),
        *((hold, auto, "") for hold in (KEY_SENSE, KEY)),
    )
    for hold, order, way in orders:
        if order and not has_hold(info, hold):
            raise ConfigError(
                f"{info.name} cannot hold a {hold.holds}, so {order} cannot be set: its folder "
                f"lacks {hold.file}; {way}use a model that can, such as pocket"
            )


def asked_for(hold: Hold, prompt: str, request: GenerationConfig) -> bool:
    """Tell whether a tempo or a key is asked for, by the prompt or by order, or one to be found."""
    tempo, key = finds_tempo(prompt, request), finds_key(prompt, request)
    return {
        TEMPO_SENSE: tempo,
        BEAT: tempo or asked_tempo(prompt, request) is not None,
        KEY_SENSE: key,
        KEY: key or asked_key(prompt, request) is not None,
    }[hold]


def held_to(
    info: ModelInfo, prompt: str, request: GenerationConfig, *, goes_on: bool = False
) -> str:
    """Say in words what a clip is held to: "124 bpm and D minor"; empty where it is left free.

    Args:
        info: the model.
        prompt: of the clip.
        request: its orders.
        goes_on: whether it goes on from another; which key that was in is not known here.
    """
    asked, key = asked_tempo(prompt, request), asked_key(prompt, request)
    said = [
        *([f"{asked:g} bpm"] if asked is not None and has_hold(info, BEAT) else []),
        *([_STEADY] if finds_tempo(prompt, request) else []),
        *([key.name] if key is not None and has_hold(info, KEY) else []),
        *([_AUTO] if finds_key(prompt, request) and not goes_on else []),
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
        self.tempo, self.key = TempoHold(info, text), KeyHold(info, text)
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
            self.tempo.metronome(batch, request, source),
            self.key.signature(batch, request, source),
        )

    def describe(
        self, batch: Batch, request: GenerationConfig, source: Source | None
    ) -> list[dict[str, Any]]:
        """Say for the settings of each clip what it is held to, and by what."""
        tempi = self.tempo.describe(batch, request, source)
        keys = self.key.describe(batch, request, source)
        return [{BEAT.holds: tempo, KEY.holds: key} for tempo, key in zip(tempi, keys, strict=True)]


def begins_with(holds: Holds, prompt: str, seed: int, request: GenerationConfig) -> Begins:
    """Say to what a jam is held.

    Args:
        holds: of the model.
        prompt: what it starts with.
        seed: of the jam.
        request: its orders are what the jam begins with where the prompt names none, and what is to
            be found is found; what is held to none is never held.
    """
    bpm, key = request.tempo_bpm or None, None
    if request.steady and bpm is None and not has_no_beat(prompt):
        bpm = holds.tempo.find(prompt, seed)
    if request.key == AUTO_KEY:
        key = holds.key.find(prompt, seed)
    elif request.key not in (None, NO_KEY):
        key = read_key(str(request.key))
    never = {BEAT: request.tempo_bpm == 0.0, KEY: request.key == NO_KEY}
    return Begins(which=[hold for hold in HOLDS if not never[hold]], bpm=bpm, key=key)


class MovingHolds:
    """What holds a jam to the tempo and the key that it begins with or its prompt names.

    Args:
        holds: the model's.
        prompt: what it starts with.
        begins: what else is known of its beginning.
    """

    def __init__(self, holds: Holds, prompt: str, begins: Begins) -> None:
        self._holds, self._begins = holds, begins
        self._bpm, self._key = begins.bpm, begins.key
        self.metronome: MovingMetronome | None = None
        self.signature: MovingSignature | None = None
        if BEAT in begins.which and holds.tempo.adapter is not None:
            (beat,) = beats_of([self._next_tempo(prompt)])
            self.metronome = MovingMetronome(holds.tempo.adapter, beat, holds.frame_rate)
        if KEY in begins.which and holds.key.adapter is not None:
            self.signature = MovingSignature(holds.key.adapter, self._next_key(prompt))

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
            self.signature.move(frame, self._next_key(prompt))

    def _next_tempo(self, prompt: str) -> float | None:
        """Say which tempo goes on with a prompt; None where none does."""
        asked = asked_tempo(prompt, _FREE)
        if asked is not None or self._begins.bpm is None:
            self._bpm = asked
        return self._bpm

    def _next_key(self, prompt: str) -> Key | None:
        """Say which key goes on with a prompt; None where none does."""
        asked = asked_key(prompt, _FREE)
        if asked is not None or self._begins.key is None:
            self._key = asked
        return self._key

    def words(self, prompt: str) -> str:
        """Return a prompt as the model reads it, without a tempo that is told by beats."""
        held = self.metronome is not None and asked_tempo(prompt, _FREE) is not None
        return without_tempo(prompt) if held else prompt

    def describe(self, prompts: Collection[str]) -> dict[str, Any]:
        """Say for the settings by what its prompts were held, if by anything."""
        can = {BEAT: self.metronome is not None, KEY: self.signature is not None}
        hashes = {BEAT: self._holds.tempo.sha256, KEY: self._holds.key.sha256}
        bpm = self._begins.bpm if can[BEAT] else None
        key = self._begins.key if can[KEY] else None
        begun = {BEAT: bpm is not None, KEY: key is not None}
        said: dict[str, Any] = {}
        for hold in HOLDS:
            held = begun[hold] or any(asked_for(hold, prompt, _FREE) for prompt in prompts)
            said[f"{hold.name}_sha256"] = hashes[hold] if can[hold] and held else ""
        return said | {"steady_bpm": bpm, "steady_key": key and key.name}


def _together(*tellers: Teller | None) -> Teller | None:
    there = [teller for teller in tellers if teller is not None]
    return Tellers(there) if len(there) > 1 else (there[0] if there else None)
