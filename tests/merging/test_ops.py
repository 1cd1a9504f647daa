import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import tensor

from musicgen_rl.errors import CheckpointError, ConfigError
from musicgen_rl.merging import ops

lams = st.floats(0.0, 1.0)
seeds = st.integers(0, 10_000)


def triple(seed, size=37, near=False):
    generator = torch.Generator().manual_seed(seed)
    base, q, d = (torch.randn(size, generator=generator) for _ in range(3))
    return (base, base + 0.01 * q, base + 0.01 * (q + 0.1 * d)) if near else (base, q, d)


def slerp_in_float64(quality, diversity, base, lam):
    """A second implementation: the formula as it is written, by arc cosine."""
    q, d, b = (t.double() for t in (quality, diversity, base))
    d1, d2 = q - b, d - b
    angle = math.acos(float(d1 @ d2 / d1.norm() / d2.norm()))
    return b + (math.sin((1 - lam) * angle) * d1 + math.sin(lam * angle) * d2) / math.sin(angle)


def test_lerp_by_hand():
    merged = ops.lerp(tensor([0.0, 4.0]), tensor([10.0, 0.0]), 0.25)
    assert merged.tolist() == [2.5, 3.0]


def test_slerp_at_a_right_angle_by_hand():
    base, q, d = tensor([1.0, 1.0]), tensor([3.0, 1.0]), tensor([1.0, 3.0])
    # Task vectors (2, 0) and (0, 2). Half way: (sqrt 2, sqrt 2). A third: (2 cos 30, 2 sin 30).
    half, third = ops.slerp(q, d, base, 0.5), ops.slerp(q, d, base, 1 / 3)
    assert half.tolist() == pytest.approx([1 + math.sqrt(2)] * 2, abs=1e-6)
    assert third.tolist() == pytest.approx([1 + math.sqrt(3), 2.0], abs=1e-6)


def test_slerp_at_sixty_degrees_and_other_lengths_by_hand():
    base, q = torch.zeros(2), tensor([1.0, 0.0])
    d = 4 * tensor([0.5, math.sqrt(3) / 2])
    # Half way both shares are sin 30 / sin 60 = 1 / sqrt 3.
    expected = [(1 + 2) / math.sqrt(3), 2 * math.sqrt(3) / math.sqrt(3)]
    assert ops.slerp(q, d, base, 0.5).tolist() == pytest.approx(expected, abs=1e-6)


def test_liti_by_hand():
    assert ops.liti(tensor([1.0]), tensor([5.0]), 0.75).item() == 4.0


def test_task_vectors_are_taken_off_and_put_back():
    tuned, base = tensor([3.0, 1.0]), tensor([1.0, 2.0])
    vector = ops.task_vector(tuned, base)
    assert vector.tolist() == [2.0, -1.0]
    assert ops.apply_task_vector(base, vector, 2.0).tolist() == [5.0, 0.0]
    assert ops.apply_task_vector(base, vector).equal(tuned)


@pytest.mark.parametrize(
    ("first", "second", "degrees"),
    [
        ((1, 0), (0, 2), 90),
        ((1, 0), (3, 0), 0),
        ((1, 0), (-2, 0), 180),
        ((2, 0), (1, 1), 45),
        ((0, 0), (1, 1), 0),
        ((1, 1), (0, 0), 0),
    ],
)
def test_angles_by_hand(first, second, degrees):
    radians = ops.angle(tensor(first).float(), tensor(second).float())
    assert math.degrees(radians) == pytest.approx(degrees, abs=1e-9)


def test_small_angles_keep_their_digits():
    assert ops.angle(tensor([1.0, 0.0]), tensor([1.0, 1e-6])) == pytest.approx(1e-6, rel=1e-6)


def test_without_an_angle_slerp_is_lerp():
    base, q, d = tensor([0.0, 0.0]), tensor([1.0, 2.0]), tensor([3.0, 6.0])
    assert ops.slerp(q, d, base, 0.25).equal(ops.lerp(q, d, 0.25))
    opposite = tensor([-1.0, -2.0])
    assert ops.slerp(q, opposite, base, 0.25).equal(ops.lerp(q, opposite, 0.25))
    assert ops.slerp(q, base, base, 0.25).equal(ops.lerp(q, base, 0.25))  # a zero task vector


def test_there_is_no_jump_where_slerp_becomes_lerp_near_zero():
    lam = 0.3
    for radians in (0.99 * ops.STRAIGHT, 1.01 * ops.STRAIGHT):
        assert ops.slerp_shares(radians, lam) == pytest.approx((0.7, 0.3), abs=1e-7)
    for end, away in ((0.0, 1.0), (math.pi, -1.0)):
        assert ops.is_straight(end)
        assert ops.is_straight(end + away * 0.99 * ops.STRAIGHT)
        assert not ops.is_straight(end + away * 1.01 * ops.STRAIGHT)


@settings(max_examples=60, deadline=None)
@given(seeds, lams, st.booleans())
def test_slerp_equals_the_formula_in_float64(seed, lam, near):
    base, q, d = triple(seed, near=near)
    expected = slerp_in_float64(q, d, base, lam)
    assert torch.allclose(ops.slerp(q, d, base, lam).double(), expected, atol=2e-6)


@settings(max_examples=60, deadline=None)
@given(seeds, lams)
def test_lerp_and_liti_equal_the_formula_in_float64(seed, lam):
    _, q, d = triple(seed)
    expected = (1 - lam) * q.double() + lam * d.double()
    assert torch.allclose(ops.lerp(q, d, lam).double(), expected, atol=1e-6)
    assert torch.allclose(ops.liti(q, d, lam).double(), expected, atol=1e-6)


@settings(max_examples=40, deadline=None)
@given(seeds, st.sampled_from([torch.float32, torch.bfloat16, torch.float16]), st.booleans())
def test_the_ends_come_out_to_the_bit(seed, dtype, near):
    base, q, d = (t.to(dtype) for t in triple(seed, near=near))
    for merged in (ops.lerp(q, d, 0.0), ops.slerp(q, d, base, 0.0), ops.liti(base, q, 1.0)):
        assert merged.equal(q.float())
    for merged in (ops.lerp(q, d, 1.0), ops.slerp(q, d, base, 1.0)):
        assert merged.equal(d.float())
    assert ops.liti(base, q, 0.0).equal(base.float())
    assert ops.combine(q, d, base, 0.0, 0.0).equal(base.float())


@settings(max_examples=60, deadline=None)
@given(seeds, lams)
def test_exchanging_the_ends_is_the_same_as_counting_from_the_other(seed, lam):
    base, q, d = triple(seed)
    assert torch.allclose(ops.lerp(q, d, lam), ops.lerp(d, q, 1 - lam), atol=1e-6)
    assert torch.allclose(ops.slerp(q, d, base, lam), ops.slerp(d, q, base, 1 - lam), atol=2e-6)


@settings(max_examples=30, deadline=None)
@given(seeds, lams)
def test_slerp_of_equally_long_task_vectors_keeps_the_length(seed, lam):
    base, q, d = triple(seed)
    q, d = base + q / q.norm(), base + d / d.norm()
    assert float((ops.slerp(q, d, base, lam) - base).norm()) == pytest.approx(1.0, abs=1e-5)


def test_merging_what_is_being_trained_records_no_gradient():
    q, d, b = (torch.nn.Parameter(tensor([1.0, x])) for x in (0.0, 2.0, 0.5))
    made = [
        ops.lerp(q, d, 0.3), ops.slerp(q, d, b, 0.3), ops.liti(b, q, 0.3), ops.task_vector(q, b),
        ops.apply_task_vector(b, q), ops.combine(q, d, b, 0.2, 0.3),
    ]  # fmt: skip
    assert not any(t.requires_grad for t in made)


def test_arithmetic_is_float32_whatever_comes_in():
    q, d = tensor([1.0]).bfloat16(), tensor([1.0078125]).bfloat16()  # neighbours in bfloat16
    merged = ops.lerp(q, d, 0.5)
    assert merged.dtype == torch.float32
    assert merged.item() == 1.00390625
    assert ops.slerp(q, d, torch.zeros(1).bfloat16(), 0.5).item() == 1.00390625


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_numbers_that_are_none_are_refused(number):
    q, d, b = torch.ones(2), torch.zeros(2), torch.full((2,), 3.0)
    for refused in (
        lambda: ops.lerp(q, d, number),
        lambda: ops.slerp(q, d, b, number),
        lambda: ops.liti(b, q, number),
        lambda: ops.apply_task_vector(b, q, number),
        lambda: ops.merge(q, d, b, 0.5, method="liti", radians=1.0, strength=number),
    ):
        with pytest.raises(ConfigError, match=r"finite.*(nan|inf)"):
            refused()


def states():
    base, q, d = triple(3, 6)
    return ({"w": t.view(2, 3), "b": t[:2] + 1} for t in (base, q, d))


@pytest.mark.parametrize("method", ["lerp", "slerp", "liti"])
def test_state_dicts_are_merged_tensor_by_tensor(method):
    base, q, d = states()
    merged = ops.merge_states(q, d, 0.3, method=method, base=base, strength=0.6)
    for name in q:
        expected = {
            "lerp": ops.lerp(q[name], d[name], 0.3),
            "slerp": ops.slerp(q[name], d[name], base[name], 0.3),
            "liti": ops.liti(base[name], ops.slerp(q[name], d[name], base[name], 0.3), 0.6),
        }[method]
        assert torch.allclose(merged[name], expected, atol=1e-6)
    others = {"lerp", "slerp", "liti"} - {method}
    for other in others:
        again = ops.merge_states(q, d, 0.3, method=other, base=base, strength=0.6)
        assert not torch.allclose(merged["w"], again["w"], atol=1e-3)


def test_mismatched_state_dicts_are_refused_by_tensor():
    base, q, d = states()
    with pytest.raises(CheckpointError, match="diversity lacks the tensor 'b'"):
        ops.merge_states(q, {"w": d["w"]}, 0.5)
    with pytest.raises(CheckpointError, match="quality lacks the tensor 'more'"):
        ops.merge_states(q, d | {"more": d["w"]}, 0.5)
    with pytest.raises(CheckpointError, match=r"'w' has shape \(2, 3\) in quality and \(3, 2\)"):
        ops.merge_states(q, d | {"w": d["w"].T}, 0.5)
    with pytest.raises(CheckpointError, match="base lacks the tensor 'b'"):
        ops.merge_states(q, d, 0.5, method="slerp", base={"w": base["w"]})


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_tensor_that_is_not_finite_is_refused_by_name(bad):
    _, q, d = states()
    d["w"] = d["w"].clone()
    d["w"][1, 2] = bad
    with pytest.raises(CheckpointError, match="'w' of diversity holds nan or inf"):
        ops.merge_states(q, d, 0.5)


def test_methods_that_cannot_be_are_refused():
    _, q, d = states()
    with pytest.raises(ConfigError, match="'median': use lerp"):
        ops.merge_states(q, d, 0.5, method="median")
    with pytest.raises(ConfigError, match="'slerp' needs the base"):
        ops.merge_states(q, d, 0.5, method="slerp")
