"""The lean cross-entropy against torch's."""

import pytest
import torch
import torch.nn.functional as F

from musicgen_rl.training import cross_entropy as module
from musicgen_rl.training.cross_entropy import cross_entropy

PAD = 11


def example(dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(5)
    logits = 4 * torch.randn(3, 7, PAD, generator=generator)
    targets = torch.randint(0, PAD, (3, 7), generator=generator)
    targets[0, 2] = targets[2, 6] = PAD
    return logits.to(dtype).requires_grad_(), targets


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("rows", [1, 4, 512])
def test_losses_and_gradients_are_those_of_torch(
    dtype: torch.dtype, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(module.ROWS, "cpu", rows)
    logits, targets = example(dtype)
    weights = torch.rand(targets.shape, generator=torch.Generator().manual_seed(6))
    found = cross_entropy(logits, targets, PAD)
    (gradient,) = torch.autograd.grad((found * weights).sum(), logits)
    expected = F.cross_entropy(
        logits.float().flatten(0, 1), targets.flatten(), ignore_index=PAD, reduction="none"
    ).view(targets.shape)
    (torch_gradient,) = torch.autograd.grad((expected * weights).sum(), logits)
    torch.testing.assert_close(found, expected)
    assert gradient.dtype == dtype
    torch.testing.assert_close(gradient, torch_gradient)


def test_a_certain_prediction_costs_nothing_and_overflows_nowhere() -> None:
    logits = torch.tensor([[1e4, -1e4, 0.0]], requires_grad=True)
    loss = cross_entropy(logits, torch.tensor([0]), 3)
    loss.sum().backward()
    assert loss.item() == 0.0
    assert logits.grad is not None
    assert torch.equal(logits.grad, torch.zeros(1, 3))


def test_it_uses_the_mask_of_the_padding_alone() -> None:
    logits = torch.randn(2, 5, requires_grad=True)
    cross_entropy(logits, torch.tensor([5, 5]), 5).sum().backward()
    assert logits.grad is not None
    assert not logits.grad.any()
