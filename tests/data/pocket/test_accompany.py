import random
from dataclasses import replace

import pytest

from musicgen_rl.data.keys import MODES
from musicgen_rl.data.pocket.accompany import write_bass, write_chords, write_drums
from musicgen_rl.data.pocket.instruments import DRUM_KEYS
from musicgen_rl.data.pocket.score import Note
from musicgen_rl.data.pocket.style import Groove, Layer
from musicgen_rl.data.pocket.theory import parse_progression

LAYER = Layer(role="chords", instruments=("piano",), gate=1.0)
BASS = Layer(role="bass", instruments=("bass guitar",), center=40, gate=1.0)
GROOVE = Groove(hits={"kick": "X.x.", "snare": ".X.o"}, fill="snare")


def chords(pattern: str, progression: str = "I | IV", **changes: object) -> list[Note]:
    options: dict[str, object] = {"tonic": 0, "beats": 4, "center": 60, "level": 1.0}
    layer = changes.pop("layer", LAYER)
    return write_chords(
        random.Random(0), layer, pattern, harmony=parse_progression(progression),
        **{**options, **changes},
    )  # type: ignore[arg-type]  # fmt: skip


def bass(pattern: str, progression: str = "I | IV", seed: int = 0, low: int = 28) -> list[Note]:
    return write_bass(
        random.Random(seed), BASS, pattern, harmony=parse_progression(progression), tonic=0,
        beats=4, scale=MODES["major"], low=low, level=1.0,
    )  # fmt: skip


def drums(**changes: object) -> list[Note]:
    options: dict[str, object] = {"num_bars": 2, "beats": 4, "level": 1.0, "fill_last": False}
    groove = changes.pop("groove", GROOVE)
    return write_drums(random.Random(0), groove, **{**options, **changes})  # type: ignore[arg-type]


def test_each_bar_holds_its_chord() -> None:
    notes = chords("C---")
    first = {n.pitch % 12 for n in notes if n.start < 4}
    second = {n.pitch % 12 for n in notes if n.start >= 4}
    assert (first, second) == ({0, 4, 7}, {5, 9, 0})


def test_a_pad_follows_two_chords_in_a_bar() -> None:
    notes = chords("C---", "I V", layer=replace(LAYER, role="pad"))
    assert {n.pitch % 12 for n in notes if n.start == 2.0} == {7, 11, 2}


def test_digits_are_chord_tones_from_below() -> None:
    notes = chords("0123", "I")
    pitches = [n.pitch for n in notes]
    assert pitches == sorted(pitches)
    assert pitches[3] == pitches[0] + 12


def test_soft_chords_are_softer() -> None:
    loud, soft = chords("C...", "I"), chords("c...", "I")
    assert max(n.velocity for n in soft) < min(n.velocity for n in loud)


def test_strums_roll_and_go_both_ways() -> None:
    down = sorted(chords("D...", "I"), key=lambda n: n.shift_s)
    up = sorted(chords("U...", "I"), key=lambda n: n.shift_s)
    assert down[0].pitch < down[-1].pitch
    assert up[0].pitch > up[-1].pitch
    assert down[-1].shift_s > 0


def test_roots_and_fifths_lie_below_the_chord() -> None:
    root, fifth = chords("B.F.", "I")
    assert root.pitch % 12 == 0
    assert fifth.pitch % 12 == 7
    assert max(root.pitch, fifth.pitch) < 60


@pytest.mark.parametrize(
    ("symbol", "pitch_class"), [("1", 7), ("5", 2), ("3", 11), ("8", 7), ("L", 2), ("7", 5)]
)
def test_bass_symbols_are_tones_of_the_chord(symbol: str, pitch_class: int) -> None:
    (note,) = bass(f"{symbol}---", "V7")
    assert note.pitch % 12 == pitch_class


def test_the_octave_is_above_and_the_low_fifth_below_the_root() -> None:
    root, octave, low = bass("18L.", "I")
    assert octave.pitch == root.pitch + 12
    assert low.pitch == root.pitch - 5


@pytest.mark.parametrize("seed", range(5))
def test_a_walk_starts_on_the_root_and_approaches_the_next(seed: int) -> None:
    notes = bass("WWWW", "I | IV", seed=seed)
    assert [n.pitch % 12 for n in notes if n.start in (0, 4)] == [0, 5]
    approach = next(n for n in notes if n.start == 3)
    following = next(n for n in notes if n.start == 4)
    assert 1 <= abs(approach.pitch - following.pitch) <= 2


def test_the_bass_never_goes_below_its_instrument() -> None:
    assert min(n.pitch for s in range(5) for n in bass("1LAW", "I | bVII", seed=s, low=34)) >= 34


def test_ghost_notes_are_short_and_soft() -> None:
    normal, ghost = bass("1-r-", "I")
    assert ghost.duration < normal.duration / 2
    assert ghost.velocity < normal.velocity


def test_drums_hit_where_the_string_says() -> None:
    kicks = [n.start for n in drums() if n.pitch == DRUM_KEYS["kick"]]
    snares = [n.start for n in drums() if n.pitch == DRUM_KEYS["snare"]]
    assert kicks == [0, 2, 4, 6]
    assert snares == [1, 3, 5, 7]


def test_accents_and_ghosts_differ() -> None:
    loud = {n.start: n.velocity for n in drums() if n.pitch == DRUM_KEYS["snare"]}
    assert loud[1] > loud[3] + 30


def test_a_fill_replaces_the_end_of_the_last_bar() -> None:
    notes = drums(fill_last=True)
    ending = [n for n in notes if n.start >= 6 and n.pitch != DRUM_KEYS["kick"]]
    assert len(ending) > 3
    assert {n.pitch for n in ending} & {DRUM_KEYS[t] for t in ("tom1", "tom2", "tom3")}


def test_drums_can_be_left_out_and_crashed() -> None:
    assert all(n.pitch != DRUM_KEYS["snare"] for n in drums(leave_out=("snare",)))
    assert not any(n.pitch == DRUM_KEYS["crash"] for n in drums())
    assert any(n.pitch == DRUM_KEYS["crash"] and n.start == 0 for n in drums(crash=True))


def test_doubtful_hits_come_half_of_the_time() -> None:
    groove = Groove(hits={"kick": "????????"}, fill="none")
    count = len(drums(groove=groove, num_bars=50))
    assert 150 < count < 250
