"""Progressions have their chords in any key, and chords a key that they are in."""

import pytest

from musicgen_rl.data.chords import read_progression
from musicgen_rl.data.keys import Key, read_key
from musicgen_rl.data.pocket.styles import STYLES
from musicgen_rl.data.progressions import MAJOR, MINOR, PROGRESSIONS, goes_with, in_key, key_of


def test_every_style_of_the_corpus_plays_progressions_that_are_known():
    for style in STYLES.values():
        assert set(style.major) <= set(MAJOR)
        assert set(style.minor) <= set(MINOR)
    assert len(set(PROGRESSIONS)) == len(PROGRESSIONS)


def test_a_progression_on_a_tonic_by_hand():
    assert in_key("I | vi | IV | V7", 9).name == "A F#m D E7"
    assert in_key("i bVII | bVI | iv | V", 2).name == "Dm C | Bb | Gm | A"
    assert goes_with(Key(3, "dorian")) is MINOR
    assert goes_with(Key(3, "mixolydian")) is MAJOR


@pytest.mark.parametrize(
    ("chords", "key"),
    [("Am F C G", "A minor"), ("C G Am F", "C major"), ("Em C G D", "E minor"), ("Bb", "Bb major"),
     ("A7 D7 A7 E7", "A mixolydian"), ("Dm Gm A7 Dm", "D harmonic minor")],
)  # fmt: skip
def test_the_key_of_chords_by_hand(chords, key):
    assert key_of(read_progression(chords)) == read_key(key)


def test_a_key_of_chords_holds_nearly_all_of_their_notes():
    for name in PROGRESSIONS:
        progression = in_key(name, 5)
        notes = [note for bar in progression.bars for chord in bar for note in chord.notes]
        inside = sum(note in key_of(progression).notes for note in notes)
        assert inside / len(notes) > 0.8, name
