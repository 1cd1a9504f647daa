"""Balance, counted."""

import random
from collections import Counter
from itertools import pairwise

import pytest

from musicgen_rl.errors import ConfigError
from musicgen_rl.listening.assignment import (
    assign,
    describe_balance,
    expected_minutes,
    required_clips,
)
from musicgen_rl.listening.design import allocate, apart, split_evenly, williams
from tests.listening.studies import ABX, PAIR, small, with_all


def test_a_williams_square_of_four_by_hand():
    assert williams(4) == [[0, 1, 3, 2], [1, 2, 0, 3], [2, 3, 1, 0], [3, 0, 2, 1]]


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 6, 7])
def test_each_condition_follows_each_other_equally_often(count):
    rows = williams(count)
    follows = Counter(pair for row in rows for pair in pairwise(row))
    assert len(follows) == count * (count - 1)
    assert len(set(follows.values())) <= 1
    for column in zip(*rows, strict=True):
        assert len(set(Counter(column).values())) == 1


def test_no_conditions_are_refused():
    with pytest.raises(ConfigError):
        williams(0)


def test_units_are_judged_equally_and_work_is_equal():
    chosen = allocate(101, 3, 12, random.Random(1))
    assert {len(set(raters)) for raters in chosen} == {3}
    load = Counter(rater for raters in chosen for rater in raters)
    assert set(load.values()) <= {25, 26}
    assert chosen != allocate(101, 3, 12, random.Random(2))


@pytest.mark.parametrize("seed", range(20))
def test_both_colours_meet_equally_at_every_end(seed):
    rng = random.Random(seed)
    units = rng.randint(1, 20)
    per, raters = rng.randint(1, 5), rng.randint(5, 9)
    shared = allocate(units, per, raters, rng)
    edges = [(rater, unit) for unit, mine in enumerate(shared) for rater in mine]
    colours = split_evenly(edges, rng)
    assert abs(2 * sum(colours) - len(edges)) <= 1
    for side in (0, 1):
        for end in {edge[side] for edge in edges}:
            mine = [c for edge, c in zip(edges, colours, strict=True) if edge[side] == end]
            assert abs(2 * sum(mine) - len(mine)) == len(mine) % 2


def test_neighbours_are_of_different_groups_where_that_can_be():
    for seed in range(30):
        groups = ["a"] * 5 + ["b"] * 3 + ["c"] * 2
        order = apart(groups, random.Random(seed))
        assert sorted(order) == list(range(10))
        assert all(groups[i] != groups[j] for i, j in pairwise(order))
    assert len(apart(["a", "a", "b"], random.Random(0))) == 3
    assert apart([], random.Random(0)) == []


def test_the_same_study_gives_the_same_sessions_and_another_seed_others():
    assert assign(small()) == assign(small())
    assert assign(small(seed=2)) != assign(small())


def test_every_prompt_is_heard_in_both_orders_by_as_many():
    study = small()
    balance = describe_balance(study, assign(study))
    for counts in balance.values():
        assert counts["first_in_order"] == counts["second_in_order"]
        assert counts["largest_surplus_of_one_order_for_a_prompt"] == 0  # two raters a prompt
        assert counts["largest_surplus_of_one_order_for_a_rater"] <= 1
        assert counts["judgements_per_prompt_and_pair"] == [2, 2]


def test_ratings_put_each_arm_first_for_half_of_a_raters_prompts():
    study = small()
    for session in assign(study).sessions:
        first: dict[int, str] = {}
        for trial in session:
            if trial.question == "scales" and trial.kind == "main":
                first.setdefault(trial.prompt, trial.labels[0])
        counts = Counter(first.values())
        assert abs(counts["plain"] - counts["varied"]) <= 1
        assert len(first) == 3


def test_a_prompt_does_not_come_twice_in_a_row():
    study = with_all()
    for session in assign(study).sessions:
        main = [t for t in session if t.kind == "main" and t.question == "scales"]
        assert all(a.prompt != b.prompt for a, b in pairwise(main))


def test_checks_and_repeats_are_there_and_repeats_point_at_their_first():
    study = small()
    for session in assign(study).sessions:
        kinds = Counter(trial.kind for trial in session)
        assert (kinds["practice"], kinds["check"], kinds["repeat"]) == (2, 3, 2)
        assert [trial.position for trial in session] == list(range(len(session)))
        assert [trial.kind for trial in session[:2]] == ["practice", "practice"]
        for trial in session:
            if trial.kind == "repeat":
                first = session[trial.repeat_of]
                assert first.kind == "main"
                assert trial.position > first.position + 1
                assert (first.question, first.prompt) == (trial.question, trial.prompt)
                assert sorted(first.labels) == sorted(trial.labels)
                if len(first.labels) == 2:
                    assert first.labels == trial.labels[::-1]


def test_repeats_ask_the_first_half_again_in_the_second_and_not_at_once():
    for seed in range(10):
        for session in assign(small(seed=seed, raters={
            "count": 4, "practice": 1, "attention_checks": 2, "repeats": 5,
            "minimum_listening_s": 0,
        })).sessions:  # fmt: skip
            main = [trial.position for trial in session if trial.kind == "main"]
            repeats = [trial for trial in session if trial.kind == "repeat"]
            assert len(repeats) == len({trial.repeat_of for trial in repeats}) == 5
            for trial in repeats:
                before = sum(position < trial.position for position in main)
                assert before >= len(main) // 2 > main.index(trial.repeat_of)
                assert before >= main.index(trial.repeat_of) + 3


def test_practice_plays_prompts_of_its_own():
    study = small()
    practised = {t.prompt for s in assign(study).sessions for t in s if t.kind == "practice"}
    assert practised == {8}
    assert study.all_prompts[8] == "a tune to practise"


def test_x_is_each_of_the_two_equally_often():
    study = small(questions=[ABX])
    trials = [t for s in assign(study).sessions for t in s if t.kind == "main"]
    is_b = Counter(t.stimuli[2] == t.stimuli[1] for t in trials)
    assert is_b[True] == is_b[False] == 4
    assert all(t.stimuli[2] in t.stimuli[:2] for t in trials)


def test_mushra_hides_the_reference_and_both_anchors_among_the_arms():
    study = with_all()
    trials = [
        t for s in assign(study).sessions for t in s if t.question == "grades" and t.kind == "main"
    ]
    for trial in trials:
        assert sorted(trial.labels) == ["low", "mid", "plain", "reference", "varied"]
        assert trial.open_reference.clips[0].arm == "ideal"
    assert len({trial.labels for trial in trials}) > 2


def test_three_arms_give_three_pairs_of_each_prompt():
    arms = {name: {"audio": name} for name in ("one", "two", "three")}
    study = small(arms=arms, questions=[PAIR])
    counts = Counter(
        (t.prompt, frozenset(t.labels))
        for s in assign(study).sessions
        for t in s
        if t.kind == "main"
    )
    assert len(counts) == 6 * 3
    assert set(counts.values()) == {2}


def test_clips_are_listed_once_and_all_that_is_played():
    study = with_all()
    keys = required_clips(assign(study))
    assert len(keys) == len(set(keys))
    assert {key.treatment for key in keys} == {"", "damaged", "low", "mid"}
    played = [key for key in keys if key.arm == "plain" and key.prompt == 0]
    assert [key.index for key in played] == [0, 1, 2]  # three a group


def test_minutes_count_sound_and_answers():
    study = small(questions=[PAIR], raters={"count": 4, "practice": 0, "attention_checks": 0,
                                            "repeats": 0, "minimum_listening_s": 0})  # fmt: skip
    session = assign(study).sessions[0]
    assert len(session) == 3  # 6 prompts x 2 raters / 4
    want = 3 * (1.33 * 2 * 0.5 + 4) / 60
    assert expected_minutes(study, session) == pytest.approx(want)
