import pytest
import torch

from musicgen_rl.errors import CheckpointError
from musicgen_rl.lm.low_rank import LowRankDelta, compose, on_grid


def factors(rank=4, scale=0.3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    a = scale * torch.randn(rank, 24, generator=generator)
    b = scale * torch.randn(16, rank, generator=generator)
    return on_grid(a, b)


def test_the_sum_by_hand():
    a, b = on_grid(torch.tensor([[1.0, 0.5]]), torch.tensor([[2.0], [-0.25]]))
    over = {"w": torch.ones(2, 2, dtype=torch.float16), "n": torch.zeros(3)}
    state = compose(over, LowRankDelta({"w": (a, b)}, {"n": torch.tensor([1.0, 2.0, 3.0])}))
    assert state["w"].tolist() == [[3.0, 2.0], [0.75, 0.875]]
    assert state["n"].tolist() == [1.0, 2.0, 3.0]


@pytest.mark.parametrize("scale", [1e-3, 0.3, 5.0, 300.0])
def test_the_order_of_additions_does_not_change_a_bit(scale):
    a, b = factors(rank=16, scale=scale)
    over = {"w": torch.randn(16, 24).half()}
    expected = compose(over, LowRankDelta({"w": (a, b)}, {}))["w"]
    for seed in range(5):
        order = torch.randperm(16, generator=torch.Generator().manual_seed(seed))
        one_by_one = torch.zeros(16, 24, dtype=torch.float64)
        for r in order:
            one_by_one += b[:, r : r + 1].double() @ a[r : r + 1].double()
        assert torch.equal((over["w"].double() + one_by_one).float(), expected)


def test_a_file_keeps_the_factors_bit_for_bit():
    a, b = factors()
    delta = LowRankDelta({"w": (a, b)}, {"n": torch.randn(5)})
    again = LowRankDelta.from_tensors(delta.tensors(), "file")
    assert torch.equal(again.factors["w"][0].float(), a)
    assert torch.equal(again.factors["w"][1].float(), b)
    assert torch.equal(again.whole["n"], delta.whole["n"])


def test_the_grid_moves_a_factor_by_no_more_than_float16_does():
    a = 0.1 * torch.randn(4, 24)
    rounded, _ = on_grid(a, torch.randn(16, 4))
    torch.testing.assert_close(rounded, a, rtol=1e-3, atol=2e-6)


def test_untouched_tensors_are_the_very_same():
    over = {"w": torch.ones(16, 24), "x": torch.ones(2)}
    state = compose(over, LowRankDelta({"w": factors()}, {}))
    assert state["x"] is over["x"]


@pytest.mark.parametrize(("tensors", "message"), [
    ({"w.a": torch.ones(2, 3)}, "lacks its other factor"),
    ({"w.b": torch.ones(3, 2)}, "lacks its other factor"),
    ({"w.a": torch.ones(2, 3), "w.b": torch.ones(3, 1)}, "lacks its other factor"),
    ({"n": torch.tensor([float("nan")])}, "nan or inf"),
])  # fmt: skip
def test_a_broken_file_is_named(tensors, message):
    with pytest.raises(CheckpointError, match=message):
        LowRankDelta.from_tensors(tensors, "some/low_rank.safetensors")


def test_a_delta_of_another_model_is_refused():
    for name, over in (("w", {"w": torch.ones(3, 3)}), ("w", {"v": torch.ones(16, 24)})):
        with pytest.raises(CheckpointError, match=f"{name!r}.*not of one model"):
            compose(over, LowRankDelta({"w": factors()}, {}))


def test_factors_that_float16_cannot_hold_are_refused():
    with pytest.raises(CheckpointError, match="float16"):
        on_grid(torch.full((1, 2), 1e6), torch.ones(2, 1))
