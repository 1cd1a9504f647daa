"""Attention by products against torch's fused kernel."""

import pytest
import torch
from torch import Tensor

from musicgen_rl.lm import attention as module
from musicgen_rl.lm.attention import attention


def rows(S: int, L: int, dtype: torch.dtype) -> list[Tensor]:
    generator = torch.Generator().manual_seed(3)
    return [
        torch.randn(2, 3, n, 8, generator=generator).to(dtype).requires_grad_() for n in (S, L, L)
    ]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", ["causal", "mask", "all"])
def test_both_ways_agree_forward_and_back(kind: str, dtype: torch.dtype) -> None:
    S, L = (9, 9) if kind == "causal" else (9, 5)
    q, k, v = rows(S, L, dtype)
    mask = None
    if kind == "mask":
        mask = torch.tensor([[True, True, False, False, False], [True] * 5])[:, None, None]
    given = {"mask": mask, "causal": kind == "causal"}
    products = attention(q, k, v, **given)
    with torch.no_grad():
        fused = attention(q, k, v, **given)
    tolerance = {"rtol": 2e-2, "atol": 2e-2} if dtype == torch.bfloat16 else {}
    torch.testing.assert_close(products, fused, **tolerance)
    assert products.dtype == dtype
    upstream = torch.randn(products.shape, generator=torch.Generator().manual_seed(4)).to(dtype)
    found = torch.autograd.grad(products, (q, k, v), upstream)
    kernel = torch.nn.functional.scaled_dot_product_attention(
        q, k, v, attn_mask=mask, is_causal=kind == "causal"
    )
    expected = torch.autograd.grad(kernel, (q, k, v), upstream)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, **tolerance)


def test_no_step_learns_from_a_later_one() -> None:
    q, k, v = rows(6, 6, torch.float32)
    out = attention(q, k, v, causal=True)
    for given in (k, v):
        (reach,) = torch.autograd.grad(out[:, :, 2].sum(), given, retain_graph=True)
        assert reach[:, :, :3].abs().sum() > 0
        assert not reach[:, :, 3:].any()


def test_long_rows_are_left_to_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> Tensor:
        raise AssertionError("products")

    monkeypatch.setattr(module, "_by_products", refuse)
    q, k, v = rows(8, 8, torch.float32)
    with pytest.raises(AssertionError, match="products"):
        attention(q, k, v, causal=True)
    monkeypatch.setattr(module, "MAX_SCORES", 63)
    attention(q, k, v, causal=True)
    with torch.no_grad():
        monkeypatch.setattr(module, "MAX_SCORES", 64)
        attention(q, k, v, causal=True)
