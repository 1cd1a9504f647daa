"""What prompts ask for and a probe cannot hear: slips are refused, rare words are told."""

import json
from pathlib import Path
from typing import Any

import pytest

from musicgen_rl.checkpoint import checkpoints_folder
from musicgen_rl.errors import InputError
from musicgen_rl.evaluation.attributes import require_askable, tell_unheard, unheard
from musicgen_rl.evaluation.instruments import probe_classes
from musicgen_rl.evaluation.prompts import Prompt, read_prompts

CLASSES = {
    "style": ("jazz", "rock"), "drums": ("True", "False"),
    "instruments": ("piano", "flute", "clean guitar"),
}  # fmt: skip
ROOT = Path(__file__).resolve().parents[2]


def rows(*attributes: dict[str, Any]) -> list[Prompt]:
    return [Prompt(f"tune {i}", a, from_words=False) for i, a in enumerate(attributes)]


@pytest.mark.parametrize(
    ("attributes", "says"),
    [
        ({"stlye": "jazz"}, r"the attribute 'stlye', which .*: use one of style, drums, instr"),
        ({"tempo_bpm": 120}, "the attribute 'tempo_bpm'"),
        ({"style": "jaz"}, "style 'jaz', which the probe has no class for: use jazz, rock, or lea"),
        ({"style": ["jazz"]}, r"style \['jazz'\]: a clip has only one"),
        ({"instruments": ["flute", "pianno"]}, "instruments 'pianno', .*: use piano, "),
        ({"instruments": {"flute": 1}}, "instruments .*, which the probe has no class for"),
        ({"drums": "true"}, "drums 'true'"),
    ],
)
def test_what_nobody_knows_is_refused_with_what_there_is(
    attributes: dict[str, Any], says: str
) -> None:
    with pytest.raises(InputError, match=rf"p\.jsonl: the prompt 'tune 1' asks for {says}"):
        require_askable(rows({"style": "jazz"}, attributes), CLASSES, "p.jsonl")


def test_of_many_slips_the_first_is_named_and_the_others_counted() -> None:
    many = rows({"stlye": "jazz"}, {"style": "jazz"}, {"style": "jaz"}, {"mood": "sad"})
    with pytest.raises(InputError, match=r"'tune 0' asks for .*'stlye'.*\(2 more prompts have"):
        require_askable(many, CLASSES, "p.jsonl")


def test_of_many_classes_the_nearest_are_listed() -> None:
    classes = {"style": [f"style {i}" for i in range(30)] + ["jazz"]}
    with pytest.raises(InputError, match=r"use jazz, style .*, or one of 23 others, or leave it"):
        require_askable(rows({"style": "jaz"}), classes, "p.jsonl")


def test_what_a_probe_knows_and_what_asks_for_nothing_passes() -> None:
    asked = {"style": "jazz", "drums": True, "instruments": ["piano", "flute"]}
    some = rows(asked, {"style": None, "instruments": []}, {"instruments": "piano"}, {})
    require_askable(some, CLASSES, "p.jsonl")
    assert not unheard(some, CLASSES)
    tell_unheard(some, CLASSES, pytest.fail)


def test_a_manifests_lines_may_hold_what_no_probe_hears() -> None:
    facts = {"tempo_bpm": 120, "style": "polka", "key": "C"}
    lines = [Prompt("a polka", facts), Prompt("jazz")]
    require_askable(lines, CLASSES, "m.jsonl")
    tell_unheard(lines, CLASSES, pytest.fail)
    tell_unheard(lines, None, pytest.fail)


def test_rare_words_of_the_corpus_are_told_with_counts() -> None:
    asked = rows(
        {"instruments": ["koto", "piano"], "style": "jazz"}, {"instruments": ["koto"]},
        {"style": "tango", "moods": ["sad", "calm"]}, {"style": "rock"},
    )  # fmt: skip
    require_askable(asked, CLASSES, "p.jsonl")
    assert unheard(asked, CLASSES) == {"instruments koto": 2, "style tango": 1, "moods": 1}
    said: list[str] = []
    tell_unheard(asked, CLASSES, said.append)
    assert said == [
        "not measured, since the probe has no class for it: instruments koto (2), style tango (1), "
        "moods (1) (in how many of 4 prompts)"
    ]
    said.clear()
    tell_unheard(asked, None, said.append)
    assert said == ["there is no probe, so the attributes of 4 prompts are not measured"]
    require_askable(rows({"stlye": "jazz"}), None, "p.jsonl")  # nobody to know it better


@pytest.mark.parametrize("name", ["final", "development", "larger/final", "half-way/final"])
def test_committed_prompts_ask_for_nothing_that_nobody_knows(name: str) -> None:
    classes = probe_classes(checkpoints_folder() / "pocket" / "rewards")
    assert classes is not None
    file = ROOT / "docs" / "results" / "pocket" / f"{name}.jsonl"
    require_askable(read_prompts(file), classes, name)


def test_a_folder_without_a_probe_has_no_classes(tmp_path: Path) -> None:
    assert probe_classes(tmp_path) is None


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('{"prompt": "a", "attributes": {"style": NaN}}', "NaN is no number"),
        ('{"prompt": "a", "attributes": {"style": [-Infinity]}}', "-Infinity is no number"),
        ('{"prompt": "a", "attributes": {"style": 1e999}}', "1e999 is no number"),
        ('{"prompt": "a", "attributes": {"style": "jazz", "style": "rock"}}', "'style' is given t"),
        ('{"prompt": "a", "prompt": "b"}', "'prompt' is given twice"),
        ('{"captions": ["a"], "attributes": {"tempo_bpm": NaN}}', "NaN is no number"),
        ('{"audio": "a.wav", "caption": "a", "caption": "b"}', "'caption' is given twice"),
    ],
)
def test_json_that_says_two_things_or_none_is_refused(tmp_path: Path, line: str, says: str) -> None:
    path = tmp_path / "p.jsonl"
    fine = [json.dumps({"prompt": f"p {i}", "attributes": {"x": 1.5}}) for i in range(6)]
    path.write_text("\n".join([*fine, line]))
    with pytest.raises(InputError, match=f"p.jsonl, line 7: .*{says}"):
        read_prompts(path)
