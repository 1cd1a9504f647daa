"""Planted effects, played through the real pages, are found as often as the plan promised."""

import json

import pytest
import yaml
from scipy import stats

from app.listening.simulation import simulate_study
from musicgen_rl.listening.plan import make_plan
from musicgen_rl.listening.power import power
from musicgen_rl.listening.raters import RaterModel
from tests.listening.studies import PAIR, content

STUDIES = 20
RATERS = {"count": 8, "practice": 0, "attention_checks": 0, "repeats": 0, "minimum_listening_s": 0,
          "headphones": False}  # fmt: skip


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("effect", [0.0, 0.7])
def test_effects_are_found_at_the_planned_power(tmp_path, effect):
    model = RaterModel(effects={"plain": effect}, careless=0.0)
    text = yaml.safe_dump(content(questions=[PAIR | {"prompts": 8, "raters_per_prompt": 4}],
                                  raters=RATERS), sort_keys=False)  # fmt: skip
    found, naive = 0, 0
    for seed in range(STUDIES):
        folder = tmp_path / str(seed)
        folder.mkdir()
        (folder / "study.yaml").write_text(text)
        simulate_study(folder, model, seed=seed, mixed=False)
        (entry,) = json.loads((folder / "report.json").read_text())["planned"]
        assert entry["n"] == 32
        found += entry["found"]
        naive += entry["naive_p"] < 0.05
    plan = make_plan(tmp_path / "0")
    (row,) = power(plan.study, plan.assignment, [effect], model=model, runs=2000)
    # Once in a thousand studies of this kind chance alone would leave this range.
    low, high = stats.binom.ppf([0.0005, 0.9995], STUDIES, row["power"])
    assert low <= found <= high, (found, row)
    assert found <= naive  # independence only pretends to know more
    if effect:
        assert 0.3 < row["power"] < 0.95
    else:
        assert row["power"] < 0.08
