"""Progressions have their chords in any key, and those of every style are known."""

from musicgen_rl.data.chords import MAX_BARS, read_progression
from musicgen_rl.data.keys import Key
from musicgen_rl.data.pocket.styles import STYLES
from musicgen_rl.data.progressions import (
    FORMS,
    MAJOR,
    MINOR,
    PROGRESSIONS,
    goes_with,
    in_form,
    in_key,
)


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


def test_sections_of_two_progressions_have_about_sixteen_bars():
    four, eight, twelve = "I | vi | IV | V7", MAJOR[1], MAJOR[29]
    assert in_form(four, "IV | V", "AABA", 0).name == "C Am F G7 x8; F G x8; C Am F G7 x4"
    assert in_form(eight, four, "AB", 2).name == f"{in_key(eight, 2).name} x2; D Bm G A7 x4"
    laid = in_form("IV | V | I", twelve, "ABB", 0)
    assert [len(s.bars) * s.times for s in laid.sections] == [15, 24]
    assert in_form(four, four, "AABA", 7) == in_key(four, 7)


def test_every_form_can_be_written_and_read():
    for first in PROGRESSIONS[::7]:
        for second in PROGRESSIONS:
            for form in FORMS:
                found = in_form(first, second, form, 3)
                assert len(read_progression(found.name).bars) == len(found.bars) <= MAX_BARS
