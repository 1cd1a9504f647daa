import math

import pytest
import torch
from torch.testing import assert_close

from musicgen_rl.errors import ConfigError, InputError
from musicgen_rl.rewards.diversity import (
    centred,
    diversity_rewards,
    log_det,
    log_det_gains,
    pairwise_diversity,
    unit,
    vendi_score,
)

COPIES = torch.tensor([[[1.0, 2.0], [1.0, 2.0], [2.0, 4.0]]])
CORNER = torch.tensor([[[3.0, 0.0, 0.0], [0.0, 0.5, 0.0], [0.0, 0.0, 7.0]]])
PAIR_AND_ONE = torch.tensor([[[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]])


def test_copies_have_no_diversity_whatever_their_length() -> None:
    assert_close(diversity_rewards(COPIES), torch.zeros(1, 3), atol=1e-6, rtol=0)
    assert_close(pairwise_diversity(COPIES), torch.zeros(1), atol=1e-6, rtol=0)
    assert_close(vendi_score(COPIES), torch.ones(1), atol=1e-4, rtol=0)


def test_clips_at_right_angles_count_fully() -> None:
    assert_close(diversity_rewards(CORNER), torch.ones(1, 3))
    assert_close(vendi_score(CORNER), torch.tensor([3.0]))
    assert_close(log_det(CORNER), torch.zeros(1), atol=1e-6, rtol=0)
    assert_close(log_det_gains(CORNER), torch.zeros(1, 3), atol=1e-6, rtol=0)


def test_the_odd_one_out_is_rewarded_most() -> None:
    # Cosines: 1 within the pair, 0 to the third. Mean of 1 - cosine: (0 + 1) / 2, twice, and 1.
    assert_close(diversity_rewards(PAIR_AND_ONE), torch.tensor([[0.5, 0.5, 1.0]]))
    assert_close(pairwise_diversity(PAIR_AND_ONE), torch.tensor([2 / 3]))
    # Eigenvalues over N: 2/3, 1/3, 0.
    entropy = -(2 / 3 * math.log(2 / 3) + 1 / 3 * math.log(1 / 3))
    assert_close(vendi_score(PAIR_AND_ONE), torch.tensor([math.exp(entropy)]))


def test_opposite_clips_reach_the_upper_bound() -> None:
    assert_close(pairwise_diversity(torch.tensor([[[1.0, 0.0], [-2.0, 0.0]]])), torch.tensor([2.0]))


def test_log_det_of_a_pair_by_hand() -> None:
    cosine, ridge = 0.6, 0.1
    pair = torch.tensor([[[1.0, 0.0], [cosine, 0.8]]])
    kernel = cosine / (1 + ridge)
    assert_close(log_det(pair, ridge), torch.tensor([math.log(1 - kernel**2)]))
    assert_close(log_det_gains(pair, ridge), torch.full((1, 2), math.log(1 - kernel**2)))


def test_gains_equal_leaving_each_clip_out() -> None:
    clips = torch.randn(2, 5, 8)
    gains = log_det_gains(clips)
    for i in range(5):
        others = torch.cat([clips[:, :i], clips[:, i + 1 :]], dim=1)
        assert_close(gains[:, i], log_det(clips) - log_det(others), atol=1e-4, rtol=1e-4)


def test_two_tight_clusters_please_the_mean_cosine_but_not_the_volume() -> None:
    clusters = torch.tensor(
        [[[1.0, 0.0, 0.01], [1.0, 0.0, 0.0], [-1.0, 0.1, 0.0], [-1.0, 0.0, 0.0]]]
    )
    spread = torch.eye(4)[None]
    assert pairwise_diversity(clusters) > pairwise_diversity(spread)
    assert log_det(clusters) < log_det(spread) - 1.0


def test_a_smaller_ridge_punishes_copies_harder() -> None:
    assert log_det(COPIES, 0.001) < log_det(COPIES, 0.1) - 5


def test_prompts_do_not_mix() -> None:
    clips = torch.randn(3, 4, 6)
    for measure in (diversity_rewards, pairwise_diversity, vendi_score, log_det, log_det_gains):
        assert_close(measure(clips)[1:2], measure(clips[1:2]), atol=1e-5, rtol=1e-5)


def test_centring_takes_out_what_all_share() -> None:
    shared = torch.tensor([10.0, 0.0, 0.0])
    clips = torch.tensor([[[0.0, 1.0, 0.0], [0.0, -1.0, 0.0]]]) + shared
    assert pairwise_diversity(clips) < 0.03
    assert_close(pairwise_diversity(centred(clips)), torch.tensor([2.0]))


def test_centring_uses_the_mean_it_is_given() -> None:
    clips = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])
    given = centred(clips, torch.tensor([0.0, -1.0]))
    assert_close(given, torch.tensor([[[0.5**0.5, 0.5**0.5], [0.0, 1.0]]]))


def test_unit_gives_length_one_in_float32() -> None:
    found = unit(torch.tensor([[3.0, 4.0]], dtype=torch.float64))
    assert found.dtype == torch.float32
    assert_close(found, torch.tensor([[0.6, 0.8]]))


@pytest.mark.parametrize("bad", [0.0, math.nan, math.inf])
def test_a_broken_embedding_is_named(bad: float) -> None:
    clips = torch.ones(2, 3, 4)
    clips[1, 2] = bad
    with pytest.raises(InputError, match=r"embedding \(1, 2\)"):
        diversity_rewards(clips)


def test_one_clip_has_no_diversity() -> None:
    with pytest.raises(InputError, match="clips_per_prompt >= 2, got 1"):
        pairwise_diversity(torch.ones(2, 1, 4))


def test_flat_embeddings_are_refused() -> None:
    with pytest.raises(InputError, match=r"\[prompts, clips, D\]"):
        vendi_score(torch.ones(3, 4))


@pytest.mark.parametrize("ridge", [0.0, -1.0, 2.0])
def test_a_ridge_that_cannot_work_is_refused(ridge: float) -> None:
    with pytest.raises(ConfigError, match="ridge"):
        log_det(CORNER, ridge)
