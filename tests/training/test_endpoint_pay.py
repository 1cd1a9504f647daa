import math

import pytest
import torch

from musicgen_rl.training.advantages import EmbeddingBank
from musicgen_rl.training.critic import EmbeddingCritic
from musicgen_rl.training.endpoint_clips import Batch
from musicgen_rl.training.endpoint_pay import measure_pay, prepare_pay
from tests.training.endpoint_fakes import HashText, small_config

CLIPS = torch.arange(6)
# One prompt's clips are alike, two of the other's; both have three.
E = torch.tensor([[[1.0, 0.0], [1.0, 0.0], [1.0, 0.0]], [[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]])
PAID = [-2.0, -2.0, -2.0, -1.0, -1.0, 0.0]  # -2 (mean of the others) . e


def embedded(e: torch.Tensor = E) -> Batch:
    texts = ["a", "b"]
    codes = torch.zeros(6, 3, 4, dtype=torch.long)
    return Batch([0, 1], texts, HashText().encode(texts), codes, CLIPS, embeddings=e)


def config(**changes):
    return small_config(diversity_weight=1.0, **changes)


@pytest.mark.parametrize(("baseline", "expected"), [
    ("none", PAID),
    # The mean pay of the other prompt: -2/3 and -2.
    ("prompts", [-4 / 3, -4 / 3, -4 / 3, 1.0, 1.0, 2.0]),
    # -2 cos of the pair without the clip.
    ("pairs", [0.0, 0.0, 0.0, -1.0, -1.0, 2.0]),
])  # fmt: skip
def test_a_clips_pay_goes_to_all_its_steps_by_hand(baseline: str, expected: list[float]) -> None:
    pay = prepare_pay(
        embedded(), config(credit="clip", baseline=baseline), EmbeddingBank(0.0), None
    )
    found = pay(torch.tensor([5, 0, 3]), torch.zeros(3, 4, 8))
    want = torch.tensor([[expected[i]] * 4 for i in (5, 0, 3)])
    torch.testing.assert_close(found, want)


def test_the_critic_is_paid_by_what_it_did_not_expect() -> None:
    critic = EmbeddingCritic(8, 2)  # it begins at zero: nothing is expected
    pay = prepare_pay(embedded(), config(gae_lambda=0.5), EmbeddingBank(0.0), critic)
    found = pay(torch.tensor([5, 3]), torch.randn(2, 3, 8))
    torch.testing.assert_close(found, torch.tensor([[0.0] * 3, [-0.25, -0.5, -1.0]]))


def test_the_bank_is_asked_for_the_prompts_of_the_batch() -> None:
    bank = EmbeddingBank(0.5)
    bank.update([1], torch.tensor([[[0.0, 1.0]]]))
    pay = prepare_pay(embedded(), config(credit="clip", baseline="none"), bank, None)
    found = pay(CLIPS, torch.zeros(6, 1, 8)).flatten()
    # Of the second prompt, others (.5, .5), (.5, .5), (1, 0), each half-way to (0, 1).
    torch.testing.assert_close(found, torch.tensor([-2.0, -2.0, -2.0, -0.5, -0.5, -1.0]))


def test_the_ridge_reaches_the_determinants_pay_and_worth() -> None:
    for ridge in (0.1, 0.5):
        given = config(reward="determinant", credit="clip", baseline="none", ridge=ridge)
        pay = prepare_pay(embedded(), given, EmbeddingBank(0.0), None)
        last = pay(CLIPS, torch.zeros(6, 1, 8)).flatten()[5]  # at right angles to both others
        assert float(last) == pytest.approx(math.log(1 + ridge), rel=1e-5)
        alike, other = 3 + ridge, (2 + ridge) * (1 + ridge)
        worths = [math.log(alike * ridge**2) / 3, math.log(other * ridge) / 3]
        found = measure_pay(embedded(), given)
        assert float(found["determinant"]) == pytest.approx(sum(worths) / 2, rel=1e-4)
        assert float(found["diversity"]) == pytest.approx((0 + 2 / 3) / 2)


def test_answered_pays_pairs_as_far_as_both_answer() -> None:
    batch, given = embedded(), config(reward="answered", credit="clip", baseline="none")
    weights = torch.tensor([[1.0, 1.0, 1.0], [1.0, 0.0, 0.5]])
    found = measure_pay(batch, given, weights)
    # The one pair that differs and answers weighs 1 x .5, of three pairs of two prompts.
    assert float(found["answered"]) == pytest.approx(0.5 / 3 / 2)
    assert float(found["answering"]) == pytest.approx(4.5 / 6)
    assert set(found) == {"diversity", "answering", "answered"}
    paid = prepare_pay(batch, given, EmbeddingBank(0.0), None)(CLIPS, torch.zeros(6, 1, 8))
    # 2 w times the others' mean of w' (1 - cos).
    torch.testing.assert_close(paid.flatten(), torch.tensor([0.0, 0.0, 0.0, 0.5, 0.0, 0.5]))


def test_without_a_reward_diversity_alone_is_measured() -> None:
    quality = small_config(reward="determinant")
    assert set(measure_pay(embedded(), quality)) == {"diversity"}
