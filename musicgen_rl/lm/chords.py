"""Chord conditioning: a frozen language model is told which chord sounds at every frame.

A chord is told as its notes and its root, as a key is told as its notes and its tonic (lm/key.py);
when it changes follows from the beat. What all chords share is left out likewise.

Chords as a condition of every frame beside rhythm and text are MusiConGen's (arXiv:2407.15060).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from musicgen_rl.data.chords import Chord, Progression
from musicgen_rl.lm.beat import Beat, MovingMetronome
from musicgen_rl.lm.told import Course, LinearAdapter

FEATURES = 24
NEAREST_S = 4.0
"""Seconds: what lies nearer is not called back, since it would be a loop."""


def chord_features(chords: Sequence[Chord]) -> Tensor:
    """Describe N chords.

    Returns:
        float32 [N, FEATURES]: which pitch classes sound, which is the root; over all twelve
        transpositions of a chord each sums up to 0.
    """
    features = torch.zeros(len(chords), FEATURES)
    for row, chord in enumerate(chords):
        features[row, list(chord.notes)] = 1.0
        features[row, :12] -= len(chord.notes) / 12
        features[row, 12 + chord.root] = 1.0
    features[:, 12:] -= 1 / 12
    return features


class ChordAdapter(LinearAdapter):
    """From the chord of each frame to what each block of a language model is told.

    Args:
        width: D of the model.
        num_layers: L of the model.
    """

    def __init__(self, width: int, num_layers: int) -> None:
        super().__init__(FEATURES, width, num_layers)

    def forward(self, features: Tensor) -> Tensor:
        """Compute what is added before each block.

        Args:
            features: of the chords that sound, [B, S, FEATURES].

        Returns:
            float32 [L, B, S, D].
        """
        return self.added(features)


@dataclass(frozen=True)
class Chart:
    """Which chords a clip is held to, and when each sounds."""

    progression: Progression
    """Comes round and round."""
    beat: Beat
    """Where its beats fall."""
    beats_per_bar: int = 4
    """Quarter notes."""
    passed: int = 0
    """Beats of it that are over at `beat.first_s`."""

    def sounding(self, first_frame: int, frames: int, frame_rate: float) -> Tensor:
        """Say which chord sounds at each frame; before the first beat it is the first one.

        Args:
            first_frame: frame of the new music; negative before it.
            frames: S.
            frame_rate: frames a second.

        Returns:
            float32 [S, FEATURES].
        """
        places = self.beat.places(first_frame, frames, frame_rate) + self.passed
        bars = places.clamp_min(0.0) / self.beats_per_bar % len(self.progression.bars)
        starts = [
            number + place / len(bar)
            for number, bar in enumerate(self.progression.bars)
            for place in range(len(bar))
        ]
        begun = torch.tensor(starts, dtype=torch.float64)
        told = chord_features([chord for bar in self.progression.bars for chord in bar])
        return told[torch.searchsorted(begun, bars, right=True) - 1]

    def lags(self, first_frame: int, frames: int, frame_rate: float) -> Tensor:
        """Say how many frames ago the same place of the chords was last played.

        Args:
            first_frame: frame of the new music; negative before it.
            frames: S.
            frame_rate: frames a second.

        Returns:
            long [S]; 0 where it is played for the first time.
        """
        bar_s = self.beats_per_bar * 60.0 / self.beat.bpm
        since = torch.tensor(self.progression.since_last(NEAREST_S / bar_s))
        places = (self.beat.places(first_frame, frames, frame_rate) + self.passed) / (
            self.beats_per_bar
        )
        back = since[places.floor().long() % len(since)]
        frames_back = (back * bar_s * frame_rate).round().long()
        return torch.where(places >= back, frames_back, 0)


class LeadSheet:
    """Tells a batch of clips their chords.

    Args:
        adapter: the model's.
        charts: of each of B clips; None is told nothing.
        frame_rate: frames a second.
    """

    def __init__(
        self, adapter: ChordAdapter, charts: Sequence[Chart | None], frame_rate: float
    ) -> None:
        self.adapter, self.charts, self.frame_rate = adapter, tuple(charts), frame_rate

    @torch.no_grad()
    def told(self, first_frame: int, steps: int) -> Tensor:
        """Compute what is added before each block, as `Teller.told`."""
        adapter = self.adapter
        told = torch.zeros(adapter.num_layers, len(self.charts), steps, adapter.width)
        for row, chart in enumerate(self.charts):
            if chart is not None:  # one by one: a row does not depend on its company
                sounding = chart.sounding(first_frame, steps, self.frame_rate)
                told[:, row] = adapter(sounding[None])[:, 0]
        return told

    def lags(self, first_frame: int, steps: int) -> Tensor:
        """Say how many frames ago what each clip comes back to was played, as `Recall.lags`."""
        lags = torch.zeros(len(self.charts), steps, dtype=torch.long)
        for row, chart in enumerate(self.charts):
            if chart is not None:
                lags[row] = chart.lags(first_frame, steps, self.frame_rate)
        return lags


class MovingLeadSheet:
    """Tells one clip its chords, at the tempo of the moment; where no beat is told, none.

    Args:
        adapter: the model's.
        progression: at first; None is told nothing.
        beats_per_bar: quarter notes.
        metronome: of the clip; what it tells is when the chords change.
    """

    def __init__(
        self,
        adapter: ChordAdapter,
        progression: Progression | None,
        beats_per_bar: int,
        metronome: MovingMetronome,
    ) -> None:
        self.adapter, self.metronome, self._beats_per_bar = adapter, metronome, beats_per_bar
        self._course = Course(progression)

    def move(self, frame: int, progression: Progression | None) -> None:
        """Go on with other chords from a frame of the clip; the count of bars goes on."""
        self._course.move(frame, progression)

    @torch.no_grad()
    def told(self, first_frame: int, steps: int) -> Tensor:
        """Compute what is added before each block, as `Teller.told`."""
        adapter, rate = self.adapter, self.metronome.frame_rate
        told = torch.zeros(adapter.num_layers, 1, steps, adapter.width)
        for start, stop, beat in self.metronome.course.spans(first_frame, first_frame + steps):
            for begin, end, progression in self._course.spans(start, stop):
                if beat is None or progression is None:
                    continue
                chart = Chart(progression, beat, self._beats_per_bar)
                sounding = chart.sounding(begin, end - begin, rate)
                told[:, :, begin - first_frame : end - first_frame] = adapter(sounding[None])
        return told

    def lags(self, first_frame: int, steps: int) -> Tensor:
        """Say how many frames ago what comes back was played, as `Recall.lags`.

        Nothing from before its chords or its tempo were others comes back.
        """
        rate, tempi = self.metronome.frame_rate, self.metronome.course
        lags = torch.zeros(1, steps, dtype=torch.long)
        for start, stop, beat in tempi.spans(first_frame, first_frame + steps):
            for begin, end, progression in self._course.spans(start, stop):
                if beat is None or progression is None:
                    continue
                chart = Chart(progression, beat, self._beats_per_bar)
                back = chart.lags(begin, end - begin, rate)
                for since in (tempi.since(begin), self._course.since(begin)):
                    if since is not None:
                        back = torch.where(torch.arange(begin, end) - back >= since, back, 0)
                lags[0, begin - first_frame : end - first_frame] = back
        return lags
