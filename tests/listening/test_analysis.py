"""The analysis of studies whose answers, and so whose numbers, are known."""

from collections import Counter

import numpy as np
import pytest
from scipy import stats
from sqlalchemy import delete

from musicgen_rl.errors import InputError
from musicgen_rl.listening.analysis import analyse
from musicgen_rl.listening.crossed import p_value, two_way_se
from musicgen_rl.listening.mixed import fit_mixed
from musicgen_rl.listening.paired import FIRST, SECOND, TIE, fit_paired
from musicgen_rl.listening.responses import failures, responses, scores
from musicgen_rl.listening.tables import answers
from tests.listening.stored import answered, attentive, inattentive, planned
from tests.listening.studies import ABX, MUSHRA, PAIR, RATING, SETS

RULES = {"count": 4, "practice": 1, "attention_checks": 2, "repeats": 2, "minimum_listening_s": 0,
         "headphones": False}  # fmt: skip


def choose(name, trial):
    return {"prefer": ("first", "second")[trial.labels.index(name)]}


@pytest.fixture
def pairs(tmp_path):
    """A study of pairs only: 6 prompts, 2 raters a prompt, 4 raters with 3 prompts each."""
    return planned(tmp_path / "s", questions=[PAIR], raters=RULES)


def test_everybody_for_one_arm_is_a_mean_of_one_and_a_sign_test(pairs):
    def decide(slot, trial):
        return attentive(trial, ["prefer"]) if trial.kind == "check" else choose("varied", trial)

    store = answered(pairs, decide)
    result = analyse(pairs, store, mixed=False)
    store.close()
    (entry,) = result["planned"]
    assert (entry["arms"], entry["mean"], entry["n"]) == (["plain", "varied"], -1.0, 12)
    assert (entry["low"], entry["high"]) == (-1.0, -1.0)
    assert (entry["raters"], entry["prompts"], entry["df"]) == (4, 6, 3)
    # No spread: four raters who agree are worth a sign test, 2 / 2**4.
    assert entry["p"] == entry["p_holm"] == 0.125
    assert entry["found"] is False
    (fit,) = result["paired"]
    assert (fit["first"], fit["second"], fit["ties"]) == (6, 6, 0)
    assert fit["strengths"][1]["log_strength"] > 1 > -1 > fit["strengths"][0]["log_strength"]
    assert fit["order_effect"] == pytest.approx(0, abs=1e-6)
    (agreement,) = result["agreement"]
    assert agreement["alpha"] is None  # nothing differs, so nothing can be said
    assert (agreement["repeats"], agreement["repeats_equal"]) == (2 * 4 // 2, 1.0)
    people = result["people"]
    assert (people["invited"], people["began"], people["finished"]) == (4, 4, 4)
    assert people["answers"] == people["planned_answers"] == 4 * (1 + 3 + 2 + 1)


def test_who_prefers_a_place_moves_the_order_effect_and_not_the_mean(pairs):
    def decide(slot, trial):
        if trial.kind == "check":
            return attentive(trial, ["prefer"])
        return {"prefer": "first" if slot else "tie"}

    store = answered(pairs, decide)
    result = analyse(pairs, store, mixed=False)
    store.close()
    (fit,) = result["paired"]
    assert (fit["first"], fit["second"], fit["ties"]) == (9, 0, 3)
    assert fit["order_effect"] > 1
    # Every prompt is heard in both orders, every rater in both: what is left is the odd ninth.
    assert abs(result["planned"][0]["mean"]) <= 3 / 12
    # Repeats turn the order round: "first" again is the opposite answer.
    (agreement,) = result["agreement"]
    same = sum(t.kind == "repeat" for t in pairs.assignment.sessions[0])
    assert agreement["repeats_equal"] == same / agreement["repeats"]


def test_ratings_are_differences_of_the_same_rater_and_prompt(tmp_path):
    plan = planned(tmp_path / "s", questions=[RATING], raters=RULES)
    shift = np.random.default_rng(0).integers(-1, 2, (4, 9))

    def decide(slot, trial):
        if trial.kind == "check":
            return attentive(trial, ["quality", "music"])
        own = 3 + int(shift[slot, trial.prompt])
        return {"quality": own if trial.labels == ("plain",) else min(own + 1, 5), "music": 2}

    store = answered(plan, decide)
    result = analyse(plan, store, mixed=True)
    store.close()
    quality, music = result["planned"]
    # plain minus varied, -1 everywhere although raters and prompts differ.
    assert (quality["mean"], quality["n"], quality["unit"]) == (-1.0, 12, "points")
    assert (music["mean"], music["p"]) == (0.0, 1.0)
    assert [(a["item"], a["arm"]) for a in result["arms"]] == [
        ("quality", "plain"), ("quality", "varied"), ("music", "plain"), ("music", "varied"),
    ]  # fmt: skip
    by_arm = {(a["item"], a["arm"]): a for a in result["arms"]}
    main = [(slot, t.prompt) for slot, session in enumerate(plan.assignment.sessions)
            for t in session if t.kind == "main" and t.labels == ("plain",)]  # fmt: skip
    by_hand = 3 + np.mean([shift[place] for place in main])
    assert by_arm["quality", "plain"]["mean"] == pytest.approx(by_hand)
    assert by_arm["quality", "varied"]["mean"] == pytest.approx(by_hand + 1)
    assert by_arm["music", "plain"]["low"] == by_arm["music", "plain"]["high"] == 2
    fit = next(e for e in result["mixed"] if e["item"] == "quality")
    assert fit.get("reason") or fit["difference"] == pytest.approx(-1, abs=1e-6)
    assert next(e for e in result["mixed"] if e["item"] == "music")["reason"]
    assert {(a["least"], a["most"]) for a in result["arms"]} == {(1, 5)}
    agreement = {e["item"]: e for e in result["agreement"]}
    assert agreement["quality"]["metric"] == "ordinal"
    assert agreement["quality"]["repeats_alpha"] == 1.0
    assert agreement["music"]["alpha"] is None


def test_grades_of_a_page_go_to_what_stood_there(tmp_path):
    arms = {name: {"audio": name} for name in ("plain", "varied", "ideal")}
    plan = planned(tmp_path / "s", questions=[MUSHRA], arms=arms, reference="ideal",
                   raters=RULES | {"attention_checks": 0})  # fmt: skip
    given = {"plain": 60, "varied": 80, "reference": 100, "low": 10, "mid": 40}

    def decide(slot, trial):  # the second prompt's are worth four points less
        return {"grade": [given[label] - 4 * (trial.prompt == 1) for label in trial.labels]}

    store = answered(plan, decide)
    result = analyse(plan, store, mixed=False)
    store.close()
    assert [(a["arm"], a["n"]) for a in result["arms"]] == [
        ("plain", 6), ("varied", 6), ("reference", 6), ("low", 6), ("mid", 6),
    ]  # fmt: skip
    for arm in result["arms"]:
        assert arm["mean"] == pytest.approx(given[arm["arm"]] - 4 / 3)
        assert (arm["least"], arm["most"]) == (0, 100)
    # Prompts differ alike in every arm: the halves of the intervals are one number.
    main = [(slot, t.prompt) for slot, session in enumerate(plan.assignment.sessions)
            for t in session if t.kind == "main"]  # fmt: skip
    raters, prompts = (np.array(column) for column in zip(*main, strict=True))
    off = 4 / 3 - 4.0 * (prompts == 1)
    half = stats.t.ppf(0.975, 2) * two_way_se(off, raters, prompts)
    for arm in result["arms"]:
        assert arm["high"] - arm["mean"] == pytest.approx(half)
        assert arm["mean"] - arm["low"] == pytest.approx(half)
    (entry,) = (e for e in result["planned"] if e["arms"] == ["plain", "varied"])
    assert (entry["mean"], entry["unit"]) == (-20.0, "points of 100")
    assert result["agreement"][0]["metric"] == "interval"


def test_the_mixed_model_is_that_of_the_two_arms_grades(tmp_path):
    plan = planned(tmp_path / "s", questions=[RATING], raters=RULES)
    rng, rows = np.random.default_rng(2), []

    def decide(slot, trial):
        if trial.kind == "check":
            return attentive(trial, ["quality", "music"])
        grade = int(rng.integers(1, 6))
        if trial.kind == "main":
            rows.append((grade, trial.labels == ("plain",), slot, trial.prompt))
        return {"quality": grade, "music": 2}

    store = answered(plan, decide)
    result = analyse(plan, store, mixed=True)
    store.close()
    found = next(e for e in result["mixed"] if e["item"] == "quality")
    wanted = fit_mixed(*(list(column) for column in zip(*rows, strict=True)))
    assert wanted.reason == ""
    assert found["arms"] == ["plain", "varied"]
    assert found["difference"] == pytest.approx(wanted.difference, rel=1e-4)
    assert found["se"] == pytest.approx(wanted.se, rel=1e-3)


def test_an_interval_is_that_of_the_scores_themselves(pairs):
    rng = np.random.default_rng(4)
    given = {}

    def decide(slot, trial):
        if trial.kind == "check":
            return attentive(trial, ["prefer"])
        value = ("first", "second", "tie")[rng.integers(3)]
        given[slot, trial.position] = value
        return {"prefer": value}

    store = answered(pairs, decide)
    result = analyse(pairs, store, mixed=False)
    store.close()
    rows, choices = [], []
    for slot, session in enumerate(pairs.assignment.sessions):
        for trial in session:
            if trial.kind == "main":
                sign = 1 if trial.labels[0] == "plain" else -1
                number = {"first": 1, "second": -1, "tie": 0}[given[slot, trial.position]]
                rows.append((sign * number, slot, trial.prompt))
                choices.append((sign < 0, sign > 0, {1: FIRST, -1: SECOND, 0: TIE}[number]))
    values, raters, prompts = (np.array(column, dtype=float) for column in zip(*rows, strict=True))
    (entry,) = result["planned"]
    assert entry["mean"] == pytest.approx(values.mean())
    assert entry["se"] == pytest.approx(two_way_se(values - values.mean(), raters, prompts))
    assert entry["low"] < entry["mean"] < entry["high"]
    (fit,) = result["paired"]
    whole = fit_paired(*np.array(choices, dtype=int).T, 2)
    for arm, strength in enumerate(fit["strengths"]):
        se = two_way_se(12 * whole.influence[:, arm], raters, prompts)
        assert strength["log_strength"] == pytest.approx(whole.strengths[arm], abs=1e-6)
        assert strength["se"] == pytest.approx(se, rel=1e-4)
    order_se = two_way_se(12 * whole.influence[:, 2], raters, prompts)
    assert (fit["order_effect"], fit["order_se"]) == pytest.approx((whole.order, order_se), 1e-4)
    assert fit["order_p"] == pytest.approx(p_value(whole.order, order_se, 3), rel=1e-3)


def test_who_fails_too_many_checks_is_left_out_by_the_frozen_rule(pairs):
    def decide(slot, trial):
        if trial.kind == "check":
            return (inattentive if slot == 2 else attentive)(trial, ["prefer"])
        return choose("plain" if slot == 2 else "varied", trial)

    store = answered(pairs, decide)
    result = analyse(pairs, store, mixed=False)
    found = responses(pairs, store.raters(), store.answers())
    store.close()
    assert Counter(failures(pairs, found).values()) == {0: 3, 2: 1}
    assert result["people"]["left_out"] == 1
    assert result["people"]["attention_failures"] == [2, 0, 0, 0]
    assert (result["planned"][0]["mean"], result["planned"][0]["n"]) == (-1.0, 9)
    # With everybody: nine times -1 and three times 1.
    assert result["all_raters"][0]["mean"] == pytest.approx(-0.5)
    assert result["all_raters"][0]["n"] == 12


def test_practice_checks_and_repeats_are_not_in_the_scores(pairs):
    def decide(slot, trial):
        if trial.kind == "check":
            return attentive(trial, ["prefer"])
        return choose("varied" if trial.kind == "main" else "plain", trial)

    store = answered(pairs, decide)
    found = responses(pairs, store.raters(), store.answers())
    question = pairs.study.question("preference")
    data = scores(pairs, found, question, "prefer", ("varied", "plain"))
    store.close()
    assert data.values.tolist() == [1.0] * 12
    assert scores(pairs, found, question, "prefer", ("plain", "varied")).values.mean() == -1


def test_the_last_answer_counts_and_corrections_are_counted(pairs):
    def decide(slot, trial):
        return attentive(trial, ["prefer"]) if trial.kind == "check" else choose("varied", trial)

    store = answered(pairs, decide)
    person = store.raters()[0]
    trial = next(t for t in pairs.assignment.sessions[person.slot] if t.kind == "main")
    store.add(person, trial.position, "again", choose("plain", trial), [], [], corrects=0)
    result = analyse(pairs, store, mixed=False)
    store.close()
    assert result["people"]["corrected"] == 1
    assert result["planned"][0]["mean"] == pytest.approx((-11 + 1) / 12)


def test_what_was_not_planned_is_named_exploratory_and_not_tested_with_the_rest(tmp_path):
    wanted = {"question": "variety", "item": "varied", "arms": ["varied", "plain"]}
    plan = planned(tmp_path / "s", questions=[SETS], raters=RULES, analysis={
        "resamples": 200, "planned": [wanted]})  # fmt: skip

    def decide(slot, trial):
        if trial.kind == "check":
            return attentive(trial, ["varied", "keep"])
        place = ("first", "second")[trial.labels.index("varied")]
        return {"varied": place, "keep": "tie"}

    store = answered(plan, decide)
    result = analyse(plan, store, mixed=False)
    store.close()
    assert [(e["item"], e["mean"]) for e in result["planned"]] == [("varied", 1.0)]
    assert [e["item"] for e in result["exploratory"]] == ["keep"]
    assert "p_holm" not in result["exploratory"][0]


def test_a_planned_comparison_without_answers_still_counts_among_those_corrected_for(tmp_path):
    plan = planned(tmp_path / "s", questions=[PAIR, SETS], raters=RULES, analysis={
        "resamples": 200,
        "planned": [{"question": q, "item": i, "arms": ["varied", "plain"]}
                    for q, i in (("preference", "prefer"), ("variety", "varied"))]})  # fmt: skip

    def decide(slot, trial):
        items = ["prefer"] if trial.question == "preference" else ["varied", "keep"]
        if trial.kind == "check":
            return attentive(trial, items)
        place = ("first", "second")[trial.labels.index("varied")]
        return dict.fromkeys(items, place)

    store = answered(plan, decide)
    with store._engine.begin() as connection:  # nobody came to the second question
        for slot, session in enumerate(plan.assignment.sessions):
            for trial in session:
                if trial.question == "variety":
                    mine = (answers.c.rater == slot + 1) & (answers.c.position == trial.position)
                    connection.execute(delete(answers).where(mine))
    result = analyse(plan, store, mixed=False)
    store.close()
    first, second = result["planned"]
    assert "there are no answers" in second["reason"]
    assert first["p_holm"] == pytest.approx(2 * first["p"])


def test_abx_counts_right_answers_against_one_half(tmp_path):
    rules = RULES | {"attention_checks": 0}
    plan = planned(tmp_path / "s", questions=[ABX], raters=rules)

    def decide(slot, trial):
        right = trial.labels.index(trial.labels[2])
        return {"x": ("first", "second")[right if trial.prompt else 1 - right]}

    store = answered(plan, decide)
    result = analyse(plan, store, mixed=False)
    store.close()
    # Three of the four prompts are always right, one is always wrong: 3/4 - 1/2.
    (entry,) = result["planned"]
    assert (entry["mean"], entry["unit"]) == (0.25, "right answers above one half")
    assert result["agreement"][0]["alpha"] == 1.0  # both raters of a prompt are right, or wrong


def test_too_few_answers_are_a_reason_and_none_an_error(pairs):
    store = answered(pairs, lambda slot, trial: None)
    with pytest.raises(InputError, match="nobody has answered yet"):
        analyse(pairs, store)
    store.close()
    (pairs.folder / "answers.sqlite").unlink()

    def one_person(slot, trial):
        if slot:
            return None
        return attentive(trial, ["prefer"]) if trial.kind == "check" else choose("varied", trial)

    store = answered(pairs, one_person)
    result = analyse(pairs, store, mixed=False)
    store.close()
    (entry,) = result["planned"]
    assert "two raters and two prompts, got 1" in entry["reason"]
    assert result["people"]["finished"] == 1
