"""Our LM equals transformers' MusicGen."""

import pytest
import torch

from musicgen_rl.lm.cache import DecodeCache
from musicgen_rl.lm.condition import Condition, null_condition
from musicgen_rl.lm.delay import apply_delay, shift_right
from tests.equivalence.shapes import SHAPES, build_pair, text_states

pytestmark = pytest.mark.parametrize("config", SHAPES.values(), ids=SHAPES.keys())


def inputs(config, frames=9, seed=2):
    g = torch.Generator().manual_seed(seed)
    codes = torch.randint(0, config.codebook_size, (3, config.num_codebooks, frames), generator=g)
    return shift_right(
        apply_delay(codes, config.pad_token, config.audio_channels), config.pad_token
    )


def their_logits(theirs, ours, tokens, hidden, mask):
    if ours.text_projection is not None:
        hidden = ours.text_projection(hidden) * mask.unsqueeze(-1)
    B, K, S = tokens.shape
    out = theirs(
        input_ids=tokens.reshape(B * K, S),
        encoder_hidden_states=hidden,
        encoder_attention_mask=mask.long(),
    ).logits
    return out.view(B, K, S, -1)


@torch.no_grad()
def test_teacher_forced_logits(config):
    ours, theirs = build_pair(config)
    tokens, (hidden, mask) = inputs(config), text_states(config)
    expected = their_logits(theirs, ours, tokens, hidden, mask)
    got = ours(tokens, Condition(hidden, mask))
    assert (got - expected).abs().max() < 1e-5
    assert expected.std() > 0.1  # logits worth comparing


@torch.no_grad()
@pytest.mark.parametrize("first", [1, 4])
def test_cached_equals_uncached(config, first):
    ours, _ = build_pair(config)
    tokens, (hidden, mask) = inputs(config), text_states(config)
    condition = Condition(hidden, mask)
    whole = ours(tokens, condition)
    cache = DecodeCache(config, 3, 20, torch.device("cpu"))
    cache.cross = ours.cross_states(condition)
    steps = [ours.prefill(tokens[..., :first], cache)]
    steps += [ours.prefill(tokens[..., s : s + 1], cache) for s in range(first, 8)]
    rest = ours.prefill(tokens[..., 8:], cache)  # several steps on top of a past
    assert (torch.stack(steps, 2) - whole[:, :, first - 1 : 8]).abs().max() < 1e-5
    assert (rest - whole[:, :, -1]).abs().max() < 1e-5


@torch.no_grad()
def test_static_step_equals_uncached(config):
    ours, _ = build_pair(config)
    tokens, (hidden, mask) = inputs(config), text_states(config)
    condition = Condition(hidden, mask)
    cache = DecodeCache(config, 3, 20, torch.device("cpu"))
    cache.cross = ours.cross_states(condition)
    steps = []
    for s in range(tokens.shape[-1]):
        steps.append(ours.step_static(tokens[..., s : s + 1], cache))
        cache.position += 1
    whole = ours(tokens, condition)
    assert (torch.stack(steps, 2) - whole).abs().max() < 1e-5


@torch.no_grad()
def test_null_condition_equals_states_of_zeros_under_a_zero_mask(config):
    ours, theirs = build_pair(config)
    tokens, (hidden, mask) = inputs(config), text_states(config)
    zeros = torch.zeros_like(hidden), torch.zeros_like(mask)
    expected = their_logits(theirs, ours, tokens, *zeros)
    got = ours(tokens, null_condition(3, config.text_hidden_size, "cpu"))
    assert (got - expected).abs().max() < 1e-5
    assert (got - ours(tokens, Condition(hidden, mask)))[0].abs().max() > 1e-2


@torch.no_grad()
def test_positions_beyond_the_trained_length_are_the_same_sinusoids(config):
    ours, theirs = build_pair(config)
    hidden, mask = text_states(config)
    tokens = inputs(config, frames=config.max_frames + 20)
    expected = their_logits(theirs, ours, tokens, hidden, mask)
    assert (ours(tokens, Condition(hidden, mask)) - expected).abs().max() < 1e-5
