"""Keys are read from prompts as people write them, and nothing else is taken for one."""

import pytest

from musicgen_rl.data.keys import KEY_NAMES, MODES, Key, key_order, named_key, read_key, stated_key
from musicgen_rl.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("house, in D minor", "D minor"), ("in Bb minor", "Bb minor"), ("in C# minor", "C# minor"),
        ("It is in Db minor.", "C# minor"), ("a waltz, bb minor, slow", "Bb minor"),
        ("E flat major", "Eb major"), ("b-flat minor sonata", "Bb minor"),
        ("C-sharp minor", "C# minor"), ("A♭ major", "Ab major"), ("F♯ major", "F# major"),
        ("key of F#", "F# major"), ("the key of D, sad", "D major"), ("key: G major", "G major"),
        ("key of D sharp minor", "Eb minor"), ("key of E major", "E major"),
        ("in the key of A minor", "A minor"), ("piano in A minor", "A minor"),
        ("piano in a minor", "A minor"), ("A major", "A major"), ("in Am", "A minor"),
        ("F#m ballad", "F# minor"), ("Ebm groove", "Eb minor"), ("in D min. slow", "D minor"),
        ("in Gmaj", "G major"), ("d dorian", "D dorian"), ("D harmonic minor", "D harmonic minor"),
        ("D natural minor", "D minor"), ("from F min to F minor", "F minor"),
        ("Cb major", "B major"), ("E# minor", "F minor"),
    ],
)  # fmt: skip
def test_a_key_is_read(text, name):
    assert named_key(text).name == name


@pytest.mark.parametrize(
    "text",
    [
        "", "house", "a minor key waltz", "A minor key waltz", "in a minor key", "a major hit",
        "in a minor mood", "I Am happy", "AM radio", "jazz in Cmaj7", "Abm7 chords", "big minor",
        "key of A-town", "D minor and F major", "minor key", "vitamins A, B and C", "3b minor",
    ],
)  # fmt: skip
def test_no_key_is_read(text):
    assert named_key(text) is None


def test_every_key_comes_back_from_its_name():
    for tonic in range(12):
        for scale in MODES:
            key = Key(tonic, scale)
            assert read_key(key.name) == named_key(f"music in {key.name}") == key
            assert key_order(f" {key.name.upper()} ") == key.name


def test_notes_by_hand():
    assert Key(9, "minor").notes == (9, 11, 0, 2, 4, 5, 7)
    assert set(Key(9, "minor").notes) == set(Key(0, "major").notes)
    assert [KEY_NAMES[n] for n in Key(2, "dorian").notes] == ["D", "E", "F", "G", "A", "B", "C"]


def test_orders_are_written_in_one_way():
    assert [key_order(t) for t in ("None", " none", "AUTO", "dm", "D  MIN", "a flat major")] == [
        "none", "none", "auto", "D minor", "D minor", "Ab major",
    ]  # fmt: skip


@pytest.mark.parametrize("text", ["", "H moll", "D", "minor", "sad", "D minor, please", 7, True])
def test_what_is_no_key_is_refused(text):
    with pytest.raises(ConfigError, match="key must be a note and a scale, such as 'D minor'"):
        key_order(text)


@pytest.mark.parametrize(
    ("facts", "key"),
    [
        ({"key": "D", "mode": "minor", "scale": "dorian"}, Key(2, "dorian")),
        ({"key": "D", "mode": "minor"}, Key(2, "minor")),
        ({"key": "Bb minor"}, Key(10, "minor")),
        ({"key": "F#", "mode": "major", "scale": "odd"}, Key(6, "major")),
        ({}, None), ({"key": "D"}, None), ({"mode": "minor"}, None), ({"key": 3}, None),
    ],
)  # fmt: skip
def test_keys_are_read_from_attributes(facts, key):
    assert stated_key(facts) == key
