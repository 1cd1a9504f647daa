import random
from dataclasses import replace

import pytest

from musicgen_rl.data.keys import KEY_NAMES
from musicgen_rl.data.pocket import arrange as arranging
from musicgen_rl.data.pocket.abc import Tune
from musicgen_rl.data.pocket.arrange import TUNE_STYLES, arrange, draw_tune
from musicgen_rl.data.pocket.score import Note
from musicgen_rl.data.pocket.styles import STYLES
from musicgen_rl.data.pocket.theory import parse_chord
from musicgen_rl.data.pocket.tunes import (
    Borrowed,
    harmonize,
    identities,
    lay_out,
    opening,
    plain_title,
)


def bar(*pitches: int, length: float = 1.0) -> tuple[tuple[float, float, int], ...]:
    return tuple((i * length, length, p) for i, p in enumerate(pitches))


def tune(title: str, *bars: tuple[tuple[float, float, int], ...], meter: str = "4/4") -> Tune:
    top, bottom = map(int, meter.split("/"))
    return Tune(title, top, bottom, 0, "major", bars)


# C | F | G | C: tones of one chord a bar
PLAIN = tune("Plain", bar(60, 64, 67, 72), bar(65, 69, 72, 69), bar(67, 71, 74, 71),
             bar(72, 67, 64, 60), bar(60, 64, 67, 72), bar(65, 69, 72, 69), bar(67, 71, 74, 71),
             bar(72, 67, 64, 60))  # fmt: skip


def laid(source: Tune = PLAIN) -> Borrowed:
    found = lay_out(source, "id")
    assert found is not None
    return found


def test_plain_harmony_is_found() -> None:
    roots = [chords[0].root for chords in harmonize(laid())]
    assert roots == [0, 5, 7, 0, 0, 5, 7, 0]


def test_the_last_bar_has_the_tonic_whatever_the_melody() -> None:
    last = replace(laid(), bars=(*laid().bars[:-1], laid().bars[2]))
    assert harmonize(last)[-1][0] == parse_chord("I")


def test_harmony_follows_the_key() -> None:
    up = replace(
        laid(),
        tonic=2,
        bars=tuple(tuple(replace(n, pitch=n.pitch + 2) for n in b) for b in laid().bars),
    )
    assert harmonize(up) == harmonize(laid())


def test_two_bars_of_two_become_one_of_four() -> None:
    found = laid(tune("r", bar(60, 62), bar(64, 65), bar(67, 69), meter="2/4"))
    assert found.beats == 4
    assert [n.start for n in found.bars[0]] == [0, 1, 2, 3]
    assert len(found.bars) == 2


def test_a_jig_gets_triplets() -> None:
    jig = tune("j", bar(60, 62, 64, 65, 67, 69, length=0.5), bar(72, 72, length=1.5), meter="6/8")
    found = laid(jig)
    assert (found.beats, found.triplets) == (4, True)
    assert [n.start for n in found.bars[0]][:4] == pytest.approx([0, 1 / 3, 2 / 3, 1])
    assert found.bars[0][-1].start == pytest.approx(3.0)


def test_three_four_stays_and_five_does_not_fit() -> None:
    assert laid(tune("w", bar(60, 62, 64), meter="3/4")).beats == 3
    assert lay_out(tune("f", bar(60, 62, 64, 65, 67), meter="5/4"), "id") is None


def test_versions_of_a_tune_share_an_identity() -> None:
    transposed = tune("Another name", *(tuple((s, d, p + 5) for s, d, p in b) for b in PLAIN.bars))
    same_title = tune("The PLAIN -- Reel", bar(60, 60, 60, 61), bar(50, 40, 60, 70))
    other = tune("Other", bar(60, 61, 66, 60), bar(71, 62, 63, 64))
    a, b, c, d = identities([PLAIN, transposed, same_title, other])
    assert a == b == c
    assert d != a


def test_titles_are_folded() -> None:
    assert plain_title("The Soldier's Joy -- HORNPIPE") == plain_title("Soldiers Joy")
    assert opening(PLAIN).startswith("4,3,5,")


@pytest.mark.parametrize("name", ["folk", "solo piano", "chiptune", "orchestral"])
def test_an_arrangement_keeps_the_melody(name: str) -> None:
    piece = arrange(laid(), STYLES[name], random.Random(3), duration_s=30)
    tonic = KEY_NAMES.index(piece.key)
    lead = next(p for p in piece.score.parts if p.role == "lead")
    skyline: dict[float, int] = {}
    for n in lead.notes:
        at = round(n.start, 2)
        skyline[at] = max(skyline.get(at, 0), n.pitch)
    melody = [(skyline[t] - tonic) % 12 for t in sorted(skyline)]
    expected = [p % 12 for b in PLAIN.bars for _, _, p in b]
    assert melody[:28] == expected[:28]
    assert piece.tune == "Plain"
    assert piece.identity == "id"


def test_an_arrangement_is_the_same_for_the_same_chance() -> None:
    a = arrange(laid(), STYLES["folk"], random.Random(1), duration_s=30)
    b = arrange(laid(), STYLES["folk"], random.Random(1), duration_s=30)
    assert a.score == b.score


def test_triplet_tunes_do_not_swing_twice() -> None:
    source = replace(
        laid(),
        triplets=True,
        bars=tuple((Note(0, 1 / 3, 60, 80), Note(1 / 3, 1 / 3, 62, 80)) for _ in range(8)),
    )
    piece = arrange(source, STYLES["chiptune"], random.Random(1), duration_s=20)
    lead = next(p for p in piece.score.parts if p.role == "lead")
    places = {round(n.start % 1, 2) for n in lead.notes}
    assert places <= {0.0, 0.33}


def test_a_tune_gets_a_style_of_its_metre(monkeypatch: pytest.MonkeyPatch) -> None:
    waltz = laid(tune("w", *([bar(60, 62, 64)] * 8), meter="3/4"))
    monkeypatch.setattr(arranging, "library", lambda: (waltz,))
    styles = {draw_tune(random.Random(i))[1].name for i in range(60)}
    assert "waltz" in styles
    assert "rock" not in styles
    assert styles <= set(TUNE_STYLES)
