import threading

import pytest
import torch

from musicgen_rl.errors import CheckpointError, ConfigError
from musicgen_rl.lm.compiled_weights import CompiledWeights
from musicgen_rl.merging import ops, targets
from musicgen_rl.merging.endpoints import Endpoints
from musicgen_rl.merging.recipe import METHODS, MergeConfig
from musicgen_rl.merging.slider import Slider
from tests.merging.pairs import tiny_lm, tiny_state
from tests.pretended_gpu import Pretence, pretended_gpus

BASE = tiny_state(0)
QUALITY, DIVERSITY = tiny_state(1, near=BASE), tiny_state(2, near=BASE)
LAMS = (0.3, 0.0, 1.0, 0.5, 0.77)


def ends(dtype=torch.float32):
    return Endpoints(
        quality={n: t.to(dtype) for n, t in QUALITY.items()},
        diversity={n: t.to(dtype) for n, t in DIVERSITY.items()},
        base={n: t.to(dtype) for n, t in BASE.items()},
    )


def fresh(points, lam, method="lerp", strength=0.5):
    return ops.merge_states(
        points.quality, points.diversity, lam, method=method, base=points.base, strength=strength
    )


def same(model, expected):
    state = model.state_dict()
    return all(state[name].equal(t.to(state[name].dtype)) for name, t in expected.items())


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("stored", [torch.float32, torch.float16, torch.bfloat16])
def test_the_model_is_a_fresh_merge_after_every_move(method, stored):
    points, model = ends(stored), tiny_lm()
    slider = Slider(points, model, MergeConfig(method=method, lam=0.1, strength=0.7))
    assert slider.lam == 0.1
    assert same(model, fresh(points, 0.1, method, 0.7))
    for lam in LAMS:
        assert slider.move(lam) > 0
        assert slider.lam == lam
        assert same(model, fresh(points, lam, method, 0.7))


@pytest.mark.parametrize("stored", [torch.float32, torch.bfloat16])
def test_a_bfloat16_model_gets_the_float32_merge_rounded_once(stored):
    points, model = ends(stored), tiny_lm(dtype=torch.bfloat16)
    slider = Slider(points, model)
    for lam in LAMS:
        slider.move(lam)
        assert same(model, fresh(points, lam))


def random_walk(moves):
    points, model = ends(), tiny_lm()
    slider = Slider(points, model)
    generator = torch.Generator().manual_seed(5)
    for lam in torch.rand(moves, generator=generator).tolist():
        slider.move(lam)
    slider.move(0.3)
    assert same(model, fresh(points, 0.3))


def test_moves_do_not_drift():
    random_walk(200)


@pytest.mark.slow
def test_ten_thousand_moves_do_not_drift():
    random_walk(10_000)


@pytest.mark.parametrize("method", METHODS)
def test_addresses_stay(method):
    model = tiny_lm()
    before = {name: p.data_ptr() for name, p in model.named_parameters()}
    slider = Slider(ends(), model, MergeConfig(method=method))
    slider.move(0.9)
    assert {name: p.data_ptr() for name, p in model.named_parameters()} == before


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("stored", [torch.float32, torch.float16])
def test_compiled_weights_are_the_fresh_merge_quantized(method, stored):
    points, weights = ends(stored), CompiledWeights.from_model(tiny_lm())
    addresses = weights.numbers.ctypes.data, weights.norms.ctypes.data, weights.embed.ctypes.data
    slider = Slider(points, weights, MergeConfig(method=method))
    for lam in (0.3, 1.0):
        slider.move(lam)
        wanted = CompiledWeights(weights.config)
        wanted.load_(fresh(points, lam, method))
        for name in points.quality:
            assert torch.equal(weights.dequantized(name), wanted.dequantized(name)), name
    assert addresses == (
        weights.numbers.ctypes.data, weights.norms.ctypes.data, weights.embed.ctypes.data
    )  # fmt: skip


def test_blocks_give_the_bits_of_the_whole(monkeypatch):
    points, models = ends(torch.float16), (tiny_lm(), tiny_lm())
    Slider(points, models[0], MergeConfig(method="slerp", lam=0.3))
    monkeypatch.setattr(targets, "_BLOCK", 64)
    Slider(points, models[1], MergeConfig(method="slerp", lam=0.3))
    assert same(models[1], models[0].state_dict())


@pytest.mark.parametrize("method", METHODS)
def test_tensors_alike_at_both_ends_are_held_and_written_once(method):
    shared = {n: QUALITY[n] for n in QUALITY if not n.endswith("norm.weight")}
    points = Endpoints(quality=QUALITY, diversity=DIVERSITY | shared, base=BASE)
    alone = sum(QUALITY[n].nbytes for n in shared)
    assert points.nbytes == 3 * sum(t.nbytes for t in QUALITY.values()) - alone
    model = tiny_lm()
    slider = Slider(points, model, MergeConfig(method=method))
    for lam in (0.2, 0.9):
        slider.move(lam)
        assert same(model, fresh(points, lam, method))


def test_endpoints_change_dtype_and_still_share_what_they_shared():
    shared = {"norm.bias": QUALITY["norm.bias"]}
    points = Endpoints(quality=QUALITY, diversity=DIVERSITY | shared)
    device = torch.device("cpu")
    assert points.to(device) is points
    assert points.to(device, torch.float32) is points
    half = points.to(device, torch.float16)
    assert half.nbytes == points.nbytes // 2
    assert half.quality["norm.bias"] is half.diversity["norm.bias"]
    assert half.diversity["heads.weight"].equal(DIVERSITY["heads.weight"].half())


def test_where_it_stands_a_move_does_nothing():
    points, model = ends(), tiny_lm()
    slider = Slider(points, model, MergeConfig(lam=0.5))
    model.norm.weight.fill_(7.0)
    slider.move(0.5)
    assert model.norm.weight.eq(7.0).all()
    slider.move(0.6)
    assert same(model, fresh(points, 0.6))


@pytest.mark.parametrize("lam", [-0.1, 1.1, float("nan"), float("inf"), True])
def test_a_position_off_the_line_is_refused_and_nothing_moves(lam):
    points, model = ends(), tiny_lm()
    slider = Slider(points, model, MergeConfig(lam=0.25))
    with pytest.raises(ConfigError, match="lam must be between 0 and 1"):
        slider.move(lam)
    assert slider.lam == 0.25
    assert same(model, fresh(points, 0.25))


class Broken:
    """A target that fails in the middle of a move."""

    def __init__(self, model):
        self._inner, self.left = targets.ModelTarget(model), 10_000
        self.device = self._inner.device
        self.shapes, self.mix_ = self._inner.shapes, self._inner.mix_

    def lerp_(self, *arguments):
        self.left -= 1
        if self.left < 0:
            raise MemoryError
        self._inner.lerp_(*arguments)


def test_a_move_that_breaks_off_is_known_and_the_next_one_is_whole():
    points, model = ends(), tiny_lm()
    broken = Broken(model)
    slider = Slider(points, broken)
    broken.left = 5
    with pytest.raises(MemoryError):
        slider.move(0.9)
    with pytest.raises(ConfigError, match="did not finish"):
        _ = slider.lam
    broken.left = 10_000
    slider.move(0.9)
    assert same(model, fresh(points, 0.9))


def test_moves_from_several_threads_wait_for_one_another():
    points, model = ends(), tiny_lm()
    slider = Slider(points, model)

    def wander(seed):
        generator = torch.Generator().manual_seed(seed)
        for lam in torch.rand(20, generator=generator).tolist():
            slider.move(lam)

    threads = [threading.Thread(target=wander, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert same(model, fresh(points, slider.lam))


def test_endpoints_of_another_model_are_refused_by_tensor():
    points = ends()
    without = {n: t for n, t in QUALITY.items() if n != "norm.bias"}
    with pytest.raises(CheckpointError, match=r"diversity lacks the tensor 'norm.bias'"):
        Endpoints(quality=QUALITY, diversity=without)
    with pytest.raises(CheckpointError, match=r"the endpoint lacks the tensor 'norm.bias'"):
        Slider(Endpoints(quality=without, diversity=without), tiny_lm())
    wide = QUALITY | {"norm.bias": torch.zeros(33)}
    with pytest.raises(CheckpointError, match=r"'norm.bias' has shape \(33,\) in the endpoint"):
        Slider(Endpoints(quality=wide, diversity=wide), tiny_lm())
    more = QUALITY | {"adapter": torch.zeros(1)}
    with pytest.raises(CheckpointError, match="running model lacks the tensor 'adapter'"):
        Slider(Endpoints(quality=more, diversity=more), tiny_lm())
    with pytest.raises(ConfigError, match="'slerp' needs the base"):
        Slider(
            Endpoints(quality=points.quality, diversity=points.diversity),
            tiny_lm(),
            MergeConfig(method="slerp"),
        )


def test_a_nan_in_an_endpoint_is_refused_by_name():
    damaged = DIVERSITY | {"heads.weight": DIVERSITY["heads.weight"] * float("nan")}
    with pytest.raises(CheckpointError, match=r"'heads.weight' of diversity holds nan"):
        Endpoints(quality=QUALITY, diversity=damaged)


def test_an_end_may_make_its_tensors_when_asked():
    class Halves(dict):
        def __getitem__(self, name):
            return 2 * super().__getitem__(name)

    points = Endpoints(quality=Halves({n: t / 2 for n, t in QUALITY.items()}), diversity=DIVERSITY)
    points = Endpoints(quality=points.quality, diversity=DIVERSITY)
    model = tiny_lm()
    Slider(points, model, MergeConfig(lam=0.0))
    assert same(model, QUALITY)


@pytest.mark.gpu
@pytest.mark.parametrize("method", METHODS)
def test_on_a_gpu_the_model_is_a_fresh_merge_and_addresses_stay(method):
    points, model = ends(), tiny_lm().cuda()
    before = [p.data_ptr() for p in model.parameters()]
    slider = Slider(points, model, MergeConfig(method=method))
    slider.move(0.3)
    there = points.to(torch.device("cuda", torch.cuda.current_device()))
    assert same(model, fresh(there, 0.3, method))
    assert [p.data_ptr() for p in model.parameters()] == before


def test_on_a_gpu_a_move_is_a_fresh_merge_and_lets_another_thread_capture():
    failures = []

    def move():
        try:
            with Pretence():
                slider.move(0.3)
        except RuntimeError as error:
            failures.append(error)

    with pretended_gpus():
        model = tiny_lm(0).to("cuda:1")
        slider = Slider(ends(), model, MergeConfig(lam=1.0))
        with torch.cuda.graph(torch.cuda.CUDAGraph()):
            thread = threading.Thread(target=move)
            thread.start()
            thread.join()
        model.cpu()
    assert not failures
    assert same(model, fresh(ends(), 0.3))
