"""Every estimator against the true gradient of a policy that can be written out whole."""

import itertools
import math

import pytest
import torch
from torch import Tensor

from musicgen_rl.errors import ConfigError
from musicgen_rl.rewards.diversity import pairwise_diversity
from musicgen_rl.training import advantages as adv

CLIPS = torch.nn.functional.normalize(
    torch.tensor([[1.0, 0.0, 0.2], [0.6, 0.8, 0.0], [0.0, 1.0, 0.5], [-0.5, 0.1, 1.0]]).double(),
    dim=-1,
)  # four clips that the policy can make
THETA = torch.tensor([0.3, -0.4, 0.8, 0.1], dtype=torch.float64)


def sets_of(N: int) -> Tensor:
    return torch.tensor(list(itertools.product(range(4), repeat=N)))  # [4 ** N, N]


def true_gradient(theta: Tensor = THETA) -> Tensor:
    theta = theta.clone().requires_grad_(True)
    p = theta.softmax(0)
    D = p @ (1 - CLIPS @ CLIPS.T) @ p
    return torch.autograd.grad(D, theta)[0]


def expected_gradient(N: int, advantages) -> Tensor:
    """Average mean_i adv_i grad log pi(y_i) over all sets, each with its probability."""
    sets, p = sets_of(N), THETA.softmax(0)
    scores = torch.eye(4).double() - p  # grad log pi of each clip
    weights = p[sets].prod(1)
    each = (advantages(CLIPS[sets]).unsqueeze(-1) * scores[sets]).mean(1)
    return (weights.unsqueeze(1) * each).sum(0)


def pay(e: Tensor) -> Tensor:
    flat = adv.cosine_values(adv.means_of_others(e).flatten(0, 1), e.flatten(0, 1))
    return flat.view(e.shape[:2])


@pytest.mark.parametrize("N", [2, 3, 4])
def test_the_expected_gradient_is_the_true_one(N):
    torch.testing.assert_close(expected_gradient(N, pay), true_gradient())


@pytest.mark.parametrize("N", [2, 3, 4])
def test_what_the_critic_believes_does_not_matter_in_expectation(N):
    belief = torch.tensor([0.3, -0.7, 0.2]).double()  # wrong, and the same for all clips

    def with_critic(e: Tensor) -> Tensor:
        mu = adv.means_of_others(e).flatten(0, 1)
        values = adv.cosine_values(mu, belief.expand(len(mu), 1, 3))
        return adv.gae(values, pay(e).flatten(), 1.0).view(e.shape[:2])

    torch.testing.assert_close(expected_gradient(N, with_critic), true_gradient())


@pytest.mark.parametrize("N", [3, 4])
def test_the_baseline_of_other_pairs_has_no_bias(N):
    found = expected_gradient(N, lambda e: pay(e) - adv.other_pairs_baseline(e))
    torch.testing.assert_close(found, true_gradient())


def test_the_baseline_of_other_pairs_is_their_mean_by_hand():
    e = torch.tensor([[[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [-1.0, 0.0]]])
    # Cosines of 02 are 1, of 03 and 23 are -1, of the others 0; three pairs are without each clip.
    assert adv.other_pairs_baseline(e)[0].tolist() == pytest.approx([2 / 3, 2 / 3, 2 / 3, -2 / 3])


@pytest.mark.parametrize("N", [2, 3, 4])
def test_the_group_mean_and_leave_one_out_shrink_the_gradient(N):
    def group_mean(e: Tensor) -> Tensor:
        return pay(e) - pay(e).mean(1, keepdim=True)

    def leave_one_out(e: Tensor) -> Tensor:
        paid = pay(e)
        return paid - (paid.sum(1, keepdim=True) - paid) / (N - 1)

    true = true_gradient()
    torch.testing.assert_close(expected_gradient(N, group_mean), true * (N - 2) / N)
    torch.testing.assert_close(expected_gradient(N, leave_one_out), true * (N - 2) / (N - 1))


ANSWERS = torch.tensor([0.9, 0.2, 1.0, 0.0], dtype=torch.float64)


def true_answered_gradient() -> Tensor:
    theta = THETA.clone().requires_grad_(True)
    p = theta.softmax(0) * ANSWERS
    return torch.autograd.grad(p @ (1 - CLIPS @ CLIPS.T) @ p, theta)[0]


@pytest.mark.parametrize("N", [2, 3, 4])
@pytest.mark.parametrize("with_critic", [False, True])
def test_the_answered_rewards_expected_gradient_is_the_true_one(N, with_critic):
    weighed = adv.answering(CLIPS[None], ANSWERS[None])[0]
    assert float(weighed.norm(dim=-1).max()) <= 1.0 + 1e-12
    belief = torch.tensor([0.5, 0.3, -0.4, 0.2]).double()  # wrong, and the same for all clips
    place = {tuple(clip.tolist()): index for index, clip in enumerate(CLIPS)}

    def paid(e: Tensor) -> Tensor:
        index = torch.tensor([[place[tuple(clip.tolist())] for clip in row] for row in e])
        u = weighed[index]
        mu = adv.means_of_others(u).flatten(0, 1)
        final = adv.answered_values(mu, u.flatten(0, 1))
        if with_critic:
            values = adv.answered_values(mu, belief.expand(len(mu), 1, 4))
            final = adv.gae(values, final, 1.0).squeeze(-1)
        return final.view(e.shape[:2])

    torch.testing.assert_close(expected_gradient(N, paid), true_answered_gradient())


def test_what_answers_is_worth_what_it_differs_by():
    e = torch.nn.functional.normalize(torch.tensor([[[1.0, 0.0], [0.0, 1.0]]]), dim=-1)
    for weights, worth in (([1.0, 1.0], 2.0), ([1.0, 0.5], 1.0), ([1.0, 0.0], 0.0)):
        u = adv.answering(e, torch.tensor([weights]))
        found = adv.answered_values(adv.means_of_others(u)[0], u[0])
        torch.testing.assert_close(found, torch.full((2,), worth))


def test_another_prompts_pay_is_a_baseline_without_bias():
    values = torch.tensor([[1.0, 3.0], [5.0, 7.0], [0.0, 2.0]])
    found = adv.other_prompts_baseline(values)
    assert found.tolist() == [[3.5, 3.5], [1.5, 1.5], [4.0, 4.0]]
    assert adv.other_prompts_baseline(values[:1]).tolist() == [[0.0, 0.0]]


@pytest.mark.parametrize("N", [2, 3, 4])
def test_the_determinants_expected_gradient_is_the_true_one(N):
    ridge, sets = 0.2, sets_of(N)
    kernels = CLIPS[sets] @ CLIPS[sets].mT + ridge * torch.eye(N).double()
    volume = torch.logdet(kernels)
    theta = THETA.clone().requires_grad_(True)
    objective = (theta.softmax(0)[sets].prod(1) * volume).sum() / N
    (true,) = torch.autograd.grad(objective, theta)

    def gains(e: Tensor) -> Tensor:
        others = adv.others_of(e).flatten(0, 1)
        return adv.determinant_values(others, e.flatten(0, 1), ridge).view(e.shape[:2])

    torch.testing.assert_close(expected_gradient(N, gains), true, rtol=1e-6, atol=1e-8)


def test_a_determinant_gain_is_the_difference_of_two_determinants():
    e, ridge = CLIPS[None, :3], 0.1
    whole = torch.logdet(e[0] @ e[0].T + ridge * torch.eye(3).double())
    without = torch.logdet(e[0, 1:] @ e[0, 1:].T + ridge * torch.eye(2).double())
    gain = adv.determinant_values(adv.others_of(e).flatten(0, 1), e.flatten(0, 1), ridge)[0]
    torch.testing.assert_close(gain, whole - without)


def test_gae_by_hand():
    values, final = torch.tensor([[1.0, 2.0, 4.0]]), torch.tensor([3.0])
    # changes: 1, 2, -1
    assert adv.gae(values, final, 1.0).tolist() == [[2.0, 1.0, -1.0]]
    assert adv.gae(values, final, 0.0).tolist() == [[1.0, 2.0, -1.0]]
    assert adv.gae(values, final, 0.5).tolist() == [[1.75, 1.5, -1.0]]


def test_gae_at_one_has_no_bias_for_a_policy_of_two_steps():
    """Two binary tokens make the four clips; the critic sees the first before the second."""
    theta = torch.tensor([0.4, -0.2, 0.7], dtype=torch.float64)  # first; second after 0 and 1
    critic = torch.tensor([[0.2, 0.1, 0.0], [0.5, -0.3, 0.1], [-0.2, 0.4, 0.9]]).double()

    def probabilities(t: Tensor) -> Tensor:
        a = torch.sigmoid(t)
        return torch.stack([(1 - a[0]) * (1 - a[1]), (1 - a[0]) * a[1], a[0] * (1 - a[2]),
                            a[0] * a[2]])  # fmt: skip

    t = theta.clone().requires_grad_(True)
    p = probabilities(t)
    (true,) = torch.autograd.grad(p @ (1 - CLIPS @ CLIPS.T) @ p, t)
    a, total = torch.sigmoid(theta), torch.zeros(3).double()
    weights = probabilities(theta)
    for i, j in itertools.product(range(4), repeat=2):
        for mine, other in ((i, j), (j, i)):
            first, second = mine // 2, mine % 2
            values = torch.stack([critic[0], critic[1 + first]])[None]  # before each step
            mu = CLIPS[other][None]
            final = adv.cosine_values(mu, CLIPS[mine][None])
            A = adv.gae(adv.cosine_values(mu, values), final, 1.0)[0]
            score = torch.zeros(2, 3).double()
            score[0, 0] = first - a[0]
            score[1, 1 + first] = second - a[1 + first]
            total += weights[i] * weights[j] * (A.unsqueeze(1) * score).sum(0) / 2
    torch.testing.assert_close(total, true)


def test_the_bank_never_holds_the_clip_that_is_judged():
    bank = adv.EmbeddingBank(0.5)
    first, second = torch.ones(1, 2, 3), torch.zeros(1, 2, 3)
    assert torch.equal(bank.blend([7], adv.means_of_others(first)), torch.ones(1, 2, 3))
    bank.update([7], first)
    assert torch.equal(bank.blend([7], second), torch.full((1, 2, 3), 0.5))
    assert torch.equal(bank.blend([8], second), second)  # another prompt
    bank.update([7], second)
    assert torch.equal(bank.means[7], torch.full((3,), 0.5))
    again = adv.EmbeddingBank(0.5)
    again.restore(bank.pack())
    assert torch.equal(again.means[7], bank.means[7])


def test_leaving_the_common_mean_together_is_variety_only_where_it_is_not_taken_off():
    own = torch.tensor([[1.0, 0.0], [-0.6, 0.8]])  # what tells the two clips apart
    near, far = (
        torch.nn.functional.normalize(torch.cat([own, torch.full((2, 1), shared)], 1), dim=-1)
        for shared in (2.0, 0.5)
    )
    plain = [float(pairwise_diversity(e[None]).mean()) for e in (near, far)]
    assert plain[1] > 2 * plain[0]
    left = [adv.Centre().take_off(e[None], e.mean(0)) for e in (near, far)]
    without = [float(pairwise_diversity(e).mean()) for e in left]
    assert without[0] == pytest.approx(without[1], abs=1e-3)


def test_the_centre_comes_from_earlier_steps_and_moves_ever_less():
    centre = adv.Centre()
    first = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])
    left = centre.take_off(first, first[0].mean(0))  # the very first is centred on itself
    half = 0.5**0.5
    torch.testing.assert_close(left, torch.tensor([[[half, -half], [-half, half]]]))
    second = torch.tensor([[[-1.0, 0.0], [0.0, -1.0]]])
    left = centre.take_off(second, second[0].mean(0))  # about (0.5, 0.5), what came before
    longer, shorter = (-1.5 / 2.5**0.5, -0.5 / 2.5**0.5)
    torch.testing.assert_close(left, torch.tensor([[[longer, shorter], [shorter, longer]]]))
    torch.testing.assert_close(centre.mean, torch.zeros(2))
    again = adv.Centre()
    again.restore(centre.pack())
    assert torch.equal(again.mean, centre.mean)
    assert again.steps == 2
    assert adv.Centre().pack() == {}


def test_a_bank_that_keeps_nothing_changes_nothing():
    bank = adv.EmbeddingBank(0.0)
    bank.update([1], torch.ones(1, 2, 3))
    assert bank.means == {}
    assert bank.pack() == {}


def test_one_clip_has_no_diversity():
    with pytest.raises(ConfigError, match="clips_per_prompt >= 2, got 1"):
        adv.means_of_others(torch.ones(1, 1, 3))
    with pytest.raises(ConfigError, match="clips_per_prompt >= 3, got 2"):
        adv.other_pairs_baseline(torch.ones(1, 2, 3))


def test_explained_share_by_hand():
    e = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    predicted = torch.stack([torch.zeros(2, 2), 0.5 * e, e], dim=1)  # worse, better, perfect
    assert adv.explained_share(predicted, e).tolist() == [0.0, 0.75, 1.0]


def test_a_sets_worth_is_the_determinant_that_its_gains_add_to() -> None:
    torch.manual_seed(1)
    e = torch.nn.functional.normalize(torch.randn(2, 3, 5), dim=-1)
    worth = adv.determinant_worths(e, 0.1)
    gains = adv.determinant_values(adv.others_of(e).flatten(0, 1), e.flatten(0, 1), 0.1)
    smaller = adv.determinant_worths(e[:, 1:], 0.1)
    torch.testing.assert_close(3 * worth - 2 * smaller, gains.view(2, 3)[:, 0])
    same = adv.determinant_worths(torch.tensor([[[1.0, 0.0], [1.0, 0.0]]]), 0.5)
    assert same.item() == pytest.approx(math.log(1.5**2 - 1) / 2)
