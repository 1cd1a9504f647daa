"""Measures of variety: copies, orthogonal clips, noise, by hand and by counting."""

import itertools

import numpy as np
import pytest

from musicgen_rl.errors import ConfigError, InputError
from musicgen_rl.evaluation.diversity import (
    centre,
    distinct_by_prompt,
    distinct_rate,
    pair_tables,
    prompt_share,
    require_several,
    vendi,
    vendi_by_prompt,
    within_prompts,
)


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_within_prompts_by_hand_and_by_counting() -> None:
    e = unit(np.array([[1.0, 0], [0, 1], [1, 1], [1, 0], [1, 0], [0, 1]]))
    prompt_of = np.array([0, 0, 0, 1, 1, 2])
    found = within_prompts(e, prompt_of, 3)
    root = np.sqrt(0.5)
    assert found[0] == pytest.approx((1.0 + (1 - root) * 2) / 3)
    assert found[1] == pytest.approx(0.0)
    assert np.isnan(found[2])
    counted = [1 - e[i] @ e[j] for i, j in itertools.combinations(range(3), 2)]
    assert found[0] == pytest.approx(np.mean(counted))


def test_pair_tables_leave_out_a_clip_with_itself() -> None:
    sums, pairs = pair_tables(np.ones((3, 3)), np.array([0, 0, 1]), 2)
    assert sums.tolist() == [[2.0, 2.0], [2.0, 0.0]]
    assert pairs.tolist() == sums.tolist()


def test_centring_removes_what_all_clips_share() -> None:
    shared = np.array([10.0, 0.0, 0.0])
    e = np.array([[10.0, 1, 0], [10, -1, 0]])
    raw = within_prompts(unit(e), np.array([0, 0]), 1)
    centred = within_prompts(centre(e, shared), np.array([0, 0]), 1)
    assert raw[0] < 0.03
    assert centred[0] == pytest.approx(2.0)
    assert np.isfinite(centre(e, e[0])).all()  # a clip that is the mean


def test_vendi_counts_copies_once_and_orthogonal_clips_all() -> None:
    assert vendi(np.repeat([[1.0, 0.0]], 5, axis=0)) == pytest.approx(1.0)
    assert vendi(np.eye(5)) == pytest.approx(5.0)
    assert vendi(np.concatenate([np.eye(2), np.eye(2)])) == pytest.approx(2.0)
    with pytest.raises(ConfigError, match="at least one"):
        vendi(np.zeros((0, 3)))


def test_vendi_equals_its_definition_by_eigenvalues_of_another_routine() -> None:
    e = unit(np.random.default_rng(0).normal(size=(6, 9)))
    p = np.linalg.svd(e, compute_uv=False) ** 2 / 6
    assert vendi(e) == pytest.approx(np.exp(-(p * np.log(p)).sum()))
    both = vendi_by_prompt(e, np.array([0, 0, 0, 1, 1, 2]), 3)
    assert both[0] == pytest.approx(vendi(e[:3]))
    assert both[1] == pytest.approx(vendi(e[3:5]))
    assert np.isnan(both[2])


def test_the_torch_functions_that_rewards_use_say_the_same() -> None:
    import torch

    from musicgen_rl.rewards.diversity import centred, pairwise_diversity, vendi_score

    e = np.random.default_rng(1).normal(size=(3, 5, 7))
    mean = unit(e.reshape(15, 7)).mean(axis=0)
    theirs = centred(torch.from_numpy(e), torch.from_numpy(mean))
    ours, prompt_of = centre(unit(e.reshape(15, 7)), mean), np.repeat(np.arange(3), 5)
    assert within_prompts(ours, prompt_of, 3) == pytest.approx(
        pairwise_diversity(theirs).numpy(), abs=1e-5
    )
    assert vendi_by_prompt(ours, prompt_of, 3) == pytest.approx(vendi_score(theirs).numpy(), 1e-4)


def test_distinct_rate_by_hand() -> None:
    first, second = np.array([1, 2, 3, 4]), np.array([1, 2, 9])
    # 12 23 34 and 12 29: five runs, four different.
    assert distinct_rate([first, second]) == pytest.approx(4 / 5)
    assert distinct_rate([first, first]) == pytest.approx(1 / 2)
    assert distinct_rate([first], length=1) == 1.0
    assert distinct_rate([np.array([1, 2, 1, 0, 3])]) == 1.0  # 12 is not 21, nor 10 and 03
    assert distinct_rate([np.array([1, 2, 3, 1, 2, 3])], length=3) == pytest.approx(3 / 4)
    assert np.isnan(distinct_rate([np.array([1])]))
    assert distinct_rate([np.array([1, 2])]) == 1.0
    by = distinct_by_prompt([first, first, second], np.array([0, 0, 1]), 2)
    assert by.tolist() == [0.5, 1.0]


def test_noise_lowers_the_share_that_belongs_to_prompts_and_variety_does_not() -> None:
    """Planted: prompts are directions; noise swamps them, variety turns within its own plane."""
    generator = np.random.default_rng(4)
    prompt_of = np.repeat(np.arange(10), 6)
    homes = np.eye(64)[:10][prompt_of]
    own = np.eye(64)[10:20][prompt_of] * generator.choice([-1.0, 1.0], size=(60, 1))

    def share(e: np.ndarray) -> float:
        sums, pairs = pair_tables(1 - unit(e) @ unit(e).T, prompt_of, 10)
        apart = ~np.eye(10, dtype=bool)
        within = np.trace(sums) / np.trace(pairs)
        return float(prompt_share(within, sums[apart].sum() / pairs[apart].sum()))

    varied, noisy = homes + 0.8 * own, homes + generator.normal(scale=1.0, size=(60, 64))
    assert share(homes) == pytest.approx(1.0)
    assert share(noisy) < 0.05
    assert share(varied) > 0.5


def test_single_clips_have_no_diversity() -> None:
    require_several(np.array([2, 3]), "base")
    with pytest.raises(InputError, match=r"'base' has a prompt with 1 clip"):
        require_several(np.array([2, 1]), "base")
