"""The statistics recomputed by others: statsmodels, scipy on the textbook's formula, plain loops.

Nothing here shares code with the package: formulas are written out again as in their sources.
"""

from collections import defaultdict
from itertools import permutations

import numpy as np
import pytest
import statsmodels.api as sm
from scipy import optimize, stats
from statsmodels.stats.multitest import multipletests

from musicgen_rl.listening.agreement import krippendorff
from musicgen_rl.listening.crossed import estimate, holm, resample, two_way_se
from musicgen_rl.listening.paired import FIRST, SECOND, TIE, fit_paired, spread


def crossed_study(seed, *, raters=9, prompts=14, per_prompt=4):
    """Answers with effects of raters and prompts; each prompt judged by some raters only."""
    rng = np.random.default_rng(seed)
    of_rater, of_prompt = rng.normal(size=raters), 0.8 * rng.normal(size=prompts)
    r, p = [], []
    for prompt in range(prompts):
        for rater in rng.choice(raters, per_prompt, replace=False):
            r.append(rater)
            p.append(prompt)
    r, p = np.array(r), np.array(p)
    return 0.3 + of_rater[r] + of_prompt[p] + rng.normal(size=len(r)), r, p


# Krippendorff's alpha


def test_alpha_is_that_of_krippendorffs_examples_with_two_observers():
    # Krippendorff (2011), examples A (binary) and B (nominal): alpha 0.095 and 0.692.
    meg, owen = [0, 1, 0, 0, 0, 0, 0, 0, 1, 0], [1, 1, 1, 0, 0, 1, 0, 0, 0, 0]
    units = list(zip(meg, owen, strict=True))
    assert krippendorff(units, "nominal") == pytest.approx(0.095, abs=0.0005)
    ben, gerry = "aabbdcccedda", "babbbcccEddd".lower()
    units = [(ord(x), ord(y)) for x, y in zip(ben, gerry, strict=True)]
    assert krippendorff(units, "nominal") == pytest.approx(0.692, abs=0.0005)


def alpha_by_pairs(units, metric):
    """Observed over expected disagreement, every pair of values counted one by one."""
    units = [unit for unit in units if len(unit) > 1]
    values = [value for unit in units for value in unit]
    n = len(values)
    counts = {value: values.count(value) for value in values}

    def distance(c, k):
        if metric == "nominal":
            return float(c != k)
        if metric == "interval":
            return (c - k) ** 2
        low, high = sorted((c, k))
        between = sum(counts[g] for g in counts if low <= g <= high)
        return (between - (counts[c] + counts[k]) / 2) ** 2

    observed = sum(
        sum(distance(a, b) for a, b in permutations(unit, 2)) / (len(unit) - 1) for unit in units
    )
    expected = sum(distance(a, b) for a, b in permutations(values, 2)) / (n - 1)
    return 1 - observed / expected


@pytest.mark.parametrize("metric", ["nominal", "ordinal", "interval"])
@pytest.mark.parametrize("seed", range(4))
def test_alpha_is_that_of_all_pairs_counted_one_by_one(metric, seed):
    rng = np.random.default_rng(seed)
    units = []
    for _ in range(12):
        middle = rng.integers(1, 6)
        size = int(rng.integers(1, 6))
        units.append(np.clip(middle + rng.integers(-1, 2, size), 1, 5).tolist())
    assert krippendorff(units, metric) == pytest.approx(alpha_by_pairs(units, metric), abs=1e-12)


# Means over crossed raters and prompts


def errors_of_statsmodels(x, r, p):
    """Of the mean: clustered both ways, by raters, by prompts."""
    model = sm.OLS(x, np.ones(len(x)))
    return [
        float(model.fit(cov_type="cluster", cov_kwds={"groups": groups}).bse[0])
        for groups in (np.stack([r, p], 1), r, p)
    ]


def test_the_two_way_error_is_that_of_statsmodels_or_the_larger_one_way_one():
    floors = 0
    for seed in range(8):
        x, r, p = crossed_study(seed)
        both, *one_way = errors_of_statsmodels(x, r, p)
        floors += both < max(one_way)
        assert two_way_se(x - x.mean(), r, p) == pytest.approx(max(both, *one_way), rel=1e-9)
    assert 0 < floors < 8  # both cases were met


def drawn_by_loops(x, r, p, draws, seed):
    """Draw raters and prompts with replacement, and take each answer as often as both say."""
    rng = np.random.default_rng(seed)
    by_cell = defaultdict(list)
    for value, rater, prompt in zip(x, r, p, strict=True):
        by_cell[rater, prompt].append(value)
    raters, prompts = sorted(set(r.tolist())), sorted(set(p.tolist()))
    means = []
    for _ in range(draws):
        taken = []
        chosen = rng.choice(prompts, len(prompts))
        for rater in rng.choice(raters, len(raters)):
            for prompt in chosen:
                taken += by_cell.get((rater, prompt), [])
        means.append(np.mean(taken) if taken else np.mean(x))
    return np.array(means)


def test_the_crossed_bootstrap_and_its_interval_are_those_of_plain_loops():
    x, r, p = crossed_study(3)
    ours = resample(x, r, p, 20_000, np.random.default_rng(1))
    loops = drawn_by_loops(x, r, p, 6_000, 2)
    assert ours.mean() == pytest.approx(loops.mean(), abs=4 * loops.std() / np.sqrt(6_000))
    assert ours.std() == pytest.approx(loops.std(), rel=0.04)
    quantiles = [0.025, 0.1, 0.5, 0.9, 0.975]
    assert np.quantile(ours, quantiles) == pytest.approx(
        np.quantile(loops, quantiles), abs=0.08 * loops.std()
    )
    # The interval: the loops' quantiles around the mean, their spread brought to the robust error.
    result = estimate(x, r, p, draws=20_000)
    se = max(errors_of_statsmodels(x, r, p))
    df = min(len(set(r)), len(set(p))) - 1
    t = stats.t(df)
    factor = se * t.ppf(0.975) / 1.959964 / loops.std()
    want = x.mean() + factor * (np.quantile(loops, [0.025, 0.975]) - x.mean())
    assert (result.low, result.high) == pytest.approx(tuple(want), abs=0.1 * se)
    assert result.p == pytest.approx(2 * (1 - t.cdf(abs(x.mean()) / se)), rel=1e-6)
    naive = sm.stats.DescrStatsW(x)
    assert (result.naive_low, result.naive_high) == pytest.approx(naive.zconfint_mean(), rel=1e-6)
    assert result.naive_p == pytest.approx(naive.ztest_mean()[1], rel=1e-6)


@pytest.mark.parametrize("count", [1, 2, 5, 17])
def test_holm_is_that_of_statsmodels(count):
    rng = np.random.default_rng(count)
    for _ in range(5):
        p = rng.random(count) ** 3
        assert holm(p.tolist()) == pytest.approx(multipletests(p, method="holm")[1], abs=1e-12)


# Bradley-Terry and Davidson


def choices_with_ties(seed, n=900, arms=3):
    rng = np.random.default_rng(seed)
    strength, order, nu = np.array([0.6, 0.0, -0.4])[:arms], 0.35, 0.8
    first = rng.integers(0, arms, n)
    second = (first + rng.integers(1, arms, n)) % arms
    e, f = np.exp(strength[first] + order), np.exp(strength[second])
    shares = np.stack([e, f, nu * np.sqrt(e * f)], 1)
    shares /= shares.sum(1, keepdims=True)
    drawn = rng.random(n)[:, None] > shares.cumsum(1)
    outcome = np.array([FIRST, SECOND, TIE])[drawn.sum(1)]
    return first, second, outcome, rng.integers(0, 11, n), rng.integers(0, 23, n)


def davidson_beaver(theta, i, j, y):
    """The log-likelihood of one answer as Davidson and Beaver (1977) write it.

    theta: log worth of arms 1, 2, ... against arm 0; log gamma; log nu. P(i first and chosen) =
    pi_i / D, P(j) = gamma pi_j / D, P(tie) = nu sqrt(pi_i pi_j) / D.
    """
    worth = np.exp(np.concatenate([[0.0], theta[:-2]]))
    gamma, nu = np.exp(theta[-2]), np.exp(theta[-1])
    parts = {FIRST: worth[i], SECOND: gamma * worth[j], TIE: nu * np.sqrt(worth[i] * worth[j])}
    return np.log(parts[y] / sum(parts.values()))


def fitted_directly(first, second, outcome, arms):
    """Maximise that likelihood without derivatives."""
    cells = defaultdict(int)
    for key in zip(first, second, outcome, strict=True):
        cells[key] += 1

    def loss(theta):
        return -sum(count * davidson_beaver(theta, *key) for key, count in cells.items())

    options = {"xatol": 1e-9, "fatol": 1e-12, "maxiter": 20_000, "maxfev": 20_000}
    found = optimize.minimize(loss, np.zeros(arms + 1), method="Nelder-Mead", options=options)
    assert found.success
    return found.x


@pytest.mark.parametrize("seed", [0, 1])
def test_davidson_with_ties_and_order_is_the_maximum_of_the_textbooks_likelihood(seed):
    first, second, outcome, raters, prompts = choices_with_ties(seed)
    theta = fitted_directly(first, second, outcome, 3)
    fit = fit_paired(first, second, outcome, 3)
    want = np.concatenate([[0.0], theta[:2]])
    assert fit.strengths == pytest.approx(want - want.mean(), abs=1e-4)
    # Their gamma favours the second, and their nu stands beside pi_i alone.
    assert fit.order == pytest.approx(-theta[2], abs=1e-4)
    assert fit.log_tie == pytest.approx(theta[3] - theta[2] / 2, abs=1e-4)

    # Standard errors: the sandwich by finite differences, clusters summed in loops.
    step, size = 1e-4, len(theta)
    unit = np.eye(size) * step
    cells = sorted(set(zip(first, second, outcome, strict=True)))
    of_cell = [cells.index(x) for x in zip(first, second, outcome, strict=True)]

    def scores(at):
        of_cells = [
            [(davidson_beaver(at + u, *x) - davidson_beaver(at - u, *x)) / (2 * step) for u in unit]
            for x in cells
        ]
        return np.array(of_cells)[of_cell]  # [n, P]

    hessian = np.stack(
        [(scores(theta + u).sum(0) - scores(theta - u).sum(0)) / (2 * step) for u in unit]
    )
    each = -scores(theta) @ np.linalg.inv(hessian)  # [n, P]

    def clustered(direction):
        moves, found = each @ direction, []
        for groups in (raters, prompts, 1000 * raters + prompts):
            sums = defaultdict(float)
            for group, move in zip(groups, moves, strict=True):
                sums[group] += move
            count = len(sums)
            found.append(count / (count - 1) * sum(s**2 for s in sums.values()))
        by_rater, by_prompt, by_cell = found
        return np.sqrt(max(by_rater + by_prompt - by_cell, by_rater, by_prompt))

    # Arm 2 minus arm 1, and the order effect.
    _, influence = fit.difference(2, 1)
    got, _ = spread(influence, raters, prompts, 1.0)
    assert got == pytest.approx(clustered(np.array([-1.0, 1.0, 0.0, 0.0])), rel=0.01)
    got, p = spread(fit.influence[:, -1], raters, prompts, fit.order)
    want = clustered(np.array([0.0, 0.0, -1.0, 0.0]))
    assert got == pytest.approx(want, rel=0.01)
    assert p == pytest.approx(2 * stats.t.sf(abs(theta[2]) / want, 10), rel=0.05)


def test_bradley_terry_without_ties_is_statsmodels_logistic_regression():
    first, second, outcome, _, _ = choices_with_ties(4)
    kept = outcome != TIE
    first, second, outcome = first[kept], second[kept], outcome[kept]
    design = np.zeros((len(first), 3))
    for arm in (1, 2):
        design[:, arm - 1] = (first == arm).astype(float) - (second == arm)
    design[:, 2] = 1
    logit = sm.Logit((outcome == FIRST).astype(float), design).fit(disp=0)
    fit = fit_paired(first, second, outcome, 3)
    want = np.concatenate([[0.0], logit.params[:2]])
    assert fit.strengths == pytest.approx(want - want.mean(), abs=1e-4)
    assert fit.order == pytest.approx(logit.params[2], abs=1e-4)
    # Every answer a cluster of its own: White's robust error.
    robust = sm.Logit((outcome == FIRST).astype(float), design).fit(disp=0, cov_type="HC0")
    n = len(first)
    se, _ = spread(fit.influence[:, -1], np.arange(n), np.arange(n), fit.order)
    assert se * np.sqrt((n - 1) / n) == pytest.approx(robust.bse[2], rel=0.01)
