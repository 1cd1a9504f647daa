"""All that a model's clips are held to, tempo, key, chords, as the pipeline and a jam use it."""

from collections.abc import Collection
from typing import Any

from torch import Tensor

from musicgen_rl.audio.tempo import without_tempo
from musicgen_rl.checkpoint import ModelInfo
from musicgen_rl.checkpoint.holds import (
    BEAT,
    CHORD_SENSE,
    CHORDS,
    HOLDS,
    KEY,
    KEY_SENSE,
    TEMPO_SENSE,
    Hold,
    can_find,
    has_hold,
)
from musicgen_rl.data.chords import AUTO_CHORDS, NO_CHORDS, Progression, read_progression
from musicgen_rl.data.keys import AUTO_KEY, NO_KEY, Key, read_key
from musicgen_rl.errors import ConfigError
from musicgen_rl.lm.beat import Beat, MovingMetronome
from musicgen_rl.lm.chords import Chart, MovingLeadSheet
from musicgen_rl.lm.key import MovingSignature
from musicgen_rl.lm.told import Teller, Tellers
from musicgen_rl.pipeline.asked import (
    asked_chords,
    asked_key,
    asked_tempo,
    beats_per_bar,
    finds_chords,
    finds_key,
    finds_tempo,
    wants_no_beat,
)
from musicgen_rl.pipeline.chords import ChordHold
from musicgen_rl.pipeline.key import KeyHold
from musicgen_rl.pipeline.moves import Begins
from musicgen_rl.pipeline.request import GenerationConfig
from musicgen_rl.pipeline.source import Source
from musicgen_rl.pipeline.tempo import TempoHold, beats_of, within_reach
from musicgen_rl.pipeline.work import Batch
from musicgen_rl.sampling.recall import Recall
from musicgen_rl.text.base import TextEncoder

_STEADY, _AUTO, _FITTING = "a steady beat", "one key", "chords that go with it"
_FREE = GenerationConfig()
"""Orders nothing: what the prompt names is what is asked for."""


def require_holds(info: ModelInfo, request: GenerationConfig) -> None:
    """Refuse a tempo, a key or chords where the model cannot hold them, before any work.

    What a prompt names is no order.

    Raises:
        ConfigError: the folder lacks what would hold it.
    """
    tempo = f"{request.tempo_bpm:g} bpm" if request.tempo_bpm else ""
    key = "" if request.key in (None, NO_KEY, AUTO_KEY) else str(request.key)
    steady = _STEADY if request.steady else ""
    auto = f"a key of {AUTO_KEY!r}" if request.key == AUTO_KEY else ""
    found = f"chords of {AUTO_CHORDS!r}" if request.chords == AUTO_CHORDS else ""
    chords = "" if found or request.chords in (None, NO_CHORDS) else f"chords {request.chords}"
    untimed = chords if request.tempo_bpm is None else ""
    orders = (
        (BEAT, tempo, "name the tempo in the prompt and let it choose among takes, or "),
        (KEY, key, ""),
        *((hold, steady, "") for hold in (TEMPO_SENSE, BEAT)),
        *((hold, auto, "") for hold in (KEY_SENSE, KEY)),
        *((hold, chords, "") for hold in (CHORDS, BEAT)),
        (TEMPO_SENSE, untimed, "give a tempo too, or "),
        *((hold, found, "") for hold in (CHORD_SENSE, CHORDS, KEY_SENSE, TEMPO_SENSE, BEAT)),
    )
    for hold, order, way in orders:
        if order and not has_hold(info, hold):
            raise ConfigError(
                f"{info.name} cannot hold {hold.held}, so {order} cannot be set: its folder "
                f"lacks {hold.file}; {way}use a model that can, such as pocket"
            )


def asked_for(hold: Hold, prompt: str, request: GenerationConfig) -> bool:
    """Tell whether something is asked to be held, by the prompt or by order, or is to be found."""
    tempo, key = finds_tempo(prompt, request), finds_key(prompt, request)
    chords = finds_chords(prompt, request)
    return {
        TEMPO_SENSE: tempo,
        BEAT: tempo or asked_tempo(prompt, request) is not None,
        KEY_SENSE: key or chords,
        KEY: key or asked_key(prompt, request) is not None,
        CHORD_SENSE: chords,
        CHORDS: chords or asked_chords(prompt, request) is not None,
    }[hold]


def held_to(
    info: ModelInfo, prompt: str, request: GenerationConfig, *, goes_on: bool = False
) -> str:
    """Say in words what a clip is held to: "124 bpm and D minor"; empty where it is left free.

    Args:
        info: the model.
        prompt: of the clip.
        request: its orders.
        goes_on: whether it goes on from another; its key and its chords are not known here.
    """
    asked, key = asked_tempo(prompt, request), asked_key(prompt, request)
    steady = finds_tempo(prompt, request) and can_find(info, BEAT)  # named chords want one too
    beat = steady or (asked is not None and has_hold(info, BEAT))
    chords = asked_chords(prompt, request) if beat and has_hold(info, CHORDS) else None
    fitting = finds_chords(prompt, request) and not goes_on
    said = [
        *([f"{asked:g} bpm"] if asked is not None and has_hold(info, BEAT) else []),
        *([_STEADY] if steady else []),
        *([key.name] if key is not None and has_hold(info, KEY) else []),
        *([_AUTO] if finds_key(prompt, request) and not (goes_on or chords or fitting) else []),
        *([f"the chords {chords.name}"] if chords is not None else []),
        *([_FITTING] if fitting else []),
    ]
    return ", ".join([*said[:-2], " and ".join(said[-2:])])


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
        self.chords = ChordHold(info, text)
        self.frame_rate = info.frame_rate

    def __bool__(self) -> bool:
        """Whether anything can be held."""
        return self.tempo.adapter is not None or self.key.adapter is not None

    def words(self, batch: Batch, request: GenerationConfig, source: Source | None) -> list[str]:
        """Return the prompts as the model reads them: without a tempo that is told otherwise."""
        return self.tempo.words(batch, request, source)

    def teller(
        self, batch: Batch, request: GenerationConfig, source: Source | None
    ) -> tuple[Teller | None, Recall | None]:
        """Make what tells a batch its beats, keys and chords, and what its chords call back.

        Returns:
            Each None where no clip has any.
        """
        beats, keys, charts = self._told(batch, request, source)
        lead_sheet = self.chords.lead_sheet(charts)
        teller = _together(self.tempo.metronome(beats), self.key.signature(keys), lead_sheet)
        return teller, lead_sheet

    def _told(
        self, batch: Batch, request: GenerationConfig, source: Source | None
    ) -> tuple[list[Beat | None], list[Key | None], list[Chart | None]]:
        """Say what each clip of a batch is told."""
        beats = self.tempo.beats(batch, request, source)
        homes = self.key.homes(batch, request, source)
        charts = self.chords.charts(batch, request, source, beats, homes)
        return beats, self.key.keys(batch, request, homes, charts), charts

    def describe(
        self, batch: Batch, request: GenerationConfig, source: Source | None
    ) -> list[dict[str, Any]]:
        """Say for the settings of each clip what it is held to, and by what."""
        return [
            {
                BEAT.holds: self.tempo.describe(beat),
                KEY.holds: self.key.describe(key),
                CHORDS.holds: self.chords.describe(chart, request.returning),
            }
            for beat, key, chart in zip(*self._told(batch, request, source), strict=True)
        ]


def begins_with(holds: Holds, prompt: str, seed: int, request: GenerationConfig) -> Begins:
    """Say to what a jam is held.

    Args:
        holds: of the model.
        prompt: what it starts with.
        seed: of the jam.
        request: its orders are what the jam begins with where the prompt names none, and what is to
            be found is found; what is held to none is never held.
    """
    bpm, key, chords = request.tempo_bpm or None, None, None
    if request.chords not in (None, NO_CHORDS, AUTO_CHORDS):
        chords = read_progression(str(request.chords))
    wants_beat = request.steady or request.chords == AUTO_CHORDS
    ordered = chords is not None or asked_chords(prompt, request) is not None
    if bpm is None and (ordered or (wants_beat and not wants_no_beat(prompt))):
        bpm = holds.tempo.find(prompt, seed)
    if request.key not in (None, NO_KEY, AUTO_KEY):
        key = read_key(str(request.key))
    if request.chords == AUTO_CHORDS and (bpm is not None or asked_tempo(prompt, _FREE)):
        home = asked_key(prompt, _FREE) or key or holds.key.find(prompt, seed)
        chords = None if home is None else holds.chords.find(prompt, seed, home)
    if request.key == AUTO_KEY and chords is None:
        key = holds.key.find(prompt, seed)
    beatless = request.tempo_bpm == 0.0
    never = {
        BEAT: beatless,
        KEY: request.key == NO_KEY,
        CHORDS: request.chords == NO_CHORDS or beatless,
    }
    return Begins(
        which=[hold for hold in HOLDS if not never[hold]], bpm=bpm, key=key, chords=chords,
        beats_per_bar=beats_per_bar(prompt, request), returning=request.returning,
    )  # fmt: skip


class MovingHolds:
    """What holds a jam to the tempo, key and chords that it begins with or its prompt names.

    Args:
        holds: the model's.
        prompt: what it starts with.
        begins: what else is known of its beginning.
    """

    def __init__(self, holds: Holds, prompt: str, begins: Begins) -> None:
        self._holds, self._begins = holds, begins
        self._bpm, self._key, self._chords = begins.bpm, begins.key, begins.chords
        self.metronome: MovingMetronome | None = None
        self.signature: MovingSignature | None = None
        self.lead_sheet: MovingLeadSheet | None = None
        if BEAT in begins.which and holds.tempo.adapter is not None:
            (beat,) = beats_of([self._next_tempo(prompt)])
            self.metronome = MovingMetronome(holds.tempo.adapter, beat, holds.frame_rate)
        if KEY in begins.which and holds.key.adapter is not None:
            self.signature = MovingSignature(holds.key.adapter, self._next_key(prompt))
        if CHORDS in begins.which and holds.chords.adapter and self.metronome is not None:
            self.lead_sheet = MovingLeadSheet(
                holds.chords.adapter, self._next_chords(prompt), begins.beats_per_bar,
                self.metronome,
            )  # fmt: skip

    def told(self, first_frame: int, steps: int) -> Tensor:
        """Compute what is added before each block, as `Teller.told`; needs an adapter."""
        teller = _together(self.metronome, self.signature, self.lead_sheet)
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
        if self.lead_sheet is not None:
            self.lead_sheet.move(frame, self._next_chords(prompt))

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

    def _next_chords(self, prompt: str) -> Progression | None:
        """Say which chords go on with a prompt; None where none do, as when it names a key."""
        asked = asked_chords(prompt, _FREE)
        elsewhere = self.lead_sheet is not None and asked_key(prompt, _FREE) is not None
        if asked is not None or elsewhere or self._begins.chords is None:
            self._chords = asked
        return self._chords

    def words(self, prompt: str) -> str:
        """Return a prompt as the model reads it, without a tempo that is told by beats."""
        held = self.metronome is not None and asked_tempo(prompt, _FREE) is not None
        return without_tempo(prompt) if held else prompt

    def describe(self, prompts: Collection[str]) -> dict[str, Any]:
        """Say for the settings by what its prompts were held, if by anything."""
        holds, begins = self._holds, self._begins
        can = {
            BEAT: self.metronome is not None, KEY: self.signature is not None,
            CHORDS: self.lead_sheet is not None,
        }  # fmt: skip
        hashes = {BEAT: holds.tempo.sha256, KEY: holds.key.sha256, CHORDS: holds.chords.sha256}
        bpm = begins.bpm if can[BEAT] else None
        key = begins.key if can[KEY] else None
        chords = begins.chords if can[CHORDS] else None
        begun = {BEAT: bpm is not None, KEY: key is not None, CHORDS: chords is not None}
        said: dict[str, Any] = {}
        for hold in HOLDS:
            held = begun[hold] or any(asked_for(hold, prompt, _FREE) for prompt in prompts)
            said[f"{hold.name}_sha256"] = hashes[hold] if can[hold] and held else ""
        return said | {
            "steady_bpm": bpm, "steady_key": key and key.name,
            "steady_chords": chords and chords.name, "beats_per_bar": begins.beats_per_bar,
            "returning": begins.returning,
        }  # fmt: skip


def _together(*tellers: Teller | None) -> Teller | None:
    there = [teller for teller in tellers if teller is not None]
    return Tellers(there) if len(there) > 1 else (there[0] if there else None)
