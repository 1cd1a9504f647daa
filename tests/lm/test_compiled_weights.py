import pytest
import torch

from musicgen_rl.errors import CheckpointError
from musicgen_rl.lm.compiled import CompiledRunner
from musicgen_rl.lm.compiled_weights import CompiledWeights, aligned
from musicgen_rl.lm.condition import null_condition
from tests.equivalence.shapes import SHAPES, build_pair

NAME = "blocks.1.ffn_in.weight"


@pytest.mark.parametrize("config", SHAPES.values(), ids=SHAPES.keys())
def test_every_tensor_of_the_model_is_held_to_half_a_level(config):
    model, _ = build_pair(config)
    weights = CompiledWeights.from_model(model)
    for name, tensor in model.state_dict().items():
        got = weights.dequantized(name)
        if name in weights.places:
            level = tensor.abs().amax(1, keepdim=True) / 127
            assert ((got - tensor).abs() <= level * 0.501).all(), name
            assert not torch.equal(got, tensor)
        else:
            assert torch.equal(got, tensor), name


def test_an_output_is_rounded_by_its_own_largest_weight():
    weights = CompiledWeights(SHAPES["mono"])
    tensor = torch.zeros(48, 32)
    tensor[0, :3] = torch.tensor([1.27, -0.634, 0.006])  # levels of 0.01
    tensor[1, :2] = torch.tensor([-254.0, 3.2])  # levels of 2
    weights.load_({NAME: tensor})
    got = weights.dequantized(NAME)
    torch.testing.assert_close(got[0, :3], torch.tensor([1.27, -0.63, 0.01]))
    torch.testing.assert_close(got[1, :2], torch.tensor([-254.0, 4.0]))
    assert not got[2:].any()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_load_changes_what_a_runner_computes_and_nothing_else(dtype):
    config = SHAPES["mono"]
    model, _ = build_pair(config)
    weights = CompiledWeights.from_model(model)
    runner = CompiledRunner(weights, 1, 8)
    runner.begin(null_condition(1, 32, "cpu"))
    tokens = torch.arange(8).view(1, 4, 2)
    before = runner.prefill(tokens).clone()
    address, others = weights.numbers.ctypes.data, weights.dequantized("heads.weight")
    changed = (model.get_parameter(NAME).detach() * 1.5 + 0.1).to(dtype)
    weights.load_({NAME: changed})
    runner.reset()
    assert not torch.equal(runner.prefill(tokens), before)
    assert weights.numbers.ctypes.data == address
    assert torch.equal(weights.dequantized("heads.weight"), others)
    expected = CompiledWeights.from_model(model)
    expected.load_({NAME: changed.float()})
    assert torch.equal(weights.dequantized(NAME), expected.dequantized(NAME))


@pytest.mark.parametrize("lam", [-0.5, 0.0, 0.3, 0.5, 0.8, 1.0, 1.5])
@pytest.mark.parametrize("name", [NAME, "embed.weight", "norm.bias"])
def test_interpolating_and_rounding_at_once_is_rounding_the_interpolation(name, lam):
    config = SHAPES["mono"]
    quality, diversity = (build_pair(config, seed)[0].state_dict()[name] for seed in (0, 1))
    once, twice = CompiledWeights(config), CompiledWeights(config)
    once.lerp_quantize_(name, quality, diversity, lam)
    twice.load_({name: torch.lerp(quality, diversity, lam)})
    assert torch.equal(once.dequantized(name), twice.dequantized(name))


def test_what_does_not_fit_is_refused_by_name_and_nothing_changes():
    config = SHAPES["mono"]
    model, _ = build_pair(config)
    weights = CompiledWeights.from_model(model)
    before = weights.dequantized("heads.weight")
    state = {"heads.weight": before * 2, "blocks.7.ffn_in.weight": torch.zeros(48, 32)}
    with pytest.raises(CheckpointError, match=r"'blocks\.7\.ffn_in\.weight' is not part"):
        weights.load_(state)
    with pytest.raises(
        CheckpointError, match=r"'norm\.bias' has shape \(5,\), this model has \(32"
    ):
        weights.load_({"heads.weight": before * 2, "norm.bias": torch.zeros(5)})
    with pytest.raises(CheckpointError, match=r"shape \(2, 2\)"):
        weights.lerp_quantize_("heads.weight", before, torch.zeros(2, 2), 0.5)
    assert torch.equal(weights.dequantized("heads.weight"), before)


def test_memory_begins_at_a_cache_line_and_is_counted():
    assert all(aligned((n, 3), "float32").ctypes.data % 64 == 0 for n in range(1, 20))
    weights = CompiledWeights(SHAPES["mono"])
    assert (
        weights.nbytes
        > weights.numbers.nbytes
        == sum(p.outputs * p.width for p in weights.places.values())
    )
