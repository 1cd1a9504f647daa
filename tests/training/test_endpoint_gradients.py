import pytest
import torch
from torch import Tensor, nn

from musicgen_rl.training.endpoint_gradients import Gradients
from musicgen_rl.training.losses import LogitGradients


def logits_of(parameters: dict[str, nn.Parameter]) -> Tensor:
    """Two rows [2, 1, 1, 2] of weight times (1, 2) and (10, 20)."""
    by_row = torch.tensor([[1.0, 2.0], [10.0, 20.0]]).view(2, 1, 1, 2)
    return parameters["weight"] * by_row


def terms(kl: float | None, reward: float | None) -> LogitGradients:
    none = torch.zeros(0)
    sums = torch.zeros(2, 1)
    pushes = [none if v is None else torch.full((2, 1, 1, 2), v) for v in (kl, reward)]
    return LogitGradients(sums, sums, sums, sums, *pushes)


def parameters() -> dict[str, nn.Parameter]:
    return {"weight": nn.Parameter(torch.ones(())), "unused": nn.Parameter(torch.ones(3))}


@pytest.mark.parametrize(("kl", "reward", "total"), [
    (1.0, 1.0, 33 * (2.0 + 3.0)), (1.0, None, 33 * 2.0), (None, 1.0, 33 * 3.0), (None, None, 0.0),
])  # fmt: skip
def test_both_terms_are_added_by_their_scale(
    kl: float | None, reward: float | None, total: float
) -> None:
    given = parameters()
    found = Gradients.zeros(given, apart=False)
    prompts = torch.tensor([0, 1])
    found.add(given, logits_of(given), terms(kl, reward), kl_scale=2.0, reward_scale=3.0,
              prompts=prompts)  # fmt: skip
    assert float(found.total["weight"]) == total
    assert found.total["unused"].tolist() == [0.0] * 3
    assert (found.kl, found.halves) == ({}, [])


@pytest.mark.parametrize(("prompts", "even", "odd"), [
    ([0, 1], 3 * 3.0, 30 * 3.0), ([5, 5], 0.0, 33 * 3.0), ([1, 2], 30 * 3.0, 3 * 3.0),
])  # fmt: skip
def test_apart_the_reward_is_parted_by_even_and_odd_prompts(
    prompts: list[int], even: float, odd: float
) -> None:
    given = parameters()
    found = Gradients.zeros(given, apart=True)
    for _ in range(2):  # micro-batches add up
        found.add(given, logits_of(given), terms(1.0, 1.0), kl_scale=2.0, reward_scale=3.0,
                  prompts=torch.tensor(prompts))  # fmt: skip
    assert float(found.kl["weight"]) == 2 * 33 * 2.0
    assert [float(half["weight"]) for half in found.halves] == [2 * even, 2 * odd]
    assert float(found.total["weight"]) == 2 * 33 * 5.0
