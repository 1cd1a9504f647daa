"""The plane: areas by hand and by counting, dominance only where it is sure."""

import numpy as np
import pytest

from musicgen_rl.errors import ConfigError
from musicgen_rl.evaluation.bootstrap import Estimate
from musicgen_rl.evaluation.front import (
    Point,
    above_chord,
    below_line,
    hypervolume,
    hypervolume_estimate,
    line_height,
    p_dominates,
    p_undominated,
    undominated,
)


def point(name: str, x: float, y: float, spread: float = 0.0, seed: int = 0) -> Point:
    noise = np.random.default_rng(seed).normal(scale=spread, size=(2, 400)) if spread else 0.0
    draws = np.zeros((2, 400)) + np.array([[x], [y]]) + noise
    return Point(name, Estimate(x, draws[0], 40), Estimate(y, draws[1], 40))


def test_area_of_a_staircase_by_hand() -> None:
    x, y = np.array([1.0, 2.0, 3.0]), np.array([3.0, 2.0, 0.5])
    assert hypervolume(x, y, (0.0, 0.0)) == pytest.approx(3 + 2 + 0.5)
    assert hypervolume(x, y, (1.0, 1.0)) == pytest.approx(1.0)
    assert hypervolume(x[::-1], y[::-1], (0.0, 0.0)) == pytest.approx(5.5)
    assert hypervolume(np.array([1.0]), np.array([-1.0]), (0.0, 0.0)) == 0.0


def test_area_equals_counting_a_grid() -> None:
    generator = np.random.default_rng(3)
    x, y = generator.uniform(size=(2, 5, 6))
    grid = (np.arange(400) + 0.5) / 400
    for row in range(5):
        covered = (x[row][:, None, None] >= grid[:, None]) & (y[row][:, None, None] >= grid)
        counted = covered.any(axis=0).mean()
        assert hypervolume(x[row], y[row], (0.0, 0.0)) == pytest.approx(counted, abs=0.01)
    assert hypervolume(x, y, (0.0, 0.0)).shape == (5,)


def test_a_dominated_point_adds_no_area_and_no_name() -> None:
    points = [point("a", 1, 3), point("b", 2, 2), point("under", 1, 1)]
    assert undominated(points) == ["a", "b"]
    whole = hypervolume_estimate(points, (0.0, 0.0))
    assert whole.value == pytest.approx(hypervolume_estimate(points[:2], (0.0, 0.0)).value)
    assert whole.value == pytest.approx(3 + 2)
    # Above (0.5, 1) the first point is 0.5 wide and 2 high, the second 1.5 wide and 1 high.
    beyond = hypervolume_estimate(points, (0.5, 1.0))
    assert beyond.value == pytest.approx(0.5 * 2 + 1.0 * 1)
    with pytest.raises(ConfigError, match="a front needs at least one point"):
        hypervolume_estimate([], (0.0, 0.0))


def test_noise_does_not_make_a_front_of_many_points_look_larger() -> None:
    """Ten noisy copies of one arm: their naive area grows, the corrected one stays near 1."""
    generator, naive, corrected = np.random.default_rng(0), [], []
    for trial in range(40):
        points = []
        for i in range(10):
            x, y = 1 + generator.normal(scale=0.1, size=2)
            points.append(point(str(i), x, y, 0.1, 100 * trial + i))
        values = np.array([[p.x.value, p.y.value] for p in points])
        naive.append(float(hypervolume(values[:, 0], values[:, 1], (0.0, 0.0))))
        corrected.append(hypervolume_estimate(points, (0.0, 0.0)).value)
    assert abs(np.mean(corrected) - 1.0) < 0.75 * abs(np.mean(naive) - 1.0)


def test_dominance_needs_both_axes() -> None:
    best, right, sure = point("b", 2, 2), point("r", 3, 1), 0.01
    assert p_dominates(best, point("a", 1, 1)) < sure
    assert p_dominates(best, right) > 0.9
    assert p_dominates(point("a", 1, 1), best) > 0.9
    noisy = point("n", 1.9, 1.0, spread=0.5)
    assert p_dominates(best, noisy) > 0.2  # right on both axes, sure on one


def test_undominated_needs_one_axis_against_every_rival() -> None:
    rivals = [point("a", 1, 3), point("b", 3, 1)]
    assert p_undominated(point("m", 2, 2), rivals) < 0.02
    assert p_undominated(point("m", 2, 0.5), rivals) > 0.9  # b is better on both
    assert p_undominated(point("m", 3, 1), rivals) > 0.4  # equal to b
    assert p_undominated(point("m", 2, 2), []) == 0.0


def test_height_above_the_straight_line_by_hand() -> None:
    found = above_chord(point("m", 2, 2.5), point("q", 1, 3), point("d", 3, 1))
    assert found.value == pytest.approx(0.5)
    assert above_chord(point("m", 1, 3), point("q", 1, 3), point("d", 3, 1)).value == 0.0
    upright = above_chord(point("m", 1, 2.5), point("q", 1, 3), point("d", 1, 1))  # no line
    assert upright.value == pytest.approx(-0.5)


def test_what_a_line_offers_at_some_diversity() -> None:
    x, y = np.array([1.0, 2.0, 4.0]), np.array([5.0, 3.0, 1.0])
    wanted = np.array([0.0, 1.0, 1.5, 3.0, 4.0, 4.1])
    assert line_height(wanted, x, y).tolist() == [5.0, 5.0, 4.0, 2.0, 1.0, -np.inf]
    # Draw by draw, with the line in any direction.
    rows = line_height(np.array([1.5, 1.5]), np.stack([x, x[::-1]]), np.stack([y, y[::-1]]))
    assert rows.tolist() == [4.0, 4.0]
    # More diversity at no less quality serves who wants less diversity.
    assert line_height(np.array([0.5]), np.array([1.0, 2.0]), np.array([1.0, 2.0])) == [2.0]
    assert line_height(np.array([0.5]), np.array([1.0]), np.array([7.0])) == [7.0]


def test_rivals_below_above_and_beyond_a_line() -> None:
    line = [point("0", 1, 5), point("1", 3, 1)]
    assert below_line(point("r", 2, 2), line).value == pytest.approx(1.0)
    assert below_line(point("r", 2, 4), line).value == pytest.approx(-1.0)
    assert below_line(point("r", 5, 0), line).value == -np.inf
    assert below_line(point("r", 5, 0), line).p_not_above() > 0.99
