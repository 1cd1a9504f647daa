"""Estimates: by hand, against scipy and statsmodels, and against the truth in simulations."""

import itertools

import numpy as np
import pytest
from scipy import stats

from musicgen_rl.errors import ConfigError, InputError
from musicgen_rl.evaluation import analyse, bootstrap, claims, compare
from musicgen_rl.evaluation.bootstrap import (
    FEW_DRAWS,
    Estimate,
    combine,
    draw_prompts,
    mean_estimate,
    pair_estimate,
)
from musicgen_rl.listening import analysis, power
from musicgen_rl.listening.crossed import holm


def test_every_draw_takes_as_many_prompts_as_there_are() -> None:
    draws = draw_prompts(9, 50, seed=3)
    assert draws.shape == (50, 9)
    assert np.array_equal(draws.sum(axis=1), np.full(50, 9))
    assert np.array_equal(draws, draw_prompts(9, 50, seed=3))
    assert not np.array_equal(draws, draw_prompts(9, 50, seed=4))


def test_too_few_prompts_are_refused_with_their_number() -> None:
    with pytest.raises(InputError, match="5 prompts are too few"):
        draw_prompts(5, 10)


def test_the_mean_by_hand() -> None:
    draws = np.array([[1, 1, 1, 1, 1, 1], [6, 0, 0, 0, 0, 0], [0, 0, 0, 3, 3, 0.0]])
    found = mean_estimate(np.array([1.0, 2, 3, 4, 5, 6]), draws)
    assert found is not None
    assert found.value == 3.5
    assert found.draws.tolist() == [3.5, 1.0, 4.5]
    assert found.prompts == 6


def test_prompts_without_a_value_are_left_out_of_value_and_draws() -> None:
    values = np.array([1.0, 2, 3, 4, 5, 6, np.nan])
    found = mean_estimate(values, np.array([[0, 0, 1, 0, 0, 0, 6.0]]))
    assert found is not None
    assert (found.value, found.draws[0], found.prompts) == (3.5, 3.0, 6)
    assert mean_estimate(np.array([1.0, 2, 3, 4, 5, np.nan]), draw_prompts(6, 5)) is None


def test_the_interval_is_as_wide_as_students_for_plain_numbers() -> None:
    values = np.random.default_rng(0).normal(size=12)
    found = mean_estimate(values, draw_prompts(12, 40_000))
    assert found is not None
    low, high = found.interval(0.95)
    own = stats.t.interval(0.95, 11, loc=values.mean(), scale=stats.sem(values))
    assert high - low == pytest.approx(own[1] - own[0], rel=0.06)
    narrow = found.interval(0.8)
    assert low < narrow[0] < narrow[1] < high


def test_p_values_are_close_to_students() -> None:
    values = np.random.default_rng(1).normal(loc=0.5, size=16)
    found = mean_estimate(values, draw_prompts(16, 40_000))
    assert found is not None
    own = stats.ttest_1samp(values, 0.0, alternative="greater").pvalue
    assert found.p_not_above() == pytest.approx(own, abs=0.012)
    assert found.p_two_sided() == pytest.approx(2 * own, abs=0.024)
    assert found.p_not_above(values.mean()) == pytest.approx(0.5, abs=0.06)
    assert found.p_not_above(5.0) > 0.999


def test_draws_that_are_all_alike_are_certain_only_where_they_differ() -> None:
    same = Estimate(0.0, np.zeros(100), 10)
    assert same.p_two_sided() == pytest.approx(1.0)
    assert same.interval() == (0.0, 0.0)
    assert Estimate(1.0, np.ones(100), 10).p_not_above() < 0.02


def test_few_draws_give_students_p_and_not_the_least_that_they_can_count() -> None:
    values = np.random.default_rng(1).normal(loc=0.5, size=16)
    found = mean_estimate(values, draw_prompts(16, 400))
    assert found is not None
    for loc in (-0.2, 0.0, 0.5):
        own = stats.ttest_1samp(values, loc, alternative="greater").pvalue
        assert found.p_not_above(loc) == pytest.approx(own, rel=0.3, abs=1e-3)
    far = mean_estimate(values + 5.0, draw_prompts(16, 100))
    assert far is not None
    assert holm([far.p_two_sided()] * 19)[0] < 1e-6
    assert far.p_not_above(20.0) > 1 - 1e-6
    reaches_nowhere = Estimate(1.0, np.r_[np.full(150, -np.inf), np.ones(150)], 16)
    assert reaches_nowhere.p_not_above() == pytest.approx(0.5, abs=0.01)
    # Many draws are counted: 1.5 % of them lie below 0, however far.
    skewed = Estimate(1.0, np.r_[np.full(30, -9.0), np.ones(1970)], 16)
    assert skewed.p_not_above() == pytest.approx(0.0265, abs=0.005)
    just = Estimate(1.0, np.r_[np.full(15, -9.0), np.ones(FEW_DRAWS - 15)], 16)
    assert just.p_not_above() == pytest.approx(0.0265, abs=0.005)


def test_a_p_value_of_few_draws_is_students_of_value_over_spread() -> None:
    # Spread 1 over draws of 6 prompts, which is sqrt(6 / 5) over samples of 6.
    found = Estimate(1.5, np.array([0.0, 1.0, 2.0]), 6)
    assert found.p_not_above() == pytest.approx(stats.t.sf(1.5 / np.sqrt(6 / 5), 5))
    assert found.p_not_above(0.5) == pytest.approx(stats.t.sf(1.0 / np.sqrt(6 / 5), 5))
    assert found.p_two_sided(2.5) == pytest.approx(2 * stats.t.sf(1.0 / np.sqrt(6 / 5), 5))


def test_differences_are_paired_by_draw() -> None:
    draws = draw_prompts(20, 500)
    prompts = np.random.default_rng(2).normal(scale=10.0, size=20)
    a, b = mean_estimate(prompts + 0.1, draws), mean_estimate(prompts, draws)
    assert a is not None
    assert b is not None
    low, high = (a - b).interval()
    assert low == pytest.approx(0.1)
    assert high == pytest.approx(0.1)
    assert (a - 1.0).value == pytest.approx(a.value - 1.0)
    assert (a + b).value == pytest.approx(a.value + b.value)
    assert (a * 2.0).draws == pytest.approx(2 * a.draws)
    assert (a / b).draws == pytest.approx(a.draws / b.draws)


def test_estimates_of_other_draws_do_not_mix() -> None:
    with pytest.raises(ConfigError, match=r"\[3, 4\] draws"):
        combine(lambda a, b: a + b, Estimate(0, np.zeros(3), 9), Estimate(0, np.zeros(4), 9))
    with pytest.raises(ConfigError, match="at least one"):
        combine(lambda a: a, 1.0)


def test_recentring_takes_the_bootstraps_bias_off_and_keeps_the_spread() -> None:
    found = Estimate(1.0, np.array([1.0, 2.0, 3.0]), 8)
    off = found.recentred()
    assert off.value == 0.0  # 1 - (2 - 1)
    assert off.draws.tolist() == [-1.0, 0.0, 1.0]
    assert found.recentred(5.0).draws.tolist() == [4.0, 5.0, 6.0]


def test_pairs_by_hand_and_by_counting_every_pair() -> None:
    generator = np.random.default_rng(5)
    prompt_of = np.array([0, 0, 0, 1, 1, 2, 2, 2])
    kernel = generator.normal(size=(8, 8))
    kernel = kernel + kernel.T
    sums, pairs = np.zeros((3, 3)), np.zeros((3, 3))
    for i, j in itertools.permutations(range(8), 2):
        sums[prompt_of[i], prompt_of[j]] += kernel[i, j]
        pairs[prompt_of[i], prompt_of[j]] += 1
    draws = np.array([[1.0, 1, 1], [2, 0, 1], [0, 3, 0]])
    found = pair_estimate(sums, pairs, draws)
    off = ~np.eye(8, dtype=bool)
    assert found.value == pytest.approx(kernel[off].mean())
    # Two of prompt 0, one of prompt 2: within twice, across twice in both directions.
    expected = (2 * sums[0, 0] + sums[2, 2] + 4 * sums[0, 2]) / (2 * 6 + 6 + 4 * 9)
    assert found.draws[1] == pytest.approx(expected)
    assert found.draws[2] == pytest.approx(sums[1, 1] / 2)  # copies are not paired


def test_a_draw_without_any_pair_is_the_value_itself() -> None:
    # Pairs across two prompts only: a draw of one prompt twice holds none.
    across = np.array([[0.0, 1.0], [1.0, 0.0]])
    found = pair_estimate(3.0 * across, 2.0 * across, np.array([[1.0, 1.0], [2.0, 0.0]]))
    assert found.value == 1.5
    assert found.draws.tolist() == [1.5, 1.5]


def test_evaluations_and_listening_studies_correct_by_one_function() -> None:
    users = (analyse, claims, compare, analysis, power)
    assert {id(module.holm) for module in users} == {id(holm)}
    assert not hasattr(bootstrap, "holm")


@pytest.mark.parametrize("prompts", [8, 30])
def test_intervals_hold_the_truth_about_as_often_as_they_say(prompts: int) -> None:
    generator, held = np.random.default_rng(prompts), 0
    draws = draw_prompts(prompts, 800)
    for _ in range(300):
        found = mean_estimate(generator.normal(size=prompts), draws)
        assert found is not None
        low, high = found.interval(0.9)
        held += low <= 0 <= high
    assert 0.85 <= held / 300 <= 0.95
