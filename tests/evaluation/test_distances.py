"""Distances to real clips: closed forms, scipy's matrix root, no bias at small numbers."""

import numpy as np
import pytest
from scipy import linalg

from musicgen_rl.errors import InputError
from musicgen_rl.evaluation.bootstrap import draw_prompts, mean_estimate, pair_estimate
from musicgen_rl.evaluation.distances import (
    Gaussian,
    frechet,
    frechet_estimate,
    frechet_extrapolated,
    kid_estimate,
    polynomial_kernel,
)
from musicgen_rl.evaluation.diversity import pair_tables

D = 8


def clips(count: int, seed: int, shift: float = 0.0, scale: float = 1.0) -> np.ndarray:
    return shift + scale * np.random.default_rng(seed).normal(size=(count, D))


def test_frechet_of_known_gaussians() -> None:
    a = Gaussian(np.zeros(2), np.diag([1.0, 4.0]))
    b = Gaussian(np.array([3.0, 4.0]), np.diag([4.0, 9.0]))
    # 25 for the means, (1 - 2)^2 + (2 - 3)^2 for the standard deviations.
    assert frechet(a, b) == pytest.approx(27.0)
    assert frechet(a, a) == pytest.approx(0.0, abs=1e-12)


def test_frechet_equals_the_formula_with_scipys_matrix_root() -> None:
    one = Gaussian.fit(clips(50, 0) @ clips(D, 5))
    other = Gaussian.fit(clips(60, 1, 0.3))
    root = np.real(linalg.sqrtm(one.covariance @ other.covariance))
    expected = np.sum((one.mean - other.mean) ** 2)
    expected += np.trace(one.covariance + other.covariance - 2 * root)
    assert frechet(one, other) == pytest.approx(expected)
    assert frechet(other, one) == pytest.approx(expected)


def test_weights_count_rows_as_often_as_they_say() -> None:
    rows = clips(12, 3)
    weights = np.array([0, 1, 2, 3] * 3, dtype=np.float64)
    repeated = np.repeat(rows, weights.astype(int), axis=0)
    by_weight, plain = Gaussian.fit(rows, weights), Gaussian.fit(repeated)
    assert by_weight.mean == pytest.approx(plain.mean)
    assert by_weight.covariance == pytest.approx(np.cov(repeated.T))


def test_extrapolation_takes_off_most_of_the_bias_of_few_clips() -> None:
    real = clips(20_000, 100)
    target = Gaussian.fit(real)
    plain = np.mean([frechet(Gaussian.fit(clips(60, s)), target) for s in range(8)])
    better = np.mean([frechet_extrapolated(clips(60, s), real, s) for s in range(8)])
    assert plain > 0.25
    assert abs(better) < plain / 3
    assert frechet_extrapolated(clips(60, 1, shift=1.0), real) == pytest.approx(D, rel=0.3)


def test_kid_is_zero_in_the_mean_for_the_same_distribution_and_grows_with_shift() -> None:
    real, prompt_of, draws = clips(400, 50), np.repeat(np.arange(8), 4), draw_prompts(8, 50)

    def kid(seed: int, shift: float = 0.0) -> float:
        return kid_estimate(clips(32, seed, shift), prompt_of, real, draws).value

    same = [kid(s) for s in range(30)]
    assert abs(np.mean(same)) < 2.5 * np.std(same) / np.sqrt(30)
    assert kid(0, 0.5) > max(same)
    assert kid(0, 1.0) > kid(0, 0.5)


def test_kid_equals_the_plain_formula() -> None:
    x, y = clips(40, 1, 0.2), clips(50, 2)
    scale = np.mean(np.sum(y**2, axis=1))
    kxx, kyy = (polynomial_kernel(a, a, scale) for a in (x, y))
    np.fill_diagonal(kxx, 0.0)
    np.fill_diagonal(kyy, 0.0)
    expected = kxx.sum() / (40 * 39) + kyy.sum() / (50 * 49)
    expected -= 2 * polynomial_kernel(x, y, scale).mean()
    found = kid_estimate(x, np.repeat(np.arange(10), 4), y, draw_prompts(10, 5))
    assert found.value == pytest.approx(expected)
    assert polynomial_kernel(np.array([[1.0, 1]]), np.array([[2.0, 0]]), 2.0).item() == 8.0


def test_kid_counts_every_clip_once_where_prompts_have_unequal_numbers() -> None:
    # Nine prompts of 2 clips and three of 24, whose homes are drawn as the real clips are.
    prompt_of, real = np.repeat(np.arange(12), [2] * 9 + [24] * 3), clips(200, 50)
    scale, n, m = np.mean(np.sum(real**2, axis=1)), len(prompt_of), len(real)
    x = clips(12, 7)[prompt_of] + 0.3 * clips(n, 8)
    draws = draw_prompts(12, 20)

    def textbook(rows: np.ndarray) -> float:
        kxx, kyy = (polynomial_kernel(a, a, scale) for a in (rows, real))
        within = (kxx.sum() - np.trace(kxx)) / (len(rows) * (len(rows) - 1))
        return float(
            within + (kyy.sum() - np.trace(kyy)) / (m * (m - 1))
            - 2 * polynomial_kernel(rows, real, scale).mean()
        )  # fmt: skip

    found = kid_estimate(x, prompt_of, real, draws)
    assert found.value == pytest.approx(textbook(x))
    once = np.zeros((1, 12))
    once[0, [0, 1, 2, 3, 4, 9]] = 1.0  # a draw of six prompts is those prompts' own distance
    of_these = kid_estimate(x, prompt_of, real, once).draws[0]
    assert of_these == pytest.approx(textbook(x[np.isin(prompt_of, [0, 1, 2, 3, 4, 9])]))


def test_kid_of_equal_numbers_is_the_mean_over_prompts_as_well() -> None:
    x, real, prompt_of = clips(36, 1, 0.2), clips(50, 2), np.repeat(np.arange(9), 4)
    scale, draws = np.mean(np.sum(real**2, axis=1)), draw_prompts(9, 30)
    kernel = polynomial_kernel(x, x, scale)
    own = pair_estimate(*pair_tables(kernel, prompt_of, 9), draws)
    kyy = polynomial_kernel(real, real, scale)
    fixed = (kyy.sum() - np.trace(kyy)) / (50 * 49)
    by_prompt = polynomial_kernel(x, real, scale).mean(axis=1).reshape(9, 4).mean(axis=1)
    between = mean_estimate(by_prompt, draws)
    assert between is not None
    found = kid_estimate(x, prompt_of, real, draws)
    assert found.value == pytest.approx(own.value + fixed - 2 * between.value, rel=1e-12)
    assert found.draws == pytest.approx(own.draws + fixed - 2 * between.draws, rel=1e-9)


def test_intervals_know_that_clips_of_a_prompt_move_together() -> None:
    real, generator = clips(300, 9), np.random.default_rng(0)
    prompt_of = np.repeat(np.arange(12), 6)
    homes = generator.normal(size=(12, D))[prompt_of]
    clustered = homes + 0.1 * clips(72, 3)
    draws = draw_prompts(12, 200)
    together = kid_estimate(clustered, prompt_of, real, draws)
    alone = kid_estimate(clips(72, 4), prompt_of, real, draws)
    assert np.std(together.draws) > 2 * np.std(alone.draws)
    distance = frechet_estimate(clustered, prompt_of, real, draws[:60])
    low, high = distance.interval()
    assert low < distance.value < high


@pytest.mark.parametrize("few", [(10, 400), (400, 10)])
def test_too_few_clips_are_refused(few: tuple[int, int]) -> None:
    with pytest.raises(InputError, match="10 clips"):
        frechet_extrapolated(clips(few[0], 0), clips(few[1], 1))
