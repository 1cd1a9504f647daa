import io

import mido
import pytest

from musicgen_rl.data.pocket.score import Note, Part, Score, score_to_midi, velocity_to_level


def score(*parts: Part, slowdown: float = 0.0) -> Score:
    return Score(120.0, 4, list(parts), num_beats=16.0, slowdown=slowdown)


def messages(midi: bytes) -> list[tuple[int, mido.Message]]:
    """Absolute time in milliseconds and message."""
    file = mido.MidiFile(file=io.BytesIO(midi))
    assert file.ticks_per_beat == 500
    now, found = 0, []
    for message in file.tracks[0]:
        now += message.time
        found.append((now, message))
    return found


def ons(midi: bytes, channel: int) -> list[tuple[int, int, int]]:
    return [
        (t, m.note, m.velocity)
        for t, m in messages(midi)
        if m.type == "note_on" and m.channel == channel and m.note > 0
    ]


def test_notes_come_at_their_time() -> None:
    part = Part("lead", "piano", 0, [Note(1.0, 0.5, 60, 90), Note(2.0, 1.0, 64, 80, shift_s=0.02)])
    midi = score_to_midi(score(part), lead_in_s=0.1)
    assert ons(midi, 0) == [(600, 60, 90), (1120, 64, 80)]
    offs = [(t, m.note) for t, m in messages(midi) if m.type == "note_off" and m.note > 0]
    assert offs == [(850, 60), (1620, 64)]


def test_drums_have_their_channel_and_others_avoid_it() -> None:
    parts = [Part("pad", "strings", 48, [Note(0, 1, 60, 80)]) for _ in range(11)]
    parts.append(Part("drums", "standard", 8, [Note(0, 1, 36, 100)]))
    found = messages(score_to_midi(score(*parts)))
    programs = [(m.channel, m.program) for _, m in found if m.type == "program_change"]
    assert programs[:11] == [(c, 48) for c in (0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 11)]
    assert programs[11] == (9, 8)


def test_a_repeated_note_ends_before_it_starts_again() -> None:
    part = Part("lead", "piano", 0, [Note(0, 4, 60, 80), Note(1, 1, 60, 80)])
    state: set[int] = set()
    for _, m in messages(score_to_midi(score(part))):
        if m.type == "note_on" and m.channel == 0:
            assert m.note not in state
            state.add(m.note)
        elif m.type == "note_off" and m.channel == 0:
            state.discard(m.note)


def test_the_same_note_twice_at_once_sounds_once() -> None:
    part = Part("lead", "piano", 0, [Note(0, 1, 60, 80), Note(0, 2, 60, 70)])
    assert len(ons(score_to_midi(score(part)), 0)) == 1


def test_the_tail_is_as_long_as_asked() -> None:
    part = Part("lead", "piano", 0, [Note(0, 1, 60, 80)])
    midi = score_to_midi(score(part), lead_in_s=0.0, tail_s=3.0)
    assert messages(midi)[-2][0] == pytest.approx(8000 + 3000, abs=2)


def test_slowing_down_touches_only_the_last_two_bars() -> None:
    straight, slowing = score(), score(slowdown=0.5)
    assert slowing.time_of(8.0) == straight.time_of(8.0) == 4.0
    # Half of the slowdown, integrated over the eight beats of the ramp: 8 * 0.5 / 2 beats more.
    assert slowing.duration_s == pytest.approx(8.0 + 1.0)
    assert straight.duration_s == pytest.approx(8.0)


def test_gain_becomes_channel_volume() -> None:
    assert velocity_to_level(0.0) == 72
    assert velocity_to_level(-12.0) == pytest.approx(36, abs=1)  # 40 log10(1/2) = -12 dB
    assert velocity_to_level(40.0) == 127
