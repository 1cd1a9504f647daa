import random
import re
from typing import Any

import pytest

from musicgen_rl.data.pocket.attributes import describe, moods, tempo_band
from musicgen_rl.data.pocket.captions import (
    MOOD_WORDS,
    SAYS_PACE,
    TEMPO_WORDS,
    USES,
    article,
    join,
    key_name,
    name_tempo,
    write_captions,
)
from musicgen_rl.data.pocket.compose import compose
from musicgen_rl.data.pocket.instruments import DRUM_KITS, INSTRUMENTS
from musicgen_rl.data.pocket.styles import BROADER, STYLES

FACTS: dict[str, Any] = {
    "style": "jazz", "instruments": ["tenor sax", "piano", "double bass"], "lead": "tenor sax",
    "drums": True, "kit": "brushed drums", "tempo_bpm": 140, "tempo_band": "fast",
    "meter": "4/4", "key": "Eb", "mode": "major", "swing": True, "density_band": "busy",
    "register": "middle", "dynamics": "moderate",
}  # fmt: skip
FACTS["moods"] = moods(FACTS)


def many(facts: dict[str, Any], count: int = 30, seeds: int = 12) -> list[str]:
    return [t for s in range(seeds) for t in write_captions(facts, random.Random(s), count=count)]


def words_of(names: set[str]) -> set[str]:
    return {w for n in names for w in (n, *INSTRUMENTS[n].words)}


def said(text: str, word: str) -> bool:
    return re.search(rf"(?<![\w-]){re.escape(word.lower())}(?![\w-])", text.lower()) is not None


def test_captions_are_many_and_different() -> None:
    captions = write_captions(FACTS, random.Random(1), count=20)
    assert len(set(captions)) == 20
    assert captions == write_captions(FACTS, random.Random(1), count=20)
    assert captions != write_captions(FACTS, random.Random(2), count=20)


def test_the_first_caption_names_style_and_instrument() -> None:
    words = {*STYLES["jazz"].words, *(w for w, s in BROADER.items() if "jazz" in s)}
    for seed in range(30):
        first = write_captions(FACTS, random.Random(seed), count=1)[0]
        assert any(said(first, w) for w in words)
        assert any(said(first, w) for w in words_of({"tenor sax", "piano", "double bass"}))


def test_no_caption_names_an_instrument_that_does_not_play() -> None:
    allowed = words_of(set(FACTS["instruments"])) | {w for s in STYLES["jazz"].words for w in [s]}
    absent = words_of(set(INSTRUMENTS)) - allowed
    absent -= {"bass", "organ", "bells", "electric bass"} & {w for a in allowed for w in a.split()}
    for text in many(FACTS):
        for word in absent:
            if said(text, word):
                assert any(word in a for a in allowed), (word, text)


def test_no_caption_names_another_tempo_or_mode_or_mood() -> None:
    others = {w for band, ws in TEMPO_WORDS.items() if band != "fast" for w in ws} - {"steady"}
    moods_off = {w for m, ws in MOOD_WORDS.items() if m not in FACTS["moods"] for w in ws}
    moods_off -= {w for m in FACTS["moods"] for w in MOOD_WORDS[m]}
    for text in many(FACTS):
        text = text.replace("grand piano", "piano")
        assert not any(said(text, w) for w in others), text
        assert not any(said(text, w) for w in moods_off), text
        assert not said(text, "minor"), text
        for number in re.findall(r"(\d+) ?bpm", text.lower()):
            assert number == "140"


def test_drums_are_named_only_where_they_play() -> None:
    silent = {**FACTS, "drums": False, "kit": ""}
    for text in many(silent):
        heard = said(text.lower().replace("no drums", ""), "drums")
        assert not heard, text
    assert any("drums" in t for t in many(FACTS))
    assert any("no drums" in t.lower() for t in many(silent))


def test_forms_range_from_tags_to_two_sentences() -> None:
    texts = many(FACTS)
    assert any(t.count(",") >= 3 and "." not in t for t in texts)
    assert any(re.search(r"\. [A-Z]", t) for t in texts)
    assert any(len(t.split()) <= 2 for t in texts)
    assert max(len(t.split()) for t in texts) > 15


def test_facts_are_left_out_often() -> None:
    texts = many(FACTS)
    share = sum("bpm" in t.lower() for t in texts) / len(texts)
    assert 0.03 < share < 0.4
    named = sum(any(said(t, w) for w in STYLES["jazz"].words) for t in texts) / len(texts)
    assert 0.4 < named < 0.95


@pytest.mark.parametrize(
    ("phrase", "expected"),
    [("oboe", "an oboe"), ("fast tune", "a fast tune"), ("80s synth", "an 80s synth"),
     ("8-bit tune", "an 8-bit tune")],
)  # fmt: skip
def test_articles_fit(phrase: str, expected: str) -> None:
    assert article(phrase) == expected


def test_lists_read_as_prose() -> None:
    assert join(["a"]) == "a"
    assert join(["a", "b"]) == "a and b"
    assert join(["a", "b", "c"]) == "a, b and c"


def test_moods_have_words_and_uses_have_moods() -> None:
    assert set(USES) <= set(MOOD_WORDS)


@pytest.mark.parametrize(
    ("changes", "present", "absent"),
    [
        ({"tempo_band": "fast", "mode": "major"}, "happy", "sad"),
        ({"tempo_band": "slow", "mode": "minor"}, "sad", "happy"),
        (
            {"tempo_band": "slow", "density_band": "sparse", "dynamics": "soft"},
            "dreamy",
            "energetic",
        ),
        ({"mode": "minor", "dynamics": "loud"}, "dark", "warm"),
        ({"density_band": "busy", "tempo_band": "fast"}, "energetic", "calm"),
    ],
)
def test_moods_follow_what_can_be_measured(
    changes: dict[str, str], present: str, absent: str
) -> None:
    found = moods({**FACTS, **changes})
    assert present in found
    assert absent not in found
    assert set(found) <= set(MOOD_WORDS)


def test_tempo_bands() -> None:
    assert [tempo_band(b) for b in (60, 84.9, 85, 124, 125, 180)] == [
        "slow", "slow", "medium", "medium", "fast", "fast",
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["house", "waltz", "string quartet"])
def test_a_piece_is_described_by_its_notes(name: str) -> None:
    piece = compose(STYLES[name], random.Random(8), duration_s=30)
    facts = describe(piece)
    assert facts["style"] == name
    assert facts["drums"] == any(p.is_drums for p in piece.score.parts)
    assert facts["tempo_bpm"] == round(piece.score.tempo_bpm)
    assert facts["instruments"] == list(
        dict.fromkeys(p.instrument for p in piece.score.parts if not p.is_drums)
    )
    assert facts["meter"] == ("3/4" if piece.score.beats_per_bar == 3 else "4/4")
    assert facts["mode"] in ("major", "minor")
    kits = {words for _, words in DRUM_KITS.values()}
    assert facts["kit"] in kits | {""}
    assert len(write_captions(facts, random.Random(0), count=8)) == 8


def test_entrances_are_the_first_notes() -> None:
    for seed in range(3):
        piece = compose(STYLES["house"], random.Random(seed), duration_s=40)
        heard = describe(piece)["enters_s"]
        drums = next(p for p in piece.score.parts if p.is_drums)
        assert heard["drums"] == pytest.approx(
            min(n.start for n in drums.notes) * piece.score.seconds_per_beat, abs=0.01
        )
        assert set(heard) == {*describe(piece)["instruments"], "drums"}


def test_minor_keys_are_spelled_as_musicians_do() -> None:
    assert key_name({"key": "Db", "mode": "minor"}) == "C# minor"
    assert key_name({"key": "Db", "mode": "major"}) == "Db major"
    assert key_name({"key": "Bb", "mode": "minor"}) == "Bb minor"


def test_a_tempo_is_added_where_nothing_says_how_fast_it_is() -> None:
    before = many(FACTS)
    after = name_tempo(before, 140.2, random.Random(0), share=1.0)
    for old, new in zip(before, after, strict=True):
        assert (old == new) == bool(SAYS_PACE.search(old)), (old, new)
        if old != new:
            assert old.rstrip(".") in new
            assert len(re.findall("140 bpm", new, re.I)) == 1
            assert not new.startswith("140") or len(old.split()) <= 4
    assert any(new.startswith("140 bpm") for new in after)


def test_a_tempo_is_added_to_as_many_captions_as_are_asked() -> None:
    before = [f"jazz {number}" for number in range(2000)]
    assert name_tempo(before, 140, random.Random(0), share=0.0) == before
    half = name_tempo(before, 140, random.Random(0), share=0.5)
    assert sum("bpm" in c.lower() for c in half) / 2000 == pytest.approx(0.5, abs=0.04)
