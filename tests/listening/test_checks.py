"""Attention checks: pages like any other, judged by what has a known right answer."""

import pytest

from musicgen_rl.errors import ConfigError
from musicgen_rl.listening.answers import attention_failed
from musicgen_rl.listening.assignment import DAMAGED, ClipKey, Stimulus, Trial, assign
from tests.listening.studies import ABX, ALL, MUSHRA, PAIR, RATING, SETS, small, with_all

RULES = {"count": 4, "practice": 5, "attention_checks": 10, "repeats": 0, "minimum_listening_s": 0}


def trials(study, kind):
    return [t for session in assign(study).sessions for t in session if t.kind == kind]


def form(trial):
    """What a rater sees of a page before hearing it."""
    clips = [len(stimulus.clips) for stimulus in trial.stimuli]
    return trial.question, clips, trial.open_reference is not None


def test_checks_and_practice_have_the_form_of_real_pages():
    study = with_all(raters=RULES)
    real = {trial.question: form(trial) for trial in trials(study, "main")}
    assert len(real) == len(ALL)
    for kind in ("check", "practice"):
        found = trials(study, kind)
        assert {trial.question for trial in found} == set(real)
        for trial in found:
            assert form(trial) == real[trial.question]
    # Of two arms, mushra plays one, the hidden reference and two anchors: four sounds.
    two = small(reference="plain", questions=[MUSHRA], raters=RULES)
    counts = {len(t.stimuli) for kind in ("main", "check", "practice") for t in trials(two, kind)}
    assert counts == {4}


def test_a_mushra_check_hides_the_reference_and_damaged_sound_among_what_a_page_has():
    study = with_all(raters=RULES)
    found = [t for t in trials(study, "check") if t.question == "grades"]
    for trial in found:
        assert sorted(trial.labels) == ["bad", "good", "mid", "plain", "varied"]
        by_label = dict(zip(trial.labels, trial.stimuli, strict=True))
        assert by_label["good"].clips == trial.open_reference.clips
        assert by_label["bad"].clips == (ClipKey("ideal", trial.prompt, 0, DAMAGED),)
    assert len({trial.labels for trial in found}) > 1


def test_checks_ask_only_what_has_a_known_answer():
    rating = RATING | {"items": {
        "adherence": "How well does it fit?",
        "sound": {"ask": "How does it sound?", "check": "quality"},
    }}  # fmt: skip
    sets = SETS | {"items": {
        "keep": "Which would you keep?",
        "varied": {"ask": "Which is more varied?", "check": "variety"},
    }}  # fmt: skip
    study = small(questions=[rating, sets], raters=RULES)
    assert {(t.question, t.asks) for t in trials(study, "check")} == {
        ("scales", "sound"), ("variety", "varied"),
    }  # fmt: skip
    unknown = PAIR | {"items": {"prefer": "Which is sadder?"}}
    only = small(questions=[rating, unknown], raters=RULES)
    assert {t.question for t in trials(only, "check")} == {"scales"}
    with pytest.raises(ConfigError, match="attention_checks is 10, but no item"):
        small(questions=[unknown], raters=RULES)
    small(questions=[unknown], raters=RULES | {"attention_checks": 0})


def test_groups_can_be_checked_by_variety_and_by_quality_in_turn():
    sets = SETS | {"items": {
        "varied": {"ask": "Which is more varied?", "check": "variety"},
        "keep": {"ask": "Which would you keep?", "check": "quality"},
    }}  # fmt: skip
    study = small(questions=[sets], raters=RULES)
    found = trials(study, "check")
    assert [t.asks for t in found[:4]] == ["varied", "keep", "varied", "keep"]
    for trial in found:
        good, bad = (trial.stimuli[trial.labels.index(name)] for name in ("good", "bad"))
        if trial.asks == "varied":
            assert len({key.prompt for key in good.clips}) == 3
            assert len(set(bad.clips)) == 1
            assert not any(key.treatment for key in (*good.clips, *bad.clips))
        else:
            assert [key.treatment for key in bad.clips] == [DAMAGED] * 3
            assert [key.index for key in bad.clips] == [key.index for key in good.clips]


def test_a_check_is_judged_by_the_item_it_asks_whatever_stands_first():
    rating = small(questions=[RATING | {"items": {
        "adherence": "How well does it fit?",
        "sound": {"ask": "How does it sound?", "words": ["no", "so so", "yes"], "check": "quality"},
    }}]).questions[0]  # fmt: skip
    page = Trial("scales", "check", 0, (Stimulus("bad", ()),), asks="sound")
    assert not attention_failed(rating, page, {"adherence": 5, "sound": 2})
    assert attention_failed(rating, page, {"adherence": 1, "sound": 3})
    sets = small(questions=[SETS]).questions[0]
    page = Trial("variety", "check", 0, (Stimulus("bad", ()), Stimulus("good", ())), asks="varied")
    assert not attention_failed(sets, page, {"varied": "second", "keep": "first"})
    assert attention_failed(sets, page, {"varied": "tie", "keep": "second"})
    mushra = with_all().question("grades")
    labels = ("mid", "bad", "plain", "good", "varied")
    page = Trial("grades", "check", 0, tuple(Stimulus(n, ()) for n in labels), asks="grade")
    assert not attention_failed(mushra, page, {"grade": [0, 40, 0, 41, 0]})
    assert attention_failed(mushra, page, {"grade": [0, 41, 0, 41, 100]})
    abx = with_all().question("same")
    page = Trial("same", "check", 0, tuple(Stimulus(n, ()) for n in ("bad", "good", "bad")),
                 asks="x")  # fmt: skip
    assert not attention_failed(abx, page, {"x": "first"})
    assert attention_failed(abx, page, {"x": "second"})


@pytest.mark.parametrize(
    ("question", "words"),
    [
        (PAIR | {"items": {"prefer": {"ask": "?", "check": "loudness"}}},
         "item 'prefer': unknown check 'loudness': quality, variety"),
        (PAIR | {"items": {"prefer": {"ask": "?", "check": "variety"}}}, "only groups of clips"),
        (SETS | {"prompts": 1}, "needs at least two prompts, got 1"),
    ],
)  # fmt: skip
def test_checks_that_cannot_be_are_refused(question, words):
    with pytest.raises(ConfigError, match=words):
        small(questions=[question, ABX])
