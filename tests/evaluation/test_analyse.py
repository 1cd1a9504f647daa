"""The whole machinery on planted truths: ranked right, null where there is nothing."""

import numpy as np
import pytest

from musicgen_rl.errors import ConfigError, InputError
from musicgen_rl.evaluation.analyse import Results, StatisticsConfig, analyse
from musicgen_rl.evaluation.arms import Arm, default_arms
from musicgen_rl.evaluation.bootstrap import FEW_DRAWS, draw_prompts
from musicgen_rl.evaluation.claims import Check
from musicgen_rl.evaluation.measures import (
    FRECHET_DRAWS,
    describe,
    estimate_arm,
    table_centres,
)
from musicgen_rl.evaluation.real import RealSet
from musicgen_rl.evaluation.table import EMBEDDING, build_table
from tests.evaluation.synthetic import IDENTITIES, Planted, planted_rows, prompts_of

FEW = StatisticsConfig(draws=2000)


def run(truths: dict[str, Planted], arms: list[Arm] | None = None, **size: int) -> Results:
    rows = planted_rows(truths, **size)
    listed = arms or [Arm(name=n) for n in truths]
    table = build_table(rows, [a.name for a in listed], prompts_of(rows))
    return analyse(table, listed, listed[0].name, FEW)


def test_planted_diversity_and_adherence_are_ranked_right() -> None:
    truths = {
        "plain": Planted(0.5, 0.2), "diverse": Planted(0.9, 0.2), "good": Planted(0.5, 0.5),
        "narrow": Planted(0.2, 0.2),
    }  # fmt: skip
    found = run(truths)
    values = {n: e["diversity_report"].value for n, e in found.estimates.items()}
    assert values["narrow"] < values["plain"] < values["diverse"]
    assert abs(values["good"] - values["plain"]) < 0.05
    p = found.p_values
    assert p["diverse"]["diversity_report"][1] < 0.02
    assert p["diverse"]["adherence_report"][1] > 0.05
    assert p["good"]["adherence_report"][1] < 0.02
    assert p["good"]["diversity_report"][1] > 0.05
    vendi = {n: e["vendi_report"].value for n, e in found.estimates.items()}
    assert 1 < vendi["narrow"] < vendi["plain"] < vendi["diverse"] < 4


def test_an_a_a_comparison_is_null_in_95_of_100_simulations() -> None:
    """Two arms of one truth, 200 times: the 95 % interval of their difference holds 0."""
    draws, held, sure = draw_prompts(24, 1000), {"a": 0, "d": 0}, 0
    for seed in range(200):
        rows = planted_rows({"a": Planted(0.5, 0.0), "b": Planted(0.5, 0.0)}, 24, 3, seed)
        table = build_table(rows, ["a", "b"], prompts_of(rows))
        centres = table_centres(table, None)
        one, two = (estimate_arm(table, i, draws, centres, None) for i in (0, 1))
        for key, measure in (("a", "adherence_report"), ("d", "diversity_report")):
            difference = two[measure] - one[measure]
            low, high = difference.interval(0.95)
            held[key] += low <= 0 <= high
            sure += difference.p_two_sided() < 0.05
    # 200 fair trials of 95 % lie in 181..199 with probability 0.998.
    assert 181 <= held["a"] <= 199
    assert 181 <= held["d"] <= 199
    assert 2 <= sure <= 40


def test_a_distance_that_differs_is_found_among_twenty_arms_and_no_other() -> None:
    truths = {name: Planted(0.5, 0.0) for name in (*(f"arm {i}" for i in range(19)), "far")}
    rows = planted_rows(truths, prompts=30, clips=2)
    for row in rows:
        row[EMBEDDING + "report"][0] += 2.0 * (row["arm"] == "far")
    table = build_table(rows, list(truths), prompts_of(rows))
    real = planted_rows({"real": Planted(0.5, 0.0)}, prompts=30, clips=4, seed=1)
    features = {"report": np.array([r[EMBEDDING + "report"] for r in real], dtype=np.float64)}
    found = analyse(
        table, [Arm(name=n) for n in truths], "arm 0", FEW,
        RealSet(features, {}, {}, IDENTITIES, 4.0, "real.jsonl: 120 pieces"),
    )  # fmt: skip
    assert len(found.estimates["far"]["frechet_report"].draws) == FRECHET_DRAWS < FEW_DRAWS
    p = {arm: own["frechet_report"][1] for arm, own in found.p_values.items()}
    assert [arm for arm, holm_p in p.items() if holm_p < 0.05] == ["far"]


def test_pairing_by_prompt_shows_what_the_spread_between_prompts_would_hide() -> None:
    found = run({"a": Planted(0.5, 0.0), "b": Planted(0.5, 0.1)})
    own = found.estimates["b"]["adherence_report"].interval()
    difference = found.differences["b"]["adherence_report"].interval()
    assert own[1] - own[0] > 2 * (difference[1] - difference[0])
    assert difference[0] > 0


def test_noise_raises_diversity_and_takes_the_share_of_prompts_down() -> None:
    found = run({"plain": Planted(0.4, 0), "noise": Planted(8.0, 0)}).estimates
    assert found["noise"]["diversity_report"].value > found["plain"]["diversity_report"].value
    assert found["plain"]["share_report"].value > 0.5
    assert abs(found["noise"]["share_report"].value) < 0.05


def test_the_centre_is_that_of_all_arms_and_never_of_one() -> None:
    rows = planted_rows({"a": Planted(0.5, 0), "b": Planted(0.5, 0)})
    table = build_table(rows, ["a", "b"], prompts_of(rows))
    centre = table_centres(table, None)["report"]
    assert centre == pytest.approx(table.embeddings["report"].mean(axis=0))
    real = {"report": np.ones((5, 24))}
    assert table_centres(table, real)["report"].tolist() == [1.0] * 24


def test_single_clips_and_too_few_prompts_are_refused() -> None:
    with pytest.raises(InputError, match="'a' has a prompt with 1 clip"):
        run({"a": Planted(0.5, 0)}, clips=1)
    with pytest.raises(InputError, match="5 prompts are too few"):
        run({"a": Planted(0.5, 0)}, prompts=5)
    with pytest.raises(ConfigError, match="draws"):
        StatisticsConfig(draws=10)
    rows = planted_rows({"a": Planted(0.5, 0)})
    with pytest.raises(InputError, match="'b' has no clips"):
        build_table(rows, ["a", "b"], prompts_of(rows))


def dialled(**changes: Planted) -> dict[str, Planted]:
    """A world in which every claim is true, unless changed."""
    truths = {
        "base": Planted(0.9, 0.0), "guidance 1.25": Planted(0.8, 0.1),
        "guidance 1.5": Planted(0.7, 0.2), "guidance 2": Planted(0.5, 0.4),
        "guidance 3": Planted(0.3, 0.6), "temperature 0.9": Planted(0.8, 0.0),
        "temperature 1.1": Planted(0.95, -0.2), "temperature 1.2": Planted(1.0, -0.4),
        "top-p 0.9": Planted(0.8, 0.0), "quality": Planted(0.3, 0.65),
        "merge 0.25": Planted(0.55, 0.64), "merge 0.5": Planted(0.75, 0.6),
        "merge 0.75": Planted(0.95, 0.5), "diversity": Planted(1.2, 0.25),
        "slerp 0.5": Planted(0.75, 0.6), "liti 0.5": Planted(0.75, 0.3),
        "merge 0.5 at guidance 1.5": Planted(0.6, 0.6), "base with quality 0.5": Planted(0.6, 0.35),
        "beta0": Planted(0.3, 0.62), "continued": Planted(0.9, 0.02),
    }  # fmt: skip
    return truths | changes


def verdicts(truths: dict[str, Planted], prompts: int = 40) -> dict[str, str]:
    arms = default_arms(dial=True, beta0="b", continued="c")
    return {c.name: c.verdict for c in run(truths, arms, prompts=prompts, clips=6).claims}


def test_every_claim_holds_in_a_world_where_it_is_true() -> None:
    found = verdicts(dialled())
    assert found == dict.fromkeys(found, "holds")
    assert len(found) == 7


def test_claims_do_not_hold_in_worlds_where_they_are_false() -> None:
    weak = verdicts(dialled(quality=Planted(0.3, 0.3)))
    assert weak["distilled ~ guided"] == "fails"
    assert verdicts(dialled(**{"guidance 3": Planted(1.1, 0.6)}))["guidance narrows"] == "fails"
    dead = verdicts(dialled(diversity=Planted(0.2, 0.6)))
    assert dead["reward widens"] == "fails"
    assert dead["the dial is a dial"] == "fails"
    rival = verdicts(dialled(base=Planted(1.3, 0.9), **{"guidance 1.5": Planted(0.7, 0.9)}))
    assert rival["rivals beaten"] == "fails"
    assert rival["merging pays"] != "holds"
    for name in ("base with quality 0.5", "beta0", "continued"):
        control = verdicts(dialled(**{name: Planted(0.8, 0.8)}))
        assert control["controls beaten"] == "fails"
    barrier = verdicts(dialled(**{"merge 0.5": Planted(0.75, 0.1)}))
    assert barrier["the dial is a dial"] == "fails"


def test_p_values_stay_below_one_however_many_are_tried() -> None:
    arms = default_arms(dial=True, beta0="b", continued="c")
    worst = dialled(**{f"merge {lam}": Planted(0.3, -0.5) for lam in (0.25, 0.5, 0.75)})
    checks = [c for claim in run(worst, arms, prompts=40).claims for c in claim.checks]
    assert max(c.p for c in checks) == 1.0
    assert {c.threshold for c in checks} == {0.0}
    assert min(c.p for c in checks) >= 0.0


@pytest.mark.parametrize("shift", [-2.0, 1.0])
def test_where_a_scorer_has_its_zero_decides_no_claim(shift: float) -> None:
    moved = {n: Planted(t.spread, t.adherence + shift) for n, t in dialled().items()}
    found = verdicts(moved)
    assert found == dict.fromkeys(found, "holds")


def test_the_share_of_guidances_gain_that_is_kept_is_told_only_where_there_is_a_gain() -> None:
    arms = default_arms(dial=True, beta0="b", continued="c")

    def note(**changes: Planted) -> str:
        claims = run(dialled(**changes), arms, prompts=40).claims
        return next(c.note for c in claims if c.name == "distilled ~ guided")

    # Base 0.3, guidance 0.6, quality 0.54: 0.24 of 0.3 is kept.
    kept = note(base=Planted(0.9, 0.3), quality=Planted(0.3, 0.54))
    share = float(kept.split("adherence_report: ")[1].split(" of the gain")[0])
    assert share == pytest.approx(0.8, abs=0.1)
    assert "nothing to keep" in note(base=Planted(0.9, 0.6))


def test_a_control_is_beaten_below_the_line_or_where_it_adds_no_diversity() -> None:
    """The same steps without the reward may play better than the quality end, and no wider."""
    arms = default_arms(dial=True, beta0="b", continued="c")

    def of(control: Planted) -> dict[str, Check]:
        found = run(dialled(beta0=control), arms, prompts=40, clips=6).claims
        claim = next(c for c in found if c.name == "controls beaten")
        return {c.what: c for c in claim.checks if "beta0" in c.what and "adherence" in c.what} | {
            c.what: c for c in claim.checks if c.what.startswith("beta0")
        }

    better = of(Planted(0.28, 0.9))  # above every point of the line, as narrow as the quality end
    assert [c.verdict for c in better.values()] == ["holds"]
    assert next(iter(better)) == "beta0: diversity short of 25% of what the dial adds"
    below = of(Planted(0.9, 0.1))  # as wide as the dial, and worse
    assert [c.verdict for c in below.values()] == ["holds"]
    assert next(iter(below)).startswith("adherence_report: merge line - beta0")
    same = of(Planted(0.75, 0.6))  # a place on the line
    assert [c.verdict for c in same.values()] == ["open"]


def test_rivals_are_beaten_only_where_all_of_them_were_played() -> None:
    arms = [a for a in default_arms(dial=True) if a.name not in ("guidance 1.25", "guidance 2")]
    truths = {n: t for n, t in dialled().items() if n in {a.name for a in arms}}
    claim = next(c for c in run(truths, arms, prompts=40).claims if c.name == "rivals beaten")
    assert {c.verdict for c in claim.checks} == {"holds"}
    assert claim.verdict == "open"
    assert claim.note == "not there: guidance 1.25, guidance 2"


def test_claims_without_their_arms_are_not_tested_and_say_what_is_missing() -> None:
    arms = default_arms(dial=False)
    truths = {n: t for n, t in dialled().items() if n in {a.name for a in arms}}
    claims = {c.name: c for c in run(truths, arms).claims}
    assert claims["guidance narrows"].verdict == "holds"
    assert claims["merging pays"].verdict == "not tested"
    assert "merge line" in claims["merging pays"].note
    bare = [a for a in default_arms(dial=True) if a.family != "control"]
    alone = {n: t for n, t in dialled().items() if n in {a.name for a in bare}}
    claim = next(c for c in run(alone, bare).claims if c.name == "controls beaten")
    assert claim.verdict == "not tested"
    assert "the controls" in claim.note
    some = default_arms(dial=True)
    partly = {n: t for n, t in dialled().items() if n in {a.name for a in some}}
    controls = next(c for c in run(partly, some, prompts=40).claims if c.name == "controls beaten")
    assert controls.verdict == "open"
    assert "beta-0, continued" in controls.note


def test_areas_tell_the_merge_line_from_the_sweeps_it_beats() -> None:
    arms = default_arms(dial=True)
    truths = {n: t for n, t in dialled().items() if n in {a.name for a in arms}}
    front = run(truths, arms).fronts[0]
    assert (front.x, front.y) == ("diversity_report", "adherence_report")
    assert front.areas["merge"].value > front.areas["guidance"].value
    assert front.area_gains["guidance"].interval()[0] > 0
    assert "merge 0.5" in front.undominated
    assert "base" not in front.undominated
    test = next(t for t in front.tests if t["arm"] == "merge 0.5")
    assert test["p_undominated"] < 0.02
    assert test["p_dominates"]["guidance 2"] < 0.02
    assert test["p_dominates"]["temperature 1.2"] > 0.05  # it is more diverse


@pytest.mark.parametrize(
    "key", ["adherence_report", "kid_training", "diversity_clap", "share_report", "silent"]
)
def test_every_measure_is_said_in_a_sentence(key: str) -> None:
    about = describe(key)
    assert about.says.endswith(".")
    assert ("training saw it" in about.says) == key.endswith("training")
