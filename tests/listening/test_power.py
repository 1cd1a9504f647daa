"""Power: the fast simulation is the slow one, and finds what is there."""

import numpy as np
import pytest

from musicgen_rl.errors import ConfigError
from musicgen_rl.listening.assignment import assign
from musicgen_rl.listening.power import layout, power, simulate_scores
from musicgen_rl.listening.raters import RaterModel, World
from musicgen_rl.listening.responses import Response, scores
from musicgen_rl.listening.study import Planned
from tests.listening.studies import ABX, MUSHRA, PAIR, RATING, SETS, small

THREE = {name: {"audio": name} for name in ("plain", "varied", "ideal")}
KINDS = {"rating": RATING, "pair": PAIR, "sets": SETS, "mushra": MUSHRA, "abx": ABX}


class OnlyPlan:
    """What `responses.scores` needs of a plan."""

    def __init__(self, study):
        self.study = study


def slowly(study, sessions, world):
    """Answer page by page, as the simulated people in front of the pages do."""
    found = []
    for slot, session in enumerate(sessions):
        for trial in session:
            if trial.kind == "main":
                question = study.question(trial.question)
                heard = [stimulus.clips for stimulus in trial.stimuli]
                values = world.answer(slot, question, heard, trial.position / len(session))
                found.append(Response(slot, trial, values, 1.0, 1, 0))
    return found


@pytest.mark.parametrize("kind", list(KINDS))
def test_fast_scores_are_distributed_as_those_of_raters_at_the_pages(kind):
    study = small(questions=[KINDS[kind]], arms=THREE,
                  reference="ideal" if kind == "mushra" else None)  # fmt: skip
    assignment = assign(study)
    planned = next(p for p in study.analysis.planned if set(p.arms) == {"plain", "varied"})
    plan = layout(study, assignment, planned)
    model = RaterModel(effects={planned.arms[0]: 0.6}, careless=0.2)
    rng = np.random.default_rng(1)
    fast, slow = [], []
    for _ in range(400):
        fast.append(simulate_scores(World(model, study, 4, rng), plan))
        answers = slowly(study, assignment.sessions, World(model, study, 4, rng))
        question = study.question(planned.question)
        data = scores(OnlyPlan(study), answers, question, planned.item, planned.arms)
        assert sorted(zip(data.raters, data.prompts, strict=True)) == sorted(
            zip(plan.raters, plan.prompts, strict=True)
        )
        slow.append(data.values)
    means = np.array([np.mean(fast, 1), np.mean(slow, 1)])  # [2, 400]
    # Means of studies: their mean within four standard errors, their spread within a sixth.
    error = np.sqrt((means.var(1) / 400).sum())
    assert abs(means[0].mean() - means[1].mean()) < 4 * error
    assert means[0].std() == pytest.approx(means[1].std(), rel=1 / 6)
    assert np.std(fast) == pytest.approx(np.std(slow), rel=0.08)


def test_nothing_is_found_where_nothing_is_and_much_where_much_is():
    study = small(questions=[PAIR | {"prompts": 8, "raters_per_prompt": 4}],
                  raters={"count": 8, "minimum_listening_s": 0})  # fmt: skip
    rows = power(study, assign(study), [0.0, 0.5, 3.0], runs=120)
    found = [row["power"] for row in rows]
    assert [row["effect"] for row in rows] == [0.0, 0.5, 3.0]
    assert found[0] <= 0.12  # 0.05 and three standard errors
    assert found[0] < found[1] < found[2]
    assert found[2] > 0.9
    assert rows[0]["se"] == pytest.approx(np.sqrt(found[0] * (1 - found[0]) / 120), abs=1e-4)


def test_correcting_for_more_comparisons_costs_power():
    study = small(questions=[RATING], raters={"count": 4, "minimum_listening_s": 0})
    for row in power(study, assign(study), [0.8], runs=60):
        assert row["power"] <= row["power_alone"]


def test_the_same_seed_gives_the_same_table():
    study = small(questions=[PAIR])
    tables = [power(study, assign(study), [1.5], runs=60, seed=seed) for seed in (1, 1, 2)]
    assert tables[0] == tables[1] != tables[2]


def test_no_planned_comparison_is_refused():
    study = small(analysis={"planned": []})
    with pytest.raises(ConfigError, match="no planned comparison"):
        power(study, assign(study), [0.5])


def test_a_layout_counts_each_rater_and_prompt_once():
    study = small(questions=[RATING])
    planned = Planned(question="scales", item="music", arms=("plain", "varied"))
    plan = layout(study, assign(study), planned)
    assert len(plan.raters) == 6 * 2
    assert len(set(zip(plan.raters.tolist(), plan.prompts.tolist(), strict=True))) == 12
    assert ((plan.share >= 0) & (plan.share < 1)).all()
