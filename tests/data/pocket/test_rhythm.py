import pytest

from musicgen_rl.data.pocket.rhythm import (
    GRID_S,
    Hit,
    bars_of,
    fit_bar,
    on_grid,
    read_bar,
    swing_beat,
)


def test_bars_are_split_and_spaces_ignored() -> None:
    assert bars_of("x.x. x.x. | x...") == ["x.x.x.x.", "x..."]


def test_symbols_become_hits_with_their_holds() -> None:
    assert read_bar("C--.c.1-", 4) == [
        Hit(0.0, 1.5, "C"),
        Hit(2.0, 0.5, "c"),
        Hit(3.0, 1.0, "1"),
    ]


def test_the_length_of_the_string_is_the_grid() -> None:
    assert [h.start for h in read_bar("xxxx", 4)] == [0, 1, 2, 3]
    assert [h.start for h in read_bar("xxxxxxxx", 4)][1] == 0.5
    assert read_bar("xxx", 3)[2].start == 2.0


def test_a_bar_of_four_is_cut_for_three_beats() -> None:
    assert fit_bar("abcdefgh", 3) == "abcdef"
    assert fit_bar("abcdef", 3) == "abcdef"
    assert fit_bar("abcdefgh", 4) == "abcdefgh"


@pytest.mark.parametrize(
    ("beat", "position", "unit", "expected"),
    [
        (0.5, 0.5, 1.0, 0.5),
        (0.5, 2 / 3, 1.0, 2 / 3),
        (1.5, 2 / 3, 1.0, 5 / 3),
        (2.0, 2 / 3, 1.0, 2.0),
        (0.75, 2 / 3, 1.0, 5 / 6),
        (0.25, 0.6, 0.5, 0.3),
        (0.5, 0.6, 0.5, 0.5),
    ],
)
def test_swing_moves_the_middle_of_a_pair(
    beat: float, position: float, unit: float, expected: float
) -> None:
    assert swing_beat(beat, position, unit) == pytest.approx(expected)


@pytest.mark.parametrize("bpm", [48.0, 61.0, 97.3, 120.0, 124.0, 190.0])
def test_two_beats_are_a_whole_number_of_frames(bpm: float) -> None:
    tempo = on_grid(bpm)
    frames = 120 / tempo / GRID_S
    assert frames == pytest.approx(round(frames))
    assert tempo == pytest.approx(bpm, rel=0.5 / frames + 0.01)
    assert on_grid(120.0) == 120.0
