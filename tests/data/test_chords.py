"""Chords are read as musicians write them, named likewise, and told from words."""

import pytest

from musicgen_rl.data.chords import (
    SUFFIXES,
    Chord,
    chords_order,
    named_chords,
    read_chord,
    read_progression,
)
from musicgen_rl.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "root", "notes"),
    [
        ("C", 0, (0, 4, 7)), ("Am", 9, (0, 4, 9)), ("F#dim", 6, (0, 6, 9)),
        ("Bb7", 10, (2, 5, 8, 10)), ("Cb", 11, (3, 6, 11)), ("G/B", 7, (2, 7, 11)),
        ("E♭maj9", 3, (2, 3, 5, 7, 10)),
        ("Dø7", 2, (0, 2, 5, 8)), ("Asus", 9, (2, 4, 9)), ("C+", 0, (0, 4, 8)), ("E5", 4, (4, 11)),
        ("Cm(add9)", 0, (0, 2, 3, 7)), ("F△", 5, None),
    ],
)  # fmt: skip
def test_chords_by_hand(text, root, notes):
    if notes is None:
        with pytest.raises(ConfigError, match="is not a chord"):
            read_chord(text)
        return
    chord = read_chord(text)
    assert (chord.root, chord.notes) == (root, notes)


def test_every_chord_is_read_from_its_own_name():
    for root in range(12):
        for intervals in SUFFIXES.values():
            chord = Chord(root, intervals)
            assert read_chord(chord.name) == chord
    assert Chord(1, SUFFIXES["m7"]).name == "C#m7"
    assert Chord(1, SUFFIXES["maj7"]).name == "Dbmaj7"
    assert Chord(2, (0, 3, 7, 17)).name == "Dm"  # no suffix has these notes


@pytest.mark.parametrize(
    ("text", "name"),
    [("Abm Dbm Eb7", "G#m C#m D#7"), ("Fm C# G# Eb", "Fm Db Ab Eb"), ("Am Bb G#dim", "Am Bb G#dim"),
     ("E Db7", "E C#7"), ("Ebmaj7 Gbm7", "Ebmaj7 Gbm7"), ("F# C#", "F# C#")],
)  # fmt: skip
def test_a_progression_has_sharps_or_flats_as_its_key_has(text, name):
    assert read_progression(text).name == name
    assert read_progression(name) == read_progression(text)


def test_progressions_by_hand():
    each = read_progression("Am F C G")
    assert [len(bar) for bar in each.bars] == [1, 1, 1, 1]
    shared = read_progression("| Am | F G | % | C |")
    assert [[chord.name for chord in bar] for bar in shared.bars] == [
        ["Am"], ["F", "G"], ["F", "G"], ["C"],
    ]  # fmt: skip
    assert each.name == "Am F C G"
    assert shared.name == "Am | F G | F G | C"
    one_bar = read_progression("| Am F |")
    assert [len(bar) for bar in one_bar.bars] == [2]
    for one in (each, shared, one_bar):
        assert read_progression(one.name) == one
    assert read_progression("Em").name == "Em"


@pytest.mark.parametrize(
    ("text", "bars", "name"),
    [
        ("Am F C G x4; F G Em Am×2", 24, "Am F C G x4; F G Em Am x2"),
        ("Am | F G x2 ; C", 5, "Am | F G x2; C"),
        ("Am F x2; % | C ;", 6, "Am F x2; F C"),
        ("| C G | x3", 3, "C G | x3"),
        ("Fm x2; C# Ab", 4, "Fm x2; Db Ab"),
    ],
)  # fmt: skip
def test_sections_are_played_so_often_and_after_each_other(text, bars, name):
    found = read_progression(text)
    assert (len(found.bars), found.name) == (bars, name)
    assert read_progression(name) == found
    rows = [(read_progression(part.split(" x")[0]), part) for part in name.split(";")]
    unrolled = [bar for row, part in rows for bar in row.bars * int((part + " x1").split(" x")[1])]
    assert list(found.bars) == unrolled


@pytest.mark.parametrize(
    ("text", "fewest", "back"),
    [
        ("Am F C G", 1.0, (4, 4, 4, 4)), ("Am F C G", 4.1, (8, 8, 8, 8)),
        ("Am", 1.9, (2,)), ("Am", 2.1, (3,)),
        ("Am F x2; C", 1.0, (3, 3, 2, 2, 5)), ("Am F x2; C", 3.0, (3, 3, 5, 5, 5)),
        ("Am F; C; Am F", 1.0, (2, 2, 5, 3, 3)), ("Am F; F", 1.0, (3, 3, 3)),
    ],
)  # fmt: skip
def test_a_place_was_last_played_where_the_same_section_stood(text, fewest, back):
    assert read_progression(text).since_last(fewest) == back


def test_what_a_clip_does_not_reach_is_left_out():
    song = read_progression("Am F C G x2; F G; Am F C G")
    for bars, name in (
        (0.5, "Am F C G"), (8, "Am F C G"), (8.1, "Am F C G x2; F G"), (10, "Am F C G x2; F G"),
        (10.5, song.name), (99, song.name),
    ):  # fmt: skip
        assert song.within(bars).name == name
    assert read_progression("Am F x2").within(99).name == "Am F"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Am x0", "1 to 64 bars"), ("Am F x33", "1 to 64"), ("C;;D", "1 to 64"), ("x2", "1 to 64"),
        ("C x40; D x25", "1 to 64"), ("C x99999", "'Cx?' is not|'x99999' is not"),
        ("C; D | | E", "bar 3"), (";", "1 to 64"),
        ("", "1 to 64 bars"), (None, "1 to 64 bars"), ("C " * 65, "1 to 64 bars"), ("|", "1 to 64"),
        ("Am H", "'H' is not a chord"), ("Am | | C", "bar 2"), ("% C", "'%' is not"),
        ("C D E F G | A", "bar 1"), ("am f", "'am' is not"), ("Cfoo", "'Cfoo' is not"),
    ],
)  # fmt: skip
def test_what_is_none_is_named(text, said):
    with pytest.raises(ConfigError, match=said):
        read_progression(text)


def test_orders_are_written_in_one_way():
    assert chords_order(" AUTO ") == "auto"
    assert chords_order("None") == "none"
    assert chords_order("A-  Dbm7 G♭") == "Am C#m7 F#"


@pytest.mark.parametrize(
    ("text", "chords"),
    [
        ("pop song, chords Am F C G", "Am F C G"),
        ("jazz, chord progression Dm7 - G7 - Cmaj7", "Dm7 G7 Cmaj7"),
        ("Am, F, C, G chords on a piano", "Am F C G"),
        ("piano (chords: C | Am F | G)", "C | Am F | G"),
        ("the changes are Em7 A7 Dmaj7", "Em7 A7 Dmaj7"),
        ("the chords G D/F# Em C, bright", "G D Em C"),
        ("rock, chords Am F C G x4; F - G x2, loud", "Am F C G x4; F G x2"),
        ("chords Am | F G | x2; C D", "Am | F G x2; C D"), ("chords Am F; x2 and C", "Am F"),
        ("chords Am F x2 4 bars", "Am F x2"), ("verse chords Am F and chorus chords C G", None),
        ("house in A minor", None), ("Am F C G", None), ("long chords of a pad", None),
        ("Chords C and A great melody", None), ("a calm day at A B C", None),
        ("chords Am F, then chords C G", None),
        ("chords Am, F, C and G on a piano", "Am F C G"), ("chords C, G, and F x2", "C G F x2"),
        ("chords Am F and A great melody", "Am F"), ("chords C13 F7b5 G", None),
        ("chords C9 F7sus4 Bm7b5", "C9 F7sus4 Bm7b5"),
    ],
)  # fmt: skip
def test_chords_that_a_text_names(text, chords):
    found = named_chords(text)
    assert (found and found.name) == chords
