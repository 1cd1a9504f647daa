import pytest

from musicgen_rl.data.keys import MODES
from musicgen_rl.data.pocket.styles import STYLES
from musicgen_rl.data.pocket.theory import (
    Chord,
    family,
    nearest,
    parse_chord,
    parse_progression,
    pitches_between,
    scale_over,
    voice_chord,
)

C, G, A = 0, 7, 9


@pytest.mark.parametrize(
    ("text", "tonic", "classes"),
    [
        ("I", C, (0, 4, 7)),
        ("V7", C, (7, 11, 2, 5)),  # G B D F
        ("ii7", C, (2, 5, 9, 0)),  # D F A C
        ("bVII", C, (10, 2, 5)),  # Bb D F
        ("i", A, (9, 0, 4)),  # A C E
        ("bVImaj7", A, (5, 9, 0, 4)),  # F A C E
        ("vii0", C, (11, 2, 5)),
        ("iih7", A, (11, 2, 5, 9)),  # B D F A
        ("IV5", G, (0, 7)),
        ("V7sus4", C, (7, 0, 2, 5)),
        ("I9", C, (0, 4, 7, 10, 2)),
    ],
)
def test_roman_numerals_name_the_right_notes(
    text: str, tonic: int, classes: tuple[int, ...]
) -> None:
    assert parse_chord(text).pitch_classes(tonic) == classes


@pytest.mark.parametrize("text", ["", "H", "Ix", "VIII", "C7"])
def test_other_text_is_not_a_chord(text: str) -> None:
    with pytest.raises(ValueError, match="chord"):
        parse_chord(text)


def test_bars_and_their_chords_are_split() -> None:
    bars = parse_progression("I | IV V | i5")
    assert [len(bar) for bar in bars] == [1, 2, 1]
    assert bars[1][1].root == 7


def test_a_mode_belongs_to_its_third() -> None:
    assert {m: family(m) for m in MODES} == {
        "major": "major", "lydian": "major", "mixolydian": "major", "minor": "minor",
        "dorian": "minor", "phrygian": "minor", "harmonic minor": "minor",
    }  # fmt: skip


def test_the_dominant_of_a_minor_key_raises_the_seventh() -> None:
    over_tonic = scale_over(A, MODES["minor"], parse_chord("i"))
    over_dominant = scale_over(A, MODES["minor"], parse_chord("V"))
    assert 7 in over_tonic  # G
    assert 8 not in over_tonic
    assert 8 in over_dominant  # G sharp
    assert 7 not in over_dominant


def test_pitches_lie_in_the_range() -> None:
    assert pitches_between((0, 4), 59, 72) == [60, 64, 72]
    assert nearest([60, 64, 72], 69) == 72
    assert nearest([60, 62], 61) == 60


def test_voicings_hold_the_chord_and_move_little() -> None:
    first = voice_chord(parse_chord("I"), C, 60, (), 3)
    second = voice_chord(parse_chord("IV"), C, 60, first, 3)
    assert {p % 12 for p in first} == {0, 4, 7}
    assert {p % 12 for p in second} == {5, 9, 0}
    assert sum(abs(a - b) for a, b in zip(first, second, strict=True)) <= 5
    assert abs(sum(first) / 3 - 60) < 4


def test_a_voicing_follows_its_center_and_size() -> None:
    low = voice_chord(parse_chord("V7"), C, 50, (), 4)
    high = voice_chord(parse_chord("V7"), C, 70, (), 4)
    assert sum(high) - sum(low) > 60
    assert len(voice_chord(parse_chord("I"), C, 60, (), 5)) == 5


def test_too_small_a_voicing_keeps_third_and_seventh() -> None:
    shell = voice_chord(parse_chord("V7"), C, 60, (), 2)
    assert {p % 12 for p in shell} == {11, 5}


@pytest.mark.parametrize("name", STYLES)
def test_every_progression_of_every_style_can_be_read(name: str) -> None:
    style = STYLES[name]
    for text in style.major + style.minor:
        bars = parse_progression(text)
        assert all(isinstance(chord, Chord) for bar in bars for chord in bar)
    for mode in style.modes:
        assert style.major or family(mode) == "minor"
