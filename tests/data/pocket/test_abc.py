from fractions import Fraction

import pytest

from musicgen_rl.data.pocket.abc import Tune, read_tunes


def read(body: str, key: str = "C", meter: str = "4/4", unit: str = "1/8") -> Tune:
    # Six bars are needed; what follows the bar under test is plain.
    full = Fraction(*map(int, meter.split("/"))) / Fraction(*map(int, unit.split("/")))
    rest = "|".join([f"C{int(full)}"] * 6)
    (tune,) = read_tunes(f"X:1\nT:Test\nM:{meter}\nL:{unit}\nK:{key}\n{body}|{rest}|]\n")
    return tune


def test_notes_have_pitch_and_length() -> None:
    assert read("C2 E2 c2 c'2").bars[0] == (
        (0.0, 1.0, 60), (1.0, 1.0, 64), (2.0, 1.0, 72), (3.0, 1.0, 84),
    )  # fmt: skip


def test_commas_go_down_and_slashes_shorten() -> None:
    assert read("C,4 D/2E/2F/G/ z2").bars[0] == (
        (0.0, 2.0, 48), (2.0, 0.25, 62), (2.25, 0.25, 64), (2.5, 0.25, 65), (2.75, 0.25, 67),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("key", "pitch", "tonic", "mode"),
    [
        ("G", 66, 7, "major"),
        ("F", 65, 5, "major"),
        ("D", 66, 2, "major"),
        ("Em", 66, 4, "minor"),
        ("Ador", 66, 9, "dorian"),
        ("Amix", 66, 9, "mixolydian"),
        ("Bb", 65, 10, "major"),
        ("Cm", 65, 0, "minor"),
    ],
)
def test_the_key_alters_its_notes(key: str, pitch: int, tonic: int, mode: str) -> None:
    tune = read("F8", key=key)
    assert tune.bars[0][0][2] == pitch
    assert (tune.tonic, tune.mode) == (tonic, mode)


def test_flats_of_the_key_apply() -> None:
    assert read("B8", key="F").bars[0][0][2] == 70
    assert read("E8", key="Bb").bars[0][0][2] == 63


def test_an_accidental_lasts_to_the_end_of_the_bar() -> None:
    tune = read("^C4 C4 | C4 =F4", key="C")
    assert [n[2] for n in tune.bars[0]] == [61, 61]
    assert [n[2] for n in tune.bars[1]] == [60, 65]


def test_broken_rhythm_and_triplets() -> None:
    assert read("C>D E<F (3CDE C2").bars[0] == (
        (0.0, 0.75, 60), (0.75, 0.25, 62), (1.0, 0.25, 64), (1.25, 0.75, 65),
        (2.0, pytest.approx(1 / 3), 60), (pytest.approx(2 + 1 / 3), pytest.approx(1 / 3), 62),
        (pytest.approx(2 + 2 / 3), pytest.approx(1 / 3), 64), (3.0, 1.0, 60),
    )  # fmt: skip


def test_decorations_grace_notes_and_chord_names_are_skipped() -> None:
    assert read('"Am"~C4 {de}!trill!.C4').bars[0] == ((0.0, 2.0, 60), (2.0, 2.0, 60))


def test_the_top_of_a_chord_is_kept() -> None:
    assert read("[CEG]8").bars[0] == ((0.0, 4.0, 67),)


def test_an_upbeat_is_joined_to_its_other_half_or_dropped() -> None:
    tune = read("G2 | C8 | C6 :| E2 | D8")
    starts = [[n[2] for n in bar] for bar in tune.bars[:3]]
    assert starts == [[60], [60, 64], [62]]


def test_compound_metres_are_kept_as_printed() -> None:
    tune = read("CDE FGA", meter="6/8")
    assert (tune.numerator, tune.denominator) == (6, 8)
    assert len(tune.bars[0]) == 6


@pytest.mark.parametrize(
    "text",
    [
        "X:1\nT:no key\nM:4/4\nCDEF|\n",
        "X:1\nT:too short\nM:4/4\nL:1/8\nK:C\nC8|D8|\n",
        "X:1\nT:strange metre\nM:none\nL:1/8\nK:C\n" + "C8|" * 8,
        "X:1\nT:strange mode\nM:4/4\nL:1/8\nK:Cphr\n" + "C8|" * 8,
        "X:1\nT:changes key\nM:4/4\nL:1/8\nK:C\n" + "C8|" * 8 + "\nK:G\nG8|\n",
    ],
)
def test_what_it_does_not_understand_is_left_out(text: str) -> None:
    assert list(read_tunes(text)) == []


def test_a_file_holds_many_tunes() -> None:
    one = "X:{}\nT:Tune {}\nM:4/4\nL:1/8\nK:C\n" + "C8|" * 8 + "\n\n"
    tunes = list(read_tunes(one.format(1, 1) + one.format(2, 2)))
    assert [t.title for t in tunes] == ["Tune 1", "Tune 2"]
