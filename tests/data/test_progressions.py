"""Progressions have their chords in any key, and those of every style are known."""

from musicgen_rl.data.keys import Key
from musicgen_rl.data.pocket.styles import STYLES
from musicgen_rl.data.progressions import MAJOR, MINOR, PROGRESSIONS, goes_with, in_key


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
