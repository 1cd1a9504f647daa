import copy
import multiprocessing

import pytest
import torch

from musicgen_rl.config import LMConfig
from musicgen_rl.errors import ConfigError, InputError
from musicgen_rl.lm.cache import CrossStates, DecodeCache, LayerCache
from musicgen_rl.lm.compiled import CompiledRunner
from musicgen_rl.lm.compiled_weights import CompiledWeights
from musicgen_rl.lm.condition import Condition, null_condition
from musicgen_rl.lm.transformer import MusicLM
from tests.equivalence.shapes import SHAPES, build_pair, text_states

ROWS, STEPS = 3, 14
shapes = pytest.mark.parametrize("config", SHAPES.values(), ids=SHAPES.keys())


def make(config: LMConfig, rows: int = ROWS, max_steps: int = 32) -> CompiledRunner:
    return CompiledRunner(build_pair(config)[0], rows, max_steps)


def random_tokens(config: LMConfig, rows: int = ROWS, steps: int = STEPS) -> torch.Tensor:
    g = torch.Generator().manual_seed(5)
    return torch.randint(
        0, config.codebook_size + 1, (rows, config.num_codebooks, steps), generator=g
    )


def prompts(config: LMConfig) -> Condition:
    return Condition(*text_states(config))


def to_int8(x: torch.Tensor) -> torch.Tensor:
    """Round vectors along the last dimension to 127 levels either side of zero."""
    scale = x.abs().amax(-1, keepdim=True).clamp_min(1e-30) / 127
    return (x / scale).round() * scale


class Int8Cache(LayerCache):
    def extend(self, keys, values, start):
        return super().extend(to_int8(keys), to_int8(values), start)


@torch.no_grad()
def reference(model: MusicLM, weights: CompiledWeights, condition: Condition, tokens):
    """Logits of the last step from torch, with the weights, keys and values of `weights`."""
    rounded = copy.deepcopy(model)
    rounded.load_state_dict({name: weights.dequantized(name) for name in model.state_dict()})
    cache = DecodeCache(model.config, len(tokens), tokens.shape[2], torch.device("cpu"))
    cache.layers = [Int8Cache(layer.keys, layer.values) for layer in cache.layers]
    cache.cross = [
        CrossStates(to_int8(s.keys), to_int8(s.values), s.mask)
        for s in rounded.cross_states(condition)
    ]
    return rounded.prefill(tokens, cache)


@shapes
def test_logits_are_those_of_torch_with_the_same_rounded_weights(config):
    model, _ = build_pair(config)
    weights = CompiledWeights.from_model(model)
    runner, tokens = CompiledRunner(weights, ROWS, STEPS), random_tokens(config)
    runner.begin(prompts(config))
    expected = reference(model, weights, prompts(config), tokens)
    assert expected.std() > 0.1
    error = (runner.prefill(tokens) - expected).norm() / expected.norm()
    assert error < 2e-3


@shapes
def test_logits_are_close_to_the_model_that_was_not_rounded(config):
    model, _ = build_pair(config)
    runner, tokens = CompiledRunner(model, ROWS, STEPS), random_tokens(config)
    runner.begin(prompts(config))
    with torch.no_grad():
        expected = model(tokens, prompts(config))[:, :, -1]
    error = (runner.prefill(tokens) - expected).norm() / expected.norm()
    assert 1e-4 < error < 0.04


@shapes
def test_prefill_and_single_steps_agree_to_the_bit(config):
    tokens = random_tokens(config)
    runner = make(config)
    runner.begin(prompts(config))
    at_once = runner.prefill(tokens).clone()
    runner.reset()
    runner.prefill(tokens[:, :, :5])
    for s in range(5, STEPS):
        logits = runner.step(tokens[:, :, s])
    assert runner.length == STEPS
    assert torch.equal(logits, at_once)


def test_prefill_longer_than_a_block_agrees_to_the_bit():
    config = SHAPES["mono"]
    tokens = random_tokens(config, rows=1, steps=300)
    condition = null_condition(1, config.text_hidden_size, "cpu")
    runner = make(config, rows=1, max_steps=300)
    runner.begin(condition)
    at_once = runner.prefill(tokens).clone()
    runner.begin(condition)
    for s in range(300):
        logits = runner.step(tokens[:, :, s])
    assert torch.equal(logits, at_once)


@shapes
def test_a_row_does_not_depend_on_the_other_rows_or_on_padding(config):
    tokens, condition = random_tokens(config), prompts(config)
    runner = make(config)
    runner.begin(condition)
    together = runner.prefill(tokens).clone()
    alone = make(config, rows=1)
    for i in range(ROWS):
        real = max(1, int(condition.mask[i].sum()))  # text without its padding
        alone.begin(Condition(condition.hidden[i : i + 1, :real], condition.mask[i : i + 1, :real]))
        assert torch.equal(alone.prefill(tokens[i : i + 1])[0], together[i])


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_thread_count_does_not_change_a_bit(two_threads):
    config = LMConfig(
        hidden_size=192, num_layers=3, num_heads=3, ffn_size=640, text_hidden_size=192
    )
    torch.manual_seed(0)
    weights = CompiledWeights.from_model(MusicLM(config))
    tokens, results = random_tokens(config, 2, 40), []
    for threads in (2, 1, 2):
        torch.set_num_threads(threads)
        runner = CompiledRunner(weights, 2, 64)
        runner.begin(Condition(torch.ones(2, 4, 192), torch.ones(2, 4).bool()))
        runner.prefill(tokens[:, :, :10])
        results.append(torch.stack([runner.step(tokens[:, :, s]).clone() for s in range(10, 40)]))
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[2], results[1])


def _decode_in_child(runner: CompiledRunner, tokens: torch.Tensor, out) -> None:
    runner.reset()
    out.put(runner.prefill(tokens).sum().item())


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="needs fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of forking with threads about
def test_decoding_goes_on_after_a_fork(two_threads):
    config = SHAPES["mono"]
    runner, tokens = make(config), random_tokens(config)
    runner.begin(prompts(config))
    expected = runner.prefill(tokens).sum().item()
    context = multiprocessing.get_context("fork")
    out = context.SimpleQueue()
    child = context.Process(target=_decode_in_child, args=(runner, tokens, out))
    child.start()
    child.join(60)
    assert child.exitcode == 0
    assert out.get() == expected


@shapes
def test_null_rows_see_exactly_nothing(config):
    """What text there was, or how it is projected, must not reach a row whose mask is empty."""
    tokens = random_tokens(config, rows=2)
    runner = make(config, rows=2)
    hidden = torch.randn(2, 5, config.text_hidden_size)
    runner.begin(Condition(hidden, torch.tensor([[True] * 5, [False] * 5])))
    masked = runner.prefill(tokens).clone()
    runner.begin(null_condition(2, config.text_hidden_size, "cpu"))
    null = runner.prefill(tokens)
    assert torch.equal(masked[1], null[1])
    assert not torch.equal(masked[0], null[0])


def test_begin_and_reset_forget_the_steps_and_only_begin_changes_the_text():
    config = SHAPES["mono"]
    runner, tokens = make(config), random_tokens(config)
    runner.begin(prompts(config))
    first = runner.prefill(tokens).clone()
    runner.reset()
    assert torch.equal(runner.prefill(tokens), first)
    runner.begin(Condition(*text_states(config, seed=9)))
    assert runner.length == 0
    assert not torch.equal(runner.prefill(tokens), first)


def test_longer_and_shorter_text_may_follow_each_other():
    config = SHAPES["mono"]
    runner, tokens = make(config, rows=1), random_tokens(config, rows=1)
    results = []
    for length in (3, 150, 3):
        g = torch.Generator().manual_seed(length)
        hidden = torch.randn(1, length, config.text_hidden_size, generator=g)
        runner.begin(Condition(hidden, torch.ones(1, length, dtype=torch.bool)))
        results.append(runner.prefill(tokens).clone())
    assert torch.equal(results[0], results[2])
    assert not torch.equal(results[0], results[1])


def test_positions_go_on_beyond_the_trained_length():
    config = SHAPES["mono"]  # max_frames 64
    model, _ = build_pair(config)
    weights = CompiledWeights.from_model(model)
    tokens = random_tokens(config, steps=90)
    runner = CompiledRunner(weights, ROWS, 90)
    runner.begin(prompts(config))
    expected = reference(model, weights, prompts(config), tokens)
    error = (runner.prefill(tokens) - expected).norm() / expected.norm()
    assert error < 2e-3


@pytest.mark.parametrize(
    "name",
    ["embed.weight", "blocks.0.self_norm.weight", "blocks.0.ffn_in.weight", "heads.weight"],
)
def test_nan_is_not_hidden(name):
    config = SHAPES["mono"]
    model, _ = build_pair(config)
    with torch.no_grad():
        model.get_parameter(name)[:] = torch.nan
    runner = CompiledRunner(model, ROWS, STEPS)
    runner.begin(prompts(config))
    assert runner.prefill(random_tokens(config)).isnan().all()


def test_nan_in_one_prompt_stays_in_its_row():
    config = SHAPES["mono"]
    hidden, mask = text_states(config)
    hidden[0, 2, 3] = torch.nan
    runner, tokens = make(config), random_tokens(config)
    runner.begin(Condition(hidden, mask))
    logits = runner.prefill(tokens)
    assert logits[0].isnan().all()
    assert logits[1:].isfinite().all()


def test_no_memory_is_taken_from_step_to_step():
    config = SHAPES["mono"]
    runner, tokens = make(config), random_tokens(config)
    runner.begin(prompts(config))
    first = runner.step(tokens[:, :, 0])
    assert runner.step(tokens[:, :, 1]).data_ptr() == first.data_ptr()


@pytest.mark.parametrize("bad", [-1, 31, 10**12])
def test_a_token_out_of_range_is_refused(bad):
    config = SHAPES["mono"]  # tokens 0..30
    runner, tokens = make(config), random_tokens(config)
    runner.begin(prompts(config))
    tokens[1, 2, 3] = bad
    with pytest.raises(InputError, match=r"outside 0\.\.30"):
        runner.prefill(tokens)


def test_misuse_is_refused_with_the_numbers():
    config = SHAPES["mono"]
    runner, tokens = make(config, max_steps=STEPS), random_tokens(config)
    with pytest.raises(ConfigError, match="call begin first"):
        runner.prefill(tokens)
    runner.begin(prompts(config))
    with pytest.raises(InputError, match="3 rows of 4 codebooks"):
        runner.step(tokens[:2, :, 0])
    runner.prefill(tokens)
    with pytest.raises(InputError, match=f"{STEPS} \\+ 1 steps"):
        runner.step(tokens[:, :, 0])
    with pytest.raises(InputError, match="3 prompts of width 32"):
        runner.begin(null_condition(2, 32, "cpu"))
    with pytest.raises(ConfigError, match="got 0"):
        CompiledRunner(runner.weights, 0, 5)


def test_runners_of_one_model_share_its_weights():
    config = SHAPES["mono"]
    weights = CompiledWeights.from_model(build_pair(config)[0])
    one, two = CompiledRunner(weights, 1, 8), CompiledRunner(weights, 2, 8)
    assert one.weights is two.weights
