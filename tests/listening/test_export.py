"""The csv: all answers, and nothing about a person."""

import csv

import pytest

from musicgen_rl.errors import ConfigError, InputError
from musicgen_rl.listening.export import COLUMNS, export_csv
from tests.listening.stored import answered, attentive, inattentive, planned
from tests.listening.studies import MUSHRA, PAIR, SETS

RULES = {"count": 4, "practice": 1, "attention_checks": 1, "repeats": 1, "minimum_listening_s": 0}


def decide(slot, trial):
    if trial.question == "grades":
        return {"grade": [10 * n for n in range(len(trial.stimuli))]}
    if trial.kind == "check":
        return attentive(trial, ["prefer"])
    return {"prefer": "first"}


@pytest.fixture
def study(tmp_path):
    arms = {"plain": {"audio": "a"}, "varied": {"audio": "b"}, "ideal": {"audio": "c"}}
    plan = planned(tmp_path / "s", questions=[PAIR, MUSHRA], arms=arms, reference="ideal",
                   raters=RULES, prompts=["a comma, and \"quotes\"", *map(str, range(7))],
                   )  # fmt: skip
    store = answered(plan, decide)
    yield plan, store, tmp_path / "answers.csv"
    store.close()


def read(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_every_answer_is_a_row_that_can_be_read_back(study):
    plan, store, path = study
    count = export_csv(plan, store, path)
    rows = read(path)
    assert tuple(rows[0]) == COLUMNS
    assert count == len(rows) == sum(map(len, plan.assignment.sessions))
    assert {row["text"] for row in rows if row["prompt"] == "1"} == {'a comma, and "quotes"'}
    grades = next(row for row in rows if row["question"] == "grades" and row["kind"] == "main")
    assert len(grades["shown"].split()) == len(grades["value"].split()) == 5
    assert {row["kind"] for row in rows} == {"practice", "main", "repeat", "check"}
    pair = [row for row in rows if row["question"] == "preference" and row["kind"] == "main"]
    chosen = [row["shown"].split()[0] for row in pair]  # "first", whatever stood there
    assert chosen.count("plain") == chosen.count("varied")


def test_an_export_is_written_anew_and_no_other_file_is(study):
    plan, store, path = study
    for _ in range(2):
        assert export_csv(plan, store, path) == len(read(path))
    for name, content in (("study.yaml", "name: mine\n"), ("empty", ""), ("bytes", "\x00")):
        other = path.with_name(name)
        other.write_text(content)
        with pytest.raises(ConfigError, match=f"{name}' is no export: name another file"):
            export_csv(plan, store, other)
        assert other.read_text() == content


def test_a_check_tells_by_which_item_it_went_and_how(tmp_path):
    rules = RULES | {"attention_checks": 2}
    plan = planned(tmp_path / "s", questions=[SETS], raters=rules)

    def one_of_two(slot, trial):
        if trial.kind == "check":
            return (inattentive if slot == 1 else attentive)(trial, ["varied", "keep"])
        return {"varied": "tie", "keep": "tie"}

    store = answered(plan, one_of_two)
    export_csv(plan, store, tmp_path / "answers.csv")
    store.close()
    rows = read(tmp_path / "answers.csv")
    told = [(row["kind"], row["item"], row["check"]) for row in rows if row["check"]]
    assert sorted(told) == sorted(
        [("check", "varied", "passed")] * 2 * 3 + [("check", "varied", "failed")] * 2
    )


def test_raters_are_numbers_that_lead_to_nobody(study):
    plan, store, path = study
    orders = set()
    for _ in range(20):
        export_csv(plan, store, path)
        text = path.read_text()
        for person in store.raters():
            assert person.code not in text
        assert {row["rater"] for row in read(path)} == {"1", "2", "3", "4"}
        # Which session got which number; in a random order each time.
        orders.add(tuple(row["text"] for row in read(path) if row["trial"] == "2"))
    assert len(orders) > 1


def test_who_asked_to_be_deleted_is_in_no_table_afterwards(study):
    plan, store, path = study
    export_csv(plan, store, path)
    before = len(read(path))
    person = store.raters()[1]
    gone = store.delete_rater(person.code).answers
    assert gone == len(plan.assignment.sessions[person.slot])
    export_csv(plan, store, path)
    assert len(read(path)) == before - gone
    assert {row["rater"] for row in read(path)} == {"1", "2", "3"}
    with pytest.raises(InputError, match="no rater with the code"):
        store.delete_rater(person.code)
    # The link of a deleted rater opens nothing, and the invitation stays used.
    assert person.code not in [rater.code for rater in store.raters()]
    assert store.progress()["agreed"] == 3
