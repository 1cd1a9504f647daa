"""What is told of a piece's chords is what its players play."""

import random
from itertools import pairwise

import pytest

from musicgen_rl.data.chords import read_chord
from musicgen_rl.data.keys import KEY_NAMES
from musicgen_rl.data.pocket.arrange import arrange
from musicgen_rl.data.pocket.attributes import describe
from musicgen_rl.data.pocket.compose import Piece, compose
from musicgen_rl.data.pocket.score import LEAD_IN_S
from musicgen_rl.data.pocket.styles import STYLES
from musicgen_rl.data.pocket.tunes import library
from musicgen_rl.data.progressions import in_key


def chord_notes(piece: Piece) -> list[tuple[float, int]]:
    """List (start in seconds, pitch class) of what players of chords play."""
    score = piece.score
    return [
        (LEAD_IN_S + score.time_of(round(note.start * 4) / 4), note.pitch % 12)
        for part in score.parts
        if part.role in ("chords", "pad", "arp")
        for note in part.notes
    ]


def sounding(chords: list[list[object]], seconds: float) -> set[int]:
    names = [name for start, name in chords if float(str(start)) <= seconds + 0.02]
    return set(read_chord(str(names[-1])).notes)


@pytest.mark.parametrize("style", ["pop", "jazz", "rock", "trance", "waltz", "blues", "tango"])
def test_players_of_chords_play_the_chords_that_are_told(style: str) -> None:
    for seed in range(3):
        piece = compose(STYLES[style], random.Random(f"{style}/{seed}"), duration_s=30)
        facts = describe(piece)
        notes = chord_notes(piece)
        inside = sum(pitch in sounding(facts["chords"], start) for start, pitch in notes)
        assert inside >= 0.95 * len(notes)


def test_a_borrowed_tune_tells_its_chords_and_no_progression() -> None:
    tune = library()[0]
    piece = arrange(tune, STYLES["folk"], random.Random(1), duration_s=25)
    facts = describe(piece)
    assert "progression" not in facts
    notes = chord_notes(piece)
    assert sum(pitch in sounding(facts["chords"], start) for start, pitch in notes) >= (
        0.95 * len(notes)
    )


def test_the_chart_begins_with_the_progression_and_ends_at_home() -> None:
    piece = compose(STYLES["pop"], random.Random(5), duration_s=30, shift=3)
    facts = describe(piece)
    tonic = KEY_NAMES.index(piece.key)
    bars = [bar[0].name for bar in in_key(facts["progression"], tonic).bars]
    told = [name for _, name in facts["chords"]]
    assert told[: len(bars)] == bars
    starts = [start for start, _ in facts["chords"]]
    bar_s = piece.score.beats_per_bar * facts["beat_s"]
    assert starts[:2] == [LEAD_IN_S, pytest.approx(LEAD_IN_S + bar_s, abs=0.01)]
    assert starts == sorted(set(starts))
    assert read_chord(told[-1]).root == tonic
    assert all(a != b for a, b in pairwise(told))  # one that stays is told once


def test_the_chords_of_another_key_are_the_same_chords_moved() -> None:
    def roots(shift: int) -> list[int]:
        piece = compose(STYLES["pop"], random.Random(5), duration_s=30, shift=shift)
        return [chord.root for _, chord in piece.chords]

    assert roots(5) == [(root + 5) % 12 for root in roots(0)]
