import random
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from musicgen_rl.data.keys import KEY_NAMES
from musicgen_rl.data.pocket import voices as voicing
from musicgen_rl.data.pocket.instruments import INSTRUMENTS
from musicgen_rl.data.pocket.musicxml import Bar, Work, read_musicxml
from musicgen_rl.data.pocket.styles import STYLES
from musicgen_rl.data.pocket.voices import (
    ENSEMBLES,
    WEIGHTS,
    Excerpt,
    cut,
    draw_voices,
    find_key,
    score_voices,
)
from musicgen_rl.errors import InputError

MEASURES = """
<measure><attributes><divisions>2</divisions><time><beats>4</beats><beat-type>4</beat-type></time>
</attributes>
<note><grace/><pitch><step>A</step><octave>4</octave></pitch></note>
<note><pitch><step>C</step><octave>4</octave></pitch><duration>2</duration></note>
<note><chord/><pitch><step>E</step><octave>4</octave></pitch><duration>2</duration></note>
<note><rest/><duration>2</duration></note>
<note><pitch><step>F</step><alter>1</alter><octave>4</octave></pitch><duration>4</duration>
<tie type="start"/></note>
<backup><duration>8</duration></backup>
<note><pitch><step>C</step><octave>3</octave></pitch><duration>8</duration></note></measure>
<measure><note><pitch><step>F</step><alter>1</alter><octave>4</octave></pitch>
<duration>2</duration><tie type="stop"/></note></measure>
"""


def write_mxl(path: Path, parts: list[str]) -> Path:
    body = "".join(f"<part>{p}</part>" for p in parts)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("META-INF/container.xml", "<container/>")
        archive.writestr("score.xml", f"<score-partwise>{body}</score-partwise>")
    return path


def test_notes_chords_ties_and_bars_are_read(tmp_path: Path) -> None:
    work = read_musicxml(write_mxl(tmp_path / "a.mxl", [MEASURES]))
    assert work.parts[0] == ((0.0, 1.0, 60), (0.0, 1.0, 64), (0.0, 4.0, 48), (2.0, 3.0, 66))
    assert work.bars == (Bar(0.0, 4.0, 4, 4), Bar(4.0, 1.0, 4, 4))
    assert [b.is_full for b in work.bars] == [True, False]


def test_another_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.mxl").write_bytes(b"not a zip")
    with pytest.raises(InputError, match="not compressed MusicXML"):
        read_musicxml(tmp_path / "a.mxl")


def chorale(bars: int = 16, meter: int = 4, parts: int = 4) -> Work:
    """Build C F G C in whole chords, a bar each."""
    chords = [(72, 67, 64, 48), (72, 69, 65, 53), (71, 67, 62, 55), (72, 67, 64, 48)]
    return Work(
        tuple(Bar(float(meter * i), float(meter), meter, 4) for i in range(bars)),
        tuple(
            tuple((float(meter * i), float(meter), chords[i % 4][v]) for i in range(bars))
            for v in range(parts)
        ),
    )


def excerpt() -> Excerpt:
    found = cut(chorale(), random.Random(0), title="bach x", beats_wanted=32)
    assert found is not None
    return found


def test_a_cut_starts_on_a_fourth_bar_and_is_as_long_as_wanted() -> None:
    for seed in range(10):
        found = cut(chorale(), random.Random(seed), title="t", beats_wanted=32)
        assert found is not None
        assert 16 <= found.num_beats <= 32
        assert found.voices[0][0] == (0.0, 4.0, 72)
        assert all(s + d <= found.num_beats for v in found.voices for s, d, _ in v)


def test_what_does_not_serve_is_none() -> None:
    rng = random.Random(0)
    assert cut(chorale(parts=2), rng, title="t", beats_wanted=32) is None
    assert cut(chorale(bars=2), rng, title="t", beats_wanted=32) is None
    five = replace(chorale(), bars=tuple(replace(b, numerator=5) for b in chorale(meter=4).bars))
    assert cut(five, rng, title="t", beats_wanted=32) is None


def test_a_change_of_metre_is_not_crossed() -> None:
    first, second = chorale(8, 4), chorale(16, 3)
    moved = tuple(replace(b, start=b.start + 32) for b in second.bars)
    parts = tuple(
        a + tuple((s + 32, d, p) for s, d, p in b)
        for a, b in zip(first.parts, second.parts, strict=True)
    )
    both = Work(first.bars + moved, parts)
    for seed in range(8):
        found = cut(both, random.Random(seed), title="t", beats_wanted=40)
        assert found is not None
        assert found.beats in (3, 4)
        length = {d for _, d, _ in found.voices[0]}
        assert length == {float(found.beats)}


def test_the_key_is_found() -> None:
    assert find_key(excerpt().voices) == (0, "major")
    minor = ((0.0, 4.0, 57), (4.0, 2.0, 60), (6.0, 2.0, 64), (8.0, 1.0, 68), (9.0, 3.0, 57))
    assert find_key((minor,)) == (9, "minor")


@pytest.mark.parametrize("style", ENSEMBLES)
def test_voices_keep_their_intervals_modulo_octaves(style: str) -> None:
    piece = score_voices(
        excerpt(), style, ENSEMBLES[style][0], random.Random(1), tempo=80, energy=0.5
    )
    tonic = KEY_NAMES.index(piece.key)
    first = sorted((p.notes[0].pitch - tonic) % 12 for p in piece.score.parts)
    assert first == [0, 0, 4, 7]
    for part in piece.score.parts:
        instrument = INSTRUMENTS[part.instrument]
        middle = sum(n.pitch for n in part.notes) / len(part.notes)
        assert instrument.low <= middle <= instrument.high
    assert piece.tune == "bach x"


def test_busy_writing_is_slowed_down() -> None:
    fast = tuple((i / 8, 1 / 8, 60 + i % 3) for i in range(256))
    busy = replace(excerpt(), num_beats=32.0, voices=(fast, fast, fast, fast))
    names = ENSEMBLES["string quartet"][0]
    piece = score_voices(busy, "string quartet", names, random.Random(0), tempo=120, energy=0.5)
    assert piece.score.tempo_bpm == pytest.approx(7.0 * 60 / 8, abs=1)


def test_chorales_on_one_melody_share_an_identity() -> None:
    up = replace(
        chorale(), parts=tuple(tuple((s, d, p + 2) for s, d, p in v) for v in chorale().parts)
    )
    a = cut(chorale(), random.Random(0), title="bach bwv1", beats_wanted=32)
    b = cut(up, random.Random(0), title="bach bwv2", beats_wanted=32)
    c = cut(up, random.Random(0), title="haydn movement1", beats_wanted=32)
    assert a is not None
    assert b is not None
    assert c is not None
    assert a.identity == b.identity != c.identity


def test_a_draw_is_the_same_for_the_same_chance(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(voicing, "works", lambda kind: (Path("bach/a.mxl"),))
    monkeypatch.setattr(voicing, "_work", lambda path: chorale(40))
    a = draw_voices(random.Random(4), duration_s=30)
    b = draw_voices(random.Random(4), duration_s=30)
    assert a is not None
    assert b is not None
    assert a.score == b.score


def test_ensembles_are_made_of_known_parts() -> None:
    for style, ensembles in ENSEMBLES.items():
        assert style in STYLES
        assert all(len(e) == 4 and set(e) <= set(INSTRUMENTS) for e in ensembles)
    assert all(set(w) <= set(ENSEMBLES) for w in WEIGHTS.values())
