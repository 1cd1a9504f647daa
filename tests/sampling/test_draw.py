import pytest
import torch

from musicgen_rl.config import LMConfig, SamplingConfig
from musicgen_rl.lm.compiled import CompiledRunner
from musicgen_rl.lm.transformer import MusicLM
from musicgen_rl.sampling.draw import draw_for, draw_in_torch, native_draw
from musicgen_rl.sampling.runner import EagerRunner

CLIPS = 6
FILTERS = [
    {"temperature": 1.0, "top_k": 250, "top_p": 1.0},
    {"temperature": 0.7, "top_k": 0, "top_p": 1.0},
    {"temperature": 1.3, "top_k": 40, "top_p": 0.9},
    {"temperature": 1.0, "top_k": 0, "top_p": 0.5},
    {"temperature": 1.0, "top_k": 1, "top_p": 1.0},
    {"temperature": 0.0, "top_k": 0, "top_p": 1.0},
]


def config(vocabulary: int, codebooks: int = 4) -> LMConfig:
    return LMConfig(
        num_codebooks=codebooks, codebook_size=vocabulary, hidden_size=32, num_layers=1,
        num_heads=2, ffn_size=32, text_hidden_size=32,
    )  # fmt: skip


@pytest.mark.parametrize("filters", FILTERS, ids=lambda f: "-".join(str(v) for v in f.values()))
@pytest.mark.parametrize("guidance_scale", [1.0, 3.0])
@pytest.mark.parametrize(("vocabulary", "codebooks"), [(1024, 4), (37, 8)])
def test_native_and_torch_draw_the_same_tokens(filters, guidance_scale, vocabulary, codebooks):
    g = torch.Generator().manual_seed(vocabulary)
    sampling = SamplingConfig(guidance_scale=guidance_scale, **filters)
    native = native_draw(config(vocabulary, codebooks), CLIPS)
    rows = CLIPS * (1 if guidance_scale == 1.0 else 2)
    for _ in range(20):
        logits = 2 * torch.randn(rows, codebooks, vocabulary, generator=g)
        uniform = torch.rand(CLIPS, codebooks, generator=g)
        assert torch.equal(
            native(logits, uniform, sampling), draw_in_torch(logits, uniform, sampling)
        )


def one(probabilities, u, **filters):
    """Draw natively from one distribution, as an int."""
    logits = torch.tensor(probabilities).log().view(1, 1, -1)
    filters = {"guidance_scale": 1.0, "temperature": 1.0, "top_k": 0, "top_p": 1.0} | filters
    draw = native_draw(config(len(probabilities), 1), 1)
    return int(draw(logits, torch.tensor([[u]]), SamplingConfig(**filters)))


@pytest.mark.parametrize(
    ("u", "token"), [(0.0, 0), (0.09, 0), (0.11, 1), (0.59, 1), (0.61, 2), (0.76, 3), (0.999, 3)]
)
def test_the_native_draw_inverts_the_cumulative_sum(u, token):
    assert one([0.1, 0.5, 0.15, 0.25], u) == token


def test_equal_logits_at_the_limit_of_top_k_all_stay():
    tokens = {one([0.3, 0.2, 0.2, 0.2, 0.1], u / 50, top_k=2) for u in range(50)}
    assert tokens == {0, 1, 2, 3}


def test_a_nucleus_ends_where_it_holds_its_share_to_the_bit():
    even = [0.25, 0.25, 0.25, 0.25]
    assert {one(even, u / 50, top_p=0.5) for u in range(50)} == {0, 1}  # of equals the first
    given = SamplingConfig(guidance_scale=1.0, top_k=0, top_p=0.5)
    logits = torch.zeros(1, 1, 4)
    drawn = {int(draw_in_torch(logits, torch.tensor([[u / 50]]), given)) for u in range(50)}
    assert len(drawn) == 2


def test_equals_keep_their_order_in_a_nucleus():
    given = [0.1, 0.2, 0.3, 0.1, 0.3]  # 2, 4, 1 hold 0.8, then 0 before 3
    drawn = [one(given, u, top_p=0.89) for u in (0.1, 0.4, 0.7, 0.95)]
    assert drawn == [2, 4, 1, 0]


def test_tokens_of_probability_zero_are_passed_over():
    for u in (0.0, 0.2, 0.4999, 0.5001, 0.9999999):
        assert one([0.0, 0.5, 0.0, 0.5, 0.0], u) in (1, 3)


@pytest.mark.parametrize("filters", FILTERS[:5])
def test_logits_that_are_nan_give_a_token_of_the_codebook(filters):
    logits = torch.full((1, 4, 1024), torch.nan)
    sampling = SamplingConfig(guidance_scale=1.0, **filters)
    drawn = native_draw(config(1024), 1)(logits, torch.full((1, 4), 0.5), sampling)
    assert 0 <= int(drawn.min()) <= int(drawn.max()) < 1024


def test_steps_that_are_native_are_drawn_from_natively():
    model = MusicLM(config(16)).eval().requires_grad_(False)
    assert draw_for(EagerRunner(model, 1, 4), model.config, 1) is draw_in_torch
    assert draw_for(CompiledRunner(model, 1, 4), model.config, 1) is not draw_in_torch
