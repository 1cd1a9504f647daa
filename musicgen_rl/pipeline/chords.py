"""The chords a clip is held to: which ones, and when each sounds."""

from collections.abc import Sequence
from typing import Any

from musicgen_rl.checkpoint import ModelInfo
from musicgen_rl.checkpoint.holds import CHORDS, has_hold, hold_hash, load_chords
from musicgen_rl.data.chords import Progression
from musicgen_rl.data.keys import Key
from musicgen_rl.lm.beat import Beat
from musicgen_rl.lm.chords import Chart, LeadSheet
from musicgen_rl.pipeline.asked import asked_chords, beats_per_bar, finds_chords
from musicgen_rl.pipeline.request import GenerationConfig
from musicgen_rl.pipeline.source import Source
from musicgen_rl.pipeline.work import Batch
from musicgen_rl.sampling.randomness import clip_seed
from musicgen_rl.text.base import TextEncoder
from musicgen_rl.text.progression import ProgressionSense
from musicgen_rl.text.sense import load_sense, meaning_of


class ChordHold:
    """What holds the chords of a model's clips; holds none where the model has no adapter for it.

    Args:
        info: the model.
        text: its text encoder, by which it finds chords where it is to.

    Raises:
        CheckpointError: its adapter or its sense of chords is damaged, or another model's.
    """

    def __init__(self, info: ModelInfo, text: TextEncoder) -> None:
        self.adapter = load_chords(info) if has_hold(info, CHORDS) else None
        self.sha256 = hold_hash(info, CHORDS)
        self._sense = load_sense(info, CHORDS, ProgressionSense)
        self._text = text
        self._frame_rate = info.frame_rate

    def charts(
        self,
        batch: Batch,
        request: GenerationConfig,
        source: Source | None,
        beats: Sequence[Beat | None],
        keys: Sequence[Key | None],
    ) -> list[Chart | None]:
        """Say which chords sound when in each clip; None for those that hold none.

        What goes on from a clip goes on with the chords that one was held to; where it was held to
        none no others are found.

        Args:
            batch: the clips.
            request: their orders.
            source: what all go on from.
            beats: of each clip; chords change on beats, so without them there are none.
            keys: of each clip, in which its chords are found; without one they are found in none.
        """
        seeds = batch.seeds_or(request.seed or 0)
        rows = zip(batch.prompts, batch.indices, seeds, beats, keys, strict=True)
        return [
            None if beat is None else self._chart(prompt, index, seed, beat, key, request, source)
            for prompt, index, seed, beat, key in rows
        ]

    def _chart(
        self,
        prompt: str,
        index: int,
        seed: int,
        beat: Beat,
        key: Key | None,
        request: GenerationConfig,
        source: Source | None,
    ) -> Chart | None:
        if self.adapter is None:
            return None
        before = None if source is None else source.held_chart(beat)
        asked, bar = asked_chords(prompt, request), beats_per_bar(prompt, request)
        if not finds_chords(prompt, request):
            if asked is None:
                return None
            again = before is not None and before.progression == asked
            return before if again else Chart(asked, beat, bar)
        if source is not None:
            return before
        found = None if key is None else self.find(prompt, seed, key, index)
        return None if found is None else Chart(found, beat, bar)

    def find(self, prompt: str, seed: int, key: Key, index: int = 0) -> Progression | None:
        """Find chords that go with a prompt, for a variation of a seed; None where it cannot."""
        if self.adapter is None or self._sense is None:
            return None
        return self._sense.choose(meaning_of(self._text, prompt), clip_seed(seed, index), key)

    def lead_sheet(self, charts: Sequence[Chart | None]) -> LeadSheet | None:
        """Make what tells a batch its chords; None where no clip holds any."""
        if self.adapter is None or not any(charts):
            return None
        return LeadSheet(self.adapter, charts, self._frame_rate)

    def describe(self, chart: Chart | None, returning: float) -> dict[str, Any] | None:
        """Say for the settings of a clip which chords it is held to, how, and by what."""
        if chart is None:
            return None
        return {
            "name": chart.progression.name,
            "beats_per_bar": chart.beats_per_bar,
            "passed": chart.passed,
            "returning": returning,
            "sha256": self.sha256,
        }
