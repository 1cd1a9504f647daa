"""The study file: what is read, and what is refused in a sentence."""

import pytest
import yaml

from musicgen_rl.errors import ConfigError, InputError
from musicgen_rl.listening.preset import write_preset
from musicgen_rl.listening.reading import load_study
from tests.listening.studies import PAIR, RATING, content, small


def test_what_is_written_is_read():
    study = small()
    assert [arm.name for arm in study.arms] == ["plain", "varied"]
    assert study.arms[0].audio == "a"
    assert study.question("scales").items[0].words == ("bad", "poor", "fair", "good", "excellent")
    assert study.question("variety").clips == 3
    assert study.question("scales").clips == 1
    assert study.raters.count == 4
    assert study.clips.duration_s == 0.5


def test_all_comparisons_are_planned_unless_some_are_named():
    assert len(small().analysis.planned) == 5  # 2 scales, 1 preference, 2 of sets; one pair of arms
    chosen = [{"question": "preference", "item": "prefer", "arms": ["varied", "plain"]}]
    planned = small(analysis={"planned": chosen}).analysis.planned
    assert [(p.question, p.item, p.arms) for p in planned] == [
        ("preference", "prefer", ("varied", "plain"))
    ]


def test_the_hash_follows_what_matters_and_not_the_layout(tmp_path):
    first, second = tmp_path / "a.yaml", tmp_path / "b.yaml"
    first.write_text(yaml.safe_dump(content(), sort_keys=False))
    second.write_text("# a comment\n" + yaml.safe_dump(content(), sort_keys=False, width=40))
    assert load_study(first).digest() == load_study(second).digest()
    assert small(seed=2).digest() != small().digest()


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"prompts": [f"tune number {number}" for number in (1, 0, *range(2, 8))]}, ["prompts"]),
        ({"practice_prompts": ["another"]}, ["prompts"]),
        ({"arms": {"plain": {"audio": "a"}, "varied": {"audio": "c"}}}, ["arms"]),
        ({"clips": {"duration_s": 0.5, "sample_rate": 8000, "seed": 2}}, ["clip rules"]),
        ({"clips": {"duration_s": 1, "sample_rate": 8000}}, ["clip rules"]),
        ({"arms": {"varied": {"audio": "b"}, "plain": {"audio": "a"}}}, []),
        ({"contact": "anna@example.org", "title": "T", "consent": "C", "seed": 3}, []),
        ({"retention_days": 9, "questions": [PAIR]}, []),
    ],
)
def test_the_hash_of_the_clips_follows_what_decides_them(changes, parts):
    before, after = small().clip_digests(), small(**changes).clip_digests()
    assert [name for name in before if before[name] != after[name]] == parts


def test_a_dial_at_another_place_makes_other_clips_and_1_is_1_point_0():
    def arms(diversity):
        model = {"model": "pocket", "diversity": diversity}
        return small(arms={"plain": {"audio": "a"}, "varied": model}).clip_digests()["arms"]

    assert arms(0.3) != arms(1.0)
    assert arms(1) == arms(1.0)


def with_words(words):
    item = {"ask": "How does it sound?", "check": "quality", "words": words}
    return RATING | {"items": {"quality": item}}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"version": 2}, "version must be 1, got 2"),
        ({"titel": "x"}, "unknown entry 'titel'"),
        ({"arms": {"one": {"audio": "a"}}}, "at least two arms, got 1"),
        ({"arms": {"one": {"audio": "a"}, "two": {}}}, "either a model or an audio folder"),
        ({"arms": {"one": {"audio": "a"}, "T w o": {"audio": "b"}}}, "'T w o'"),
        ({"arms": {"a": {"model": "m", "loud": 3}, "b": {"audio": "b"}}}, "unknown setting 'loud'"),
        ({"prompts": []}, "no prompts"),
        ({"prompts": "missing.txt"}, "missing.txt"),
        ({"prompts": ["a"] * 8}, "stands there twice"),
        ({"questions": []}, "asks nothing"),
        ({"questions": [RATING | {"kind": "guess"}]}, "unknown kind 'guess'"),
        ({"questions": [RATING | {"prompts": 9}]}, "asks for 9 prompts, but there are 8"),
        ({"questions": [RATING | {"raters_per_prompt": 5}]}, "raters.count is 4"),
        ({"questions": [RATING, RATING]}, "'scales' stands there twice"),
        ({"questions": [PAIR | {"prompts": 3, "raters_per_prompt": 3}]}, "is 9, an odd number"),
        ({"questions": [RATING | {"items": {}}]}, "asks nothing"),
        ({"questions": [RATING | {"kind": "mushra"}]}, "asks one item, got 2"),
        ({"questions": [PAIR | {"kind": "mushra"}]}, "needs `reference`"),
        ({"reference": "other"}, "reference 'other' is no arm"),
        ({"clips": {"duration_s": 0}}, "between 0.5 and 120 s, got 0"),
        ({"raters": {"count": 4, "minimum_listening_s": 9}}, "longer than a clip"),
        ({"raters": {"count": 2.5}}, "raters.count must be a whole number"),
        ({"raters": {"people": 4}}, "unknown entry 'people'"),
        ({"analysis": {"level": 2}}, "analysis.level"),
        (
            {"analysis": {"planned": [{"question": "scales", "item": "x", "arms": ["a", "b"]}]}},
            "the items are quality, music",
        ),
        (
            {
                "analysis": {
                    "planned": [{"question": "scales", "item": "music", "arms": ["plain", "q"]}]
                }
            },
            "unknown arm 'q'",
        ),
        ({"title": 5}, "title must be text, got 5: put it in quotes"),
        ({"consent": ["a"]}, "consent must be text, got ['a']"),
        ({"contact": 5551234}, "contact must be text, got 5551234: put it in quotes"),
        ({"arms": {"a": {"model": 5}, "b": {"audio": "b"}}}, "model of arm 'a' must be text"),
        ({"arms": {"a": {"audio": 5}, "b": {"audio": "b"}}}, "audio of arm 'a' must be text"),
        ({"raters": {"count": 4, "headphones": "no"}}, "raters.headphones must be true or false"),
        ({"questions": [PAIR | {"ties": "no"}]}, "ties of question 'preference' must be true or"),
        ({"questions": [PAIR | {"show_prompt": None}]}, "show_prompt of question 'preference'"),
        ({"questions": [with_words(5)]}, "words of 'quality' must be a list, got 5"),
        ({"questions": [with_words(None)]}, "words of 'quality' must be a list, got None"),
        ({"questions": [with_words("bad")]}, "words of 'quality' must be a list, got 'bad'"),
        ({"questions": [PAIR | {"items": {"x": {"ask": 5}}}]}, "ask of item 'x' must be text"),
        ({"practice_prompts": [3]}, "is not text"),
    ],
)
def test_mistakes_are_named(changes, words):
    with pytest.raises(ConfigError) as error:
        small(**changes)
    assert words in str(error.value)


def test_a_contact_that_is_left_empty_is_none():
    assert not small(contact=None).contact


def test_a_missing_entry_is_named():
    without = content()
    del without["consent"]
    from pathlib import Path

    from musicgen_rl.listening.reading import parse_study

    with pytest.raises(ConfigError, match="lacks 'consent'"):
        parse_study(without, Path())


def test_files_that_are_no_study_are_refused(tmp_path):
    with pytest.raises(InputError, match="listen new"):
        load_study(tmp_path)
    (tmp_path / "study.yaml").write_text("a: [")
    with pytest.raises(InputError, match="is not YAML"):
        load_study(tmp_path)
    (tmp_path / "study.yaml").write_text("contact: 2026-13-01")
    with pytest.raises(InputError, match="is not YAML: month must be in"):
        load_study(tmp_path)
    (tmp_path / "study.yaml").write_text("- 1")
    with pytest.raises(ConfigError, match="must be a mapping"):
        load_study(tmp_path)


def test_the_papers_preset_is_a_valid_study_of_its_size(tmp_path):
    write_preset(tmp_path, "paper")
    study = load_study(tmp_path)
    assert len(set(study.prompts)) == 101
    scales, sets = study.questions
    assert (scales.prompts, scales.raters_per_prompt) == (101, 3)
    assert [item.id for item in scales.items] == [
        "acoustic_quality",
        "text_adherence",
        "musicality",
    ]
    assert (sets.kind, sets.prompts) == ("sets", 50)
    assert (tmp_path / "study.yaml").read_text().count("#") > 15  # it explains itself
    with pytest.raises(ConfigError, match="is there already"):
        write_preset(tmp_path, "paper")
    with pytest.raises(ConfigError, match="unknown preset 'papper'"):
        write_preset(tmp_path / "other", "papper")


def test_prompts_of_ones_own_are_not_written_over(tmp_path):
    (tmp_path / "prompts.txt").write_text("mine\n")
    with pytest.raises(ConfigError, match=r"prompts\.txt' is there already"):
        write_preset(tmp_path, "paper")
    assert [p.name for p in tmp_path.iterdir()] == ["prompts.txt"]
    assert (tmp_path / "prompts.txt").read_text() == "mine\n"


@pytest.mark.parametrize("name", ["small", "mushra"])
def test_the_other_presets_are_valid_too(tmp_path, name):
    write_preset(tmp_path, name)
    assert load_study(tmp_path).questions
