"""The tempo a clip is held to: which one, and where its beats fall."""

from collections.abc import Sequence
from typing import Any

from musicgen_rl.audio.tempo import without_tempo
from musicgen_rl.checkpoint import ModelInfo
from musicgen_rl.checkpoint.holds import BEAT, has_hold, hold_hash, load_beat
from musicgen_rl.lm.beat import FASTEST_BPM, FIRST_BEAT_S, SLOWEST_BPM, Beat, Metronome
from musicgen_rl.pipeline.asked import asked_tempo, finds_tempo
from musicgen_rl.pipeline.request import GenerationConfig
from musicgen_rl.pipeline.source import Source
from musicgen_rl.pipeline.work import Batch
from musicgen_rl.sampling.randomness import clip_seed
from musicgen_rl.text.base import TextEncoder
from musicgen_rl.text.sense import load_sense, meaning_of
from musicgen_rl.text.tempo import TempoSense


def within_reach(bpm: float) -> float:
    """Double or halve a tempo until it is one that a model holds."""
    bpm = float(bpm)
    while bpm < SLOWEST_BPM:
        bpm *= 2.0
    while bpm > FASTEST_BPM:
        bpm /= 2.0
    return bpm


def beats_of(
    tempi: Sequence[float | None], first_beat_s: float | None = None, source: Source | None = None
) -> list[Beat | None]:
    """Say where the beats of each clip fall.

    Args:
        tempi: of the clips, beats a minute.
        first_beat_s: stands above what is heard.
        source: what all clips go on from; their beats go on from its.

    Returns:
        A beat for each tempo; None where there is none.
    """
    found: dict[float, Beat] = {}
    beats: list[Beat | None] = []
    for asked in tempi:
        if asked is None:
            beats.append(None)
            continue
        bpm = within_reach(asked)
        if bpm not in found:
            first = first_beat_s
            if first is None and source is not None:
                first = source.next_beat(bpm)
            found[bpm] = Beat(bpm, FIRST_BEAT_S if first is None else first)
        beats.append(found[bpm])
    return beats


class TempoHold:
    """What holds the tempi of a model's clips; holds none where the model has no beat adapter.

    Args:
        info: the model.
        text: its text encoder, by which it finds a tempo where it is to.

    Raises:
        CheckpointError: its adapter or its sense of tempo is damaged, or another model's.
    """

    def __init__(self, info: ModelInfo, text: TextEncoder) -> None:
        self.adapter = load_beat(info) if has_hold(info, BEAT) else None
        self.sha256 = hold_hash(info, BEAT)
        self._sense = load_sense(info, BEAT, TempoSense)
        self._text = text
        self._frame_rate = info.frame_rate

    def beats(
        self, batch: Batch, request: GenerationConfig, source: Source | None
    ) -> list[Beat | None]:
        """Say where the beats of each clip fall; None for those that hold no tempo."""
        if self.adapter is None:
            return [None] * len(batch.prompts)
        return beats_of(self._tempi(batch, request, source), request.first_beat_s, source)

    def _tempi(
        self, batch: Batch, request: GenerationConfig, source: Source | None
    ) -> list[float | None]:
        """Say which tempo each clip is held to, found where it is to be and can be.

        What goes on from a clip goes on at its tempo.
        """
        seeds = batch.seeds_or(request.seed or 0)
        return [
            (source and source.tempo) or self.find(prompt, seed, index)
            if finds_tempo(prompt, request)
            else asked_tempo(prompt, request)
            for prompt, index, seed in zip(batch.prompts, batch.indices, seeds, strict=True)
        ]

    def find(self, prompt: str, seed: int, index: int = 0) -> float | None:
        """Find a tempo that goes with a prompt, for a variation of a seed; None where it cannot."""
        if self.adapter is None or self._sense is None:
            return None
        return self._sense.choose(meaning_of(self._text, prompt), clip_seed(seed, index))

    def words(self, batch: Batch, request: GenerationConfig, source: Source | None) -> list[str]:
        """Return the prompts as the model reads them: without a tempo that is told otherwise."""
        beats = self.beats(batch, request, source)
        return [
            prompt if beat is None else without_tempo(prompt)
            for prompt, beat in zip(batch.prompts, beats, strict=True)
        ]

    def metronome(self, beats: Sequence[Beat | None]) -> Metronome | None:
        """Make what tells a batch its beats; None where no clip holds a tempo."""
        if self.adapter is None or not any(beats):
            return None
        return Metronome(self.adapter, beats, self._frame_rate)

    def describe(self, beat: Beat | None) -> dict[str, Any] | None:
        """Say for the settings of a clip which tempo it is held to, and by what."""
        if beat is None:
            return None
        return {"bpm": beat.bpm, "first_beat_s": beat.first_s, "sha256": self.sha256}
