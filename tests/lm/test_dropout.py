"""Dropout: how much, how much louder the rest, by which seed."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from musicgen_rl.lm.dropout import Dropout


def dropped(p: float, dtype: torch.dtype = torch.float32, seed: int = 0) -> torch.Tensor:
    torch.manual_seed(seed)
    found: torch.Tensor = Dropout(p)(torch.ones(1001, 999, dtype=dtype))
    return found


@pytest.mark.parametrize("p", [0.01, 0.2, 0.5, 0.9])
def test_the_share_is_dropped_and_the_mean_kept(p: float) -> None:
    found = dropped(p)
    assert (found == 0).float().mean().item() == pytest.approx(p, abs=0.003)
    assert found.mean().item() == pytest.approx(1.0, abs=0.02)
    assert found.max().item() == pytest.approx(1 / (1 - p), rel=2e-4)


def test_neighbours_have_nothing_to_do_with_each_other() -> None:
    """Four values come of one draw; where one is dropped, the others are as likely to stay."""
    lost = (dropped(0.5) == 0).float().flatten()
    for apart in (1, 2, 3, 4):
        both = (lost[:-apart] * lost[apart:]).mean().item()
        assert both == pytest.approx(0.25, abs=0.003)


def test_the_seed_decides() -> None:
    assert torch.equal(dropped(0.2, seed=3), dropped(0.2, seed=3))
    assert not torch.equal(dropped(0.2, seed=3), dropped(0.2, seed=4))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_is_dropped_learns_nothing(dtype: torch.dtype) -> None:
    x = torch.randn(7, 5, 3, dtype=dtype, requires_grad=True)
    y = Dropout(0.3)(x)
    y.float().sum().backward()
    assert y.dtype == dtype
    assert x.grad is not None
    assert torch.equal(x.grad == 0, y == 0)
    assert (y == 0).any()


@pytest.mark.parametrize("p", [0.0, 1.0])
def test_nothing_and_everything(p: float) -> None:
    x = torch.randn(4, 4)
    assert torch.equal(Dropout(p)(x), F.dropout(x, p))


def test_it_is_silent_outside_training() -> None:
    x = torch.randn(4, 4)
    assert torch.equal(Dropout(0.9).eval()(x), x)
    assert isinstance(Dropout(0.9), nn.Dropout)
