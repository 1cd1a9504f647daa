"""Statistics against numbers worked by hand or a second implementation."""

import numpy as np
import pytest
from scipy import stats

from musicgen_rl.errors import ConfigError
from musicgen_rl.listening.agreement import krippendorff
from musicgen_rl.listening.crossed import estimate, holm, p_value, resample, two_way_se
from musicgen_rl.listening.mixed import fit_mixed
from musicgen_rl.listening.paired import FIRST, SECOND, TIE, fit_paired, spread

_ = None
# Krippendorff (2011): four observers, twelve units.
OBSERVERS = [
    [1, 2, 3, 3, 2, 1, 4, 1, 2, _, _, _],
    [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, _, 3],
    [_, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, _],
    [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, _],
]
UNITS = [[v for v in column if v is not None] for column in zip(*OBSERVERS, strict=True)]


@pytest.mark.parametrize(
    ("metric", "published"), [("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849)]
)
def test_alpha_is_the_published_one(metric, published):
    assert krippendorff(UNITS, metric) == pytest.approx(published, abs=0.0006)


def test_alpha_at_its_ends():
    assert krippendorff([[1, 1], [2, 2]], "nominal") == 1
    assert krippendorff([[1, 2], [2, 1]], "nominal") == pytest.approx(-0.5)  # by hand
    assert krippendorff([[1, 1], [1, 1]], "nominal") is None
    assert krippendorff([[1], [2]], "interval") is None
    with pytest.raises(ConfigError, match="unknown metric"):
        krippendorff(UNITS, "ratio")


def test_the_two_way_error_by_hand():
    # Two raters, two prompts, balanced: residuals 1, 1, -1, -1 all lie between raters.
    z, raters, prompts = [1, 1, -1, -1], [0, 0, 1, 1], [0, 1, 0, 1]
    # raters 2/1 * (4 + 4) / 16 = 1, prompts 0, cells 4/3 * 4/16 = 1/3: 1 + 0 - 1/3, below 1.
    assert two_way_se(z, raters, prompts) == pytest.approx(1.0)
    assert two_way_se(z, prompts, raters) == pytest.approx(1.0)
    # Both ways: residuals 2, 0, 0, -2. raters 2 * 8 / 16 = 1, the same for prompts,
    # cells 4/3 * 8/16 = 2/3: 1 + 1 - 2/3.
    assert two_way_se([2, 0, 0, -2], raters, prompts) ** 2 == pytest.approx(4 / 3)


def test_clusters_of_one_answer_give_the_usual_error():
    x = np.random.default_rng(1).normal(size=40)
    each = np.arange(40)
    assert two_way_se(x - x.mean(), each, each) == pytest.approx(x.std(ddof=1) / np.sqrt(40))


def test_resampling_agrees_with_enumeration():
    # Two raters x two prompts, one answer each: all 16 draws of both, weighted alike.
    x, raters, prompts = np.array([0.0, 1, 2, 6]), [0, 0, 1, 1], [0, 1, 0, 1]
    exact = [
        np.mean([x[2 * r + p] for r in rs for p in ps])
        for rs in ((0, 0), (0, 1), (1, 0), (1, 1))
        for ps in ((0, 0), (0, 1), (1, 0), (1, 1))
    ]
    drawn = resample(x, raters, prompts, 40000, np.random.default_rng(0))
    assert drawn.mean() == pytest.approx(np.mean(exact), abs=0.03)
    assert drawn.std() == pytest.approx(np.std(exact), abs=0.03)
    assert set(np.round(drawn, 6)) == set(np.round(exact, 6))


def test_an_interval_follows_level_and_clusters():
    rng = np.random.default_rng(3)
    raters, prompts = np.repeat(np.arange(10), 20), np.tile(np.arange(20), 10)
    x = 0.5 + rng.normal(size=10)[raters] + 0.3 * rng.normal(size=200)
    clustered = estimate(x, raters, prompts)
    assert clustered.mean == pytest.approx(x.mean())
    assert clustered.low < clustered.mean < clustered.high
    # Answers of one rater go together, so 200 of them are worth about ten.
    assert clustered.high - clustered.low > 2.5 * (clustered.naive_high - clustered.naive_low)
    by_rater = x.reshape(10, 20).mean(1)
    t = stats.ttest_1samp(by_rater, 0)
    assert clustered.p == pytest.approx(t.pvalue, rel=0.15)
    wider = estimate(x, raters, prompts, level=0.01)
    assert wider.high - wider.low > 1.2 * (clustered.high - clustered.low)
    assert (clustered.n, clustered.raters, clustered.prompts, clustered.df) == (200, 10, 20, 9)


def test_an_interval_is_drawn_by_the_generator_that_is_given():
    x = np.random.default_rng(8).normal(size=12)
    raters, prompts = np.repeat(np.arange(3), 4), np.tile(np.arange(4), 3)
    first, same, other = (
        estimate(x, raters, prompts, draws=50, rng=np.random.default_rng(s)) for s in (7, 7, 8)
    )
    assert (first.low, first.high) == (same.low, same.high)
    assert (first.low, first.high) != (other.low, other.high)
    assert (first.se, first.p) == (other.se, other.p)


def test_equal_answers_have_no_spread():
    same = estimate([0.0] * 4, [0, 0, 1, 1], [0, 1, 0, 1])
    assert (same.low, same.high, same.p, same.naive_p) == (0, 0, 1, 1)
    assert p_value(1.0, 0.0, 3) == 0.125  # four who agree: a sign test, and no certainty


def test_too_few_are_refused():
    with pytest.raises(ConfigError, match="no answers"):
        estimate([], [], [])
    with pytest.raises(ConfigError, match="at least two raters and two prompts, got 1 and 2"):
        estimate([1.0, 2.0], [0, 0], [0, 1])


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])  # never out of order
    assert holm([0.9, 0.9]) == [1, 1]
    assert holm([]) == []


def choices(first_wins, second_wins, ties, first=0, second=1):
    n = first_wins + second_wins + ties
    outcome = [FIRST] * first_wins + [SECOND] * second_wins + [TIE] * ties
    return [first] * n, [second] * n, outcome


def test_davidson_for_two_arms_is_the_closed_form():
    # Both orders alike, 30 wins, 10 losses, 20 ties: log(30 / 10), nu = 20 / sqrt(300).
    a = choices(15, 5, 10)
    b = choices(5, 15, 10, first=1, second=0)
    fit = fit_paired(*[x + y for x, y in zip(a, b, strict=True)], 2)
    difference, influence = fit.difference(0, 1)
    assert difference == pytest.approx(np.log(3), abs=1e-3)
    assert fit.log_tie == pytest.approx(np.log(20 / np.sqrt(300)), abs=1e-3)
    assert fit.order == pytest.approx(0, abs=1e-6)
    assert influence.sum() == pytest.approx(0, abs=1e-9)
    # Every answer its own rater and prompt: the usual error, here 1/30 + 1/10 for log odds.
    se, p = spread(influence, np.arange(60), np.arange(60), difference)
    assert se**2 * 59 / 60 == pytest.approx(1 / 30 + 1 / 10, rel=0.01)
    assert p < 0.01


def test_who_only_prefers_the_first_place_shows_as_order_and_not_as_strength():
    a, b = choices(30, 10, 0), choices(30, 10, 0, first=1, second=0)
    fit = fit_paired(*[x + y for x, y in zip(a, b, strict=True)], 2)
    assert fit.difference(0, 1)[0] == pytest.approx(0, abs=1e-6)
    assert fit.order == pytest.approx(np.log(3), abs=1e-3)
    assert fit.log_tie == -np.inf


def test_three_arms_without_ties_agree_with_zermelos_iteration():
    wins = np.array([[0, 12, 15], [8, 0, 11], [5, 9, 0]], dtype=float)
    strength = np.ones(3)
    for _step in range(2000):
        games = wins + wins.T
        rates = games / (strength[:, None] + strength[None])
        strength = wins.sum(1) / rates.sum(1)
        strength /= strength.sum()
    want = np.log(strength) - np.log(strength).mean()
    first, second, outcome = [], [], []
    for i in range(3):
        for j in range(i + 1, 3):
            # Half of the games in each order, so that the order effect is nothing.
            for a, b in ((i, j), (j, i)):
                x, y = wins[a, b], wins[b, a]
                first += [a] * int(x + y)
                second += [b] * int(x + y)
                outcome += [FIRST] * int(x) + [SECOND] * int(y)
    fit = fit_paired(first, second, outcome, 3)
    assert fit.strengths == pytest.approx(want, abs=2e-3)
    assert fit.strengths.sum() == pytest.approx(0, abs=1e-9)


def test_influences_of_three_arms_sum_to_nothing_over_arms_and_over_answers():
    parts = [choices(8, 5, 2), choices(7, 3, 1, 1, 2), choices(4, 6, 3, 2, 0)]
    fit = fit_paired(*[[*a, *b, *c] for a, b, c in zip(*parts, strict=True)], 3)
    assert fit.influence.shape == (39, 4)
    assert fit.influence[:, :3].sum(1) == pytest.approx(np.zeros(39), abs=1e-12)
    assert fit.influence.sum(0) == pytest.approx(np.zeros(4), abs=1e-9)
    assert np.abs(fit.influence[:, :3]).max(0).min() > 1e-3


def test_influence_is_the_fits_answer_to_one_more_answer():
    a = choices(20, 12, 6)
    b = choices(9, 17, 5, first=1, second=0)
    columns = [x + y for x, y in zip(a, b, strict=True)]
    fit = fit_paired(*columns, 2)
    more = fit_paired(*[[*column, column[0]] for column in columns], 2)
    moved = more.difference(0, 1)[0] - fit.difference(0, 1)[0]
    assert fit.difference(0, 1)[1][0] == pytest.approx(moved, rel=0.1)


def test_an_arm_that_always_wins_stays_finite():
    fit = fit_paired(*choices(20, 0, 0), 2)
    assert 1 < fit.difference(0, 1)[0] < 20
    with pytest.raises(ConfigError, match="1 arms were never compared"):
        fit_paired(*choices(1, 1, 0), 3)
    with pytest.raises(ConfigError, match="no choices"):
        fit_paired([], [], [], 2)


def test_the_mixed_model_agrees_with_the_analysis_of_variance():
    rng = np.random.default_rng(5)
    # Balanced, every rater x prompt x arm once: the difference is that of means, and its variance
    # is 4 / n times the residual's.
    r, p, b = (axis.ravel() for axis in np.meshgrid(range(5), range(8), [0, 1], indexing="ij"))
    y = 0.4 * b + rng.normal(size=5)[r] + 0.7 * rng.normal(size=8)[p] + rng.normal(size=80)
    fit = fit_mixed(y, b, r, p)
    assert fit.reason == ""
    difference = y[b == 1].mean() - y[b == 0].mean()
    assert fit.difference == pytest.approx(difference, abs=1e-6)
    assert fit.se == pytest.approx(np.sqrt(4 / 80 * fit.residual_variance), rel=1e-3)
    table = y.reshape(5, 8, 2)
    grand = y.mean()
    effects = (
        grand
        + (table.mean((1, 2), keepdims=True) - grand)
        + (table.mean((0, 2), keepdims=True) - grand)
        + (table.mean((0, 1), keepdims=True) - grand)
    )
    residual = ((table - effects) ** 2).sum() / (80 - 1 - 4 - 7 - 1)
    assert fit.residual_variance == pytest.approx(residual, rel=1e-3)
    raters = (16 * ((table.mean((1, 2)) - grand) ** 2).sum() / 4 - residual) / 16
    assert fit.rater_variance == pytest.approx(raters, rel=0.02)


def test_the_mixed_model_says_why_it_is_missing():
    assert fit_mixed([1, 1, 1, 1], [0, 1, 0, 1], [0, 0, 1, 1], [0, 0, 0, 0]).reason
