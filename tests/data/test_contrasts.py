"""Captions that differ in one fact: the first is right, the others are not."""

import random
import re
from collections import Counter
from typing import Any

import pytest

from musicgen_rl.data.pocket.captions import TEMPO_WORDS
from musicgen_rl.data.pocket.contrasts import RIVALS, SHARES, write_contrast
from musicgen_rl.data.pocket.instruments import INSTRUMENTS

FACTS: dict[str, Any] = {
    "style": "waltz", "lead": "flute", "instruments": ["flute", "harp"], "drums": False,
    "tempo_bpm": 100, "tempo_band": "medium", "key": "Db", "mode": "minor",
}  # fmt: skip
CAPTIONS = ["A gentle waltz.", "mid-tempo waltz, 100 bpm", "waltz in C# minor"]


def drawn(count: int = 400) -> list[list[str]]:
    return [write_contrast(FACTS, CAPTIONS, random.Random(seed)) for seed in range(count)]


def test_all_captions_differ_and_there_are_always_as_many() -> None:
    for captions in drawn():
        assert len(set(captions)) == len(captions) == RIVALS + 1


def test_only_the_first_caption_names_the_tempo() -> None:
    asked = 0
    for captions in drawn():
        tempi = [re.findall(r"(\d+) bpm", c, re.I) for c in captions]
        if all(tempi) and len({found[0] for found in tempi}) > 1:
            asked += 1
            assert tempi[0] == ["100"]
            ratios = [int(found[0]) / 100 for found in tempi[1:]]
            assert all(0.5 < r < 2 and abs(r - 1) > 0.06 for r in ratios)
    assert asked / 400 == pytest.approx(SHARES["tempo"], abs=0.1)


def test_the_first_caption_is_right_about_key_drums_and_pace() -> None:
    words = Counter[str]()
    for captions in drawn():
        first, *rest = (c.replace(" played on", "") for c in captions)
        if "drums" in first:
            assert first == "waltz without drums"
            assert all("no" not in c for c in rest)
            words["drums"] += 1
        keys = [re.findall(r"[A-G][b#]? (?:major|minor)", c) for c in (first, *rest)]
        if all(keys) and len({found[0] for found in keys}) > 1:
            assert keys[0] == ["C# minor"]
            assert ["C# minor"] not in keys[1:]
            words["key"] += 1
        slow = [w for w in TEMPO_WORDS["slow"] if any(w in c for c in captions)]
        if slow:
            assert any(w in first for w in TEMPO_WORDS["medium"])
            words["pace"] += 1
    assert set(words) == {"drums", "key", "pace"}


def test_wrong_leads_are_instruments_that_do_not_play() -> None:
    ways = [r"waltz with (.+)$", r"waltz, played on (.+)$", r"waltz led by the (.+)$"]
    playing = {w for name in FACTS["instruments"] for w in (name, *INSTRUMENTS[name].words)}
    asked = 0
    for captions in drawn():
        for way in ways:
            leads = [re.search(way, c) for c in captions]
            if all(leads) and "drums" not in captions[0]:
                named = [found[1] for found in leads if found]
                assert named[0] in playing
                assert not {*named[1:]} & playing
                asked += 1
    assert asked > 5


def test_one_seed_gives_the_same_captions_again() -> None:
    assert drawn(20) == drawn(20)
