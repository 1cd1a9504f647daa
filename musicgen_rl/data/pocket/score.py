"""Notes, parts and scores, and their way to a MIDI file."""

import io
from dataclasses import dataclass, field

import mido

DRUM_CHANNEL = 9
TICKS_PER_SECOND = 1000
LEAD_IN_S = 0.05
"""Silence before the first beat."""


@dataclass(frozen=True)
class Note:
    """One note of a part."""

    start: float
    """Beats (quarter notes) from the beginning."""
    duration: float
    """Beats."""
    pitch: int
    """MIDI pitch, or key of the drum channel."""
    velocity: int
    """1 to 127."""
    shift_s: float = 0.0
    """Seconds early (negative) or late, as people play; a roll of a strummed chord too."""


@dataclass
class Part:
    """What one player plays."""

    role: str
    """lead, counter, chords, pad, arp, bass or drums."""
    instrument: str
    """Name in INSTRUMENTS, or of a drum kit."""
    program: int
    """General MIDI program."""
    notes: list[Note] = field(default_factory=list)
    """In any order."""
    gain_db: float = 0.0
    """Level in the mix."""
    pan: int = 64
    """MIDI pan; the renders are folded to mono, so it only decorrelates."""

    @property
    def is_drums(self) -> bool:
        """Whether the part plays on the drum channel."""
        return self.role == "drums"


@dataclass
class Score:
    """A whole piece before it is rendered."""

    tempo_bpm: float
    """Quarter notes a minute."""
    beats_per_bar: int
    """Quarter notes a bar."""
    parts: list[Part]
    """At most 15 melodic parts and one of drums."""
    num_beats: float
    """Length without the tail."""
    slowdown: float = 0.0
    """How much the last two bars slow down: 0.3 is 30 % at the very end."""

    @property
    def seconds_per_beat(self) -> float:
        """Seconds of a beat before any slowing."""
        return 60.0 / self.tempo_bpm

    def time_of(self, beat: float) -> float:
        """Seconds at which `beat` falls."""
        ramp = 2.0 * self.beats_per_bar
        start = self.num_beats - ramp
        extra = 0.0
        if self.slowdown and beat > start:
            extra = self.slowdown * (beat - start) ** 2 / (2 * ramp)
        return (beat + extra) * self.seconds_per_beat

    @property
    def duration_s(self) -> float:
        """Length in seconds without the tail."""
        return self.time_of(self.num_beats)


def velocity_to_level(gain_db: float) -> int:
    """Convert a gain in dB to channel volume (General MIDI: 40 log10(v / 127)), 0 dB = 72."""
    return max(1, min(127, round(72 * 10 ** (gain_db / 40))))


def score_to_midi(score: Score, *, lead_in_s: float = LEAD_IN_S, tail_s: float = 2.5) -> bytes:
    """Write a score as a single-track MIDI file in absolute time.

    Args:
        score: what to write.
        lead_in_s: silence before the first beat.
        tail_s: time left to ring after the last beat.

    Returns:
        Bytes of a standard MIDI file whose tick is one millisecond.
    """
    events: list[tuple[int, int, mido.Message]] = []
    channel = 0
    for part in score.parts:
        if part.is_drums:
            number = DRUM_CHANNEL
        else:
            channel += channel == DRUM_CHANNEL
            number, channel = channel, channel + 1
        for control, value in (
            (7, velocity_to_level(part.gain_db)),
            (10, part.pan),
            (91, 0),
            (93, 0),
        ):
            message = mido.Message("control_change", channel=number, control=control, value=value)
            events.append((0, 0, message))
        events.append((0, 1, mido.Message("program_change", channel=number, program=part.program)))
        events += _note_events(score, part, number, lead_in_s)
    end = round((lead_in_s + score.duration_s + tail_s) * TICKS_PER_SECOND)
    track = mido.MidiTrack()
    track.append(mido.MetaMessage("set_tempo", tempo=500_000, time=0))
    now = 0
    for tick, _, message in sorted(events, key=lambda e: (e[0], e[1])):
        track.append(message.copy(time=tick - now))
        now = tick
    # An inaudible note holds the renderer until the tail has rung out.
    hold = {"channel": 15, "note": 0}
    track.append(mido.Message("note_on", velocity=1, time=max(0, end - now), **hold))
    track.append(mido.Message("note_off", velocity=0, time=1, **hold))
    midi = mido.MidiFile(type=0, ticks_per_beat=TICKS_PER_SECOND // 2)
    midi.tracks.append(track)
    out = io.BytesIO()
    midi.save(file=out)
    return out.getvalue()


def _note_events(
    score: Score, part: Part, channel: int, lead_in_s: float
) -> list[tuple[int, int, mido.Message]]:
    """Note-on and note-off events of a part; a repeated pitch ends before it starts again."""
    spans: list[list[int]] = []
    last: dict[int, int] = {}
    for note in sorted(part.notes, key=lambda n: (n.start, n.pitch)):
        on = lead_in_s + score.time_of(note.start) + note.shift_s
        off = lead_in_s + score.time_of(note.start + note.duration) + note.shift_s
        a = max(0, round(on * TICKS_PER_SECOND))
        b = max(a + 20, round(off * TICKS_PER_SECOND))
        if note.pitch in last:
            before = spans[last[note.pitch]]
            if a <= before[0] + 10:  # the same key twice at once
                continue
            before[1] = min(before[1], a - 4)
        last[note.pitch] = len(spans)
        spans.append([a, b, note.pitch, max(1, min(127, note.velocity))])
    events = []
    for a, b, pitch, velocity in spans:
        on_message = mido.Message("note_on", channel=channel, note=pitch, velocity=velocity)
        off_message = mido.Message("note_off", channel=channel, note=pitch, velocity=0)
        events += [(a, 3, on_message), (b, 2, off_message)]
    return events
