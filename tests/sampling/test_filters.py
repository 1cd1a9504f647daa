import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.generation.logits_process import TopKLogitsWarper, TopPLogitsWarper

from musicgen_rl.sampling.filters import filtered_distribution, sample_tokens

LOGITS = torch.log(torch.tensor([0.1, 0.5, 0.15, 0.25]))


def draw(u, temperature=1.0, top_k=0, top_p=1.0):
    got = sample_tokens(LOGITS, torch.tensor(u), temperature=temperature, top_k=top_k, top_p=top_p)
    return int(got)


@pytest.mark.parametrize(
    ("u", "token"), [(0.0, 0), (0.09, 0), (0.11, 1), (0.59, 1), (0.61, 2), (0.76, 3), (0.999, 3)]
)
def test_the_draw_inverts_the_cumulative_sum(u, token):
    assert draw(u) == token


@pytest.mark.parametrize(("u", "token"), [(0.0, 1), (0.66, 1), (0.67, 3), (0.999, 3)])
def test_top_k_keeps_the_likeliest(u, token):
    assert draw(u, top_k=2) == token  # 0.5 and 0.25 are left: two thirds and one third


@pytest.mark.parametrize(
    ("top_p", "kept"), [(0.4, {1}), (0.6, {1, 3}), (0.8, {1, 3, 2}), (0.95, {0, 1, 2, 3})]
)
def test_top_p_keeps_the_shortest_run_that_holds_it(top_p, kept):
    assert {draw(u / 200, top_p=top_p) for u in range(200)} == kept


def test_top_p_counts_within_what_top_k_left():
    # of {0.5, 0.25} the first alone holds two thirds
    assert {draw(u / 100, top_k=2, top_p=0.6) for u in range(100)} == {1}


@pytest.mark.parametrize(("top_k", "top_p"), [(0, 1.0), (2, 1.0), (0, 0.6)])
def test_logits_that_are_being_trained_can_be_drawn_from(top_k, top_p):
    given = {"temperature": 1.0, "top_k": top_k, "top_p": top_p}
    drawn = sample_tokens(LOGITS.clone().requires_grad_(), torch.tensor(0.7), **given)
    assert drawn == sample_tokens(LOGITS, torch.tensor(0.7), **given)
    assert drawn.dtype == torch.long


def test_temperature_zero_is_greedy_and_high_temperature_is_flat():
    assert draw(0.99, temperature=0.0) == 1
    counts = torch.bincount(
        torch.tensor([draw(u / 1000, temperature=1000.0) for u in range(1000)]), minlength=4
    )
    assert (counts - 250).abs().max() <= 2


def test_nothing_of_probability_zero_is_drawn():
    logits = torch.tensor([-float("inf"), 0.0, -float("inf"), 0.0, -float("inf")])
    for u in (0.0, 0.25, 0.4999, 0.5, 0.75, 0.9999):
        got = sample_tokens(logits, torch.tensor(u), temperature=1.0, top_k=0, top_p=1.0)
        assert int(got) in (1, 3)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31), st.integers(0, 12), st.floats(0.05, 1.0), st.floats(0.3, 3.0))
def test_distribution_equals_transformers_warpers(seed, top_k, top_p, temperature):
    logits = torch.randn(2, 12, generator=torch.Generator().manual_seed(seed)) * 3
    theirs = logits / temperature
    if top_k > 0:
        theirs = TopKLogitsWarper(top_k)(None, theirs)
    if top_p < 1:
        theirs = TopPLogitsWarper(top_p)(None, theirs)
    ours = filtered_distribution(logits, temperature=temperature, top_k=top_k, top_p=top_p)
    assert torch.allclose(ours, theirs.softmax(-1), atol=1e-5)


@pytest.mark.parametrize(("top_k", "top_p"), [(0, 1.0), (5, 1.0), (0, 0.7), (6, 0.6)])
def test_a_fine_grid_of_numbers_draws_the_filtered_distribution(top_k, top_p):
    logits = torch.randn(3, 10, generator=torch.Generator().manual_seed(4)) * 2
    n = 4000
    u = ((torch.arange(n) + 0.5) / n).unsqueeze(1).expand(n, 3)
    drawn = sample_tokens(logits.expand(n, 3, 10), u, temperature=0.9, top_k=top_k, top_p=top_p)
    share = torch.nn.functional.one_hot(drawn, 10).float().mean(0)
    expected = filtered_distribution(logits, temperature=0.9, top_k=top_k, top_p=top_p)
    assert (share - expected).abs().max() < 2e-3
