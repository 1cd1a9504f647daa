import math

import pytest
import torch
from torch import nn

from musicgen_rl.config import LMConfig
from musicgen_rl.lm.transformer import MusicLM
from musicgen_rl.training.optim import (
    Muon,
    WeightAverage,
    build_optimizers,
    group_parameters,
    orthogonalize,
    rate_factor,
    set_rate,
)

TINY = LMConfig(
    hidden_size=32, num_layers=2, num_heads=2, ffn_size=64, codebook_size=8, text_hidden_size=16
)


def test_every_parameter_of_the_model_is_in_exactly_one_group() -> None:
    shapes = {name: tuple(p.shape) for name, p in MusicLM(TINY).named_parameters()}
    groups = group_parameters(shapes)
    together = [*groups.muon, *groups.adamw_decay, *groups.adamw_plain]
    assert sorted(together) == sorted(shapes)
    assert set(groups.adamw_decay) == {"embed.weight", "heads.weight", "text_projection.weight"}
    assert groups.muon["blocks.1.self_qkv.weight"] == 3
    assert groups.muon["blocks.0.cross_key_value.weight"] == 2
    assert groups.muon["blocks.0.ffn_in.weight"] == 1
    assert all(len(shapes[name]) == 1 for name in groups.adamw_plain)


@pytest.mark.parametrize("shape", [(16, 16), (8, 24), (24, 8)])
def test_orthogonalize_keeps_the_directions_and_evens_out_the_sizes(
    shape: tuple[int, int],
) -> None:
    matrix = 100 * torch.randn(shape, generator=torch.Generator().manual_seed(1))
    u, sizes, v = torch.linalg.svd(matrix, full_matrices=False)
    found = u.T @ orthogonalize(matrix) @ v.T  # diagonal where directions are kept
    assert sizes.max() > 2 * sizes.min()
    assert 0.5 < found.diagonal().min() <= found.diagonal().max() < 1.3
    assert (found - found.diagonal().diag()).abs().max() < 1e-4


def test_orthogonalize_of_nothing_is_nothing() -> None:
    assert torch.equal(orthogonalize(torch.zeros(3, 4)), torch.zeros(3, 4))


@pytest.mark.parametrize("shape", [(3, 8, 24), (3, 24, 8)])
def test_many_matrices_are_as_one_after_the_other(shape: tuple[int, int, int]) -> None:
    matrices = torch.randn(shape, generator=torch.Generator().manual_seed(4))
    one_by_one = torch.stack([orthogonalize(matrix) for matrix in matrices])
    torch.testing.assert_close(orthogonalize(matrices), one_by_one)


def test_more_iterations_are_not_the_same() -> None:
    matrix = torch.randn(6, 6, generator=torch.Generator().manual_seed(2))
    assert not torch.allclose(orthogonalize(matrix, 2), orthogonalize(matrix, 5))


def test_muon_equals_torch_s_up_to_its_bfloat16() -> None:
    generator = torch.Generator().manual_seed(3)
    start = torch.randn(16, 8, generator=generator)
    ours, theirs = (nn.Parameter(start.clone()) for _ in range(2))
    options = {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.2}
    mine = Muon([ours], **options)
    reference = torch.optim.Muon([theirs], **options)
    for _ in range(3):
        gradient = torch.randn(16, 8, generator=generator)
        ours.grad, theirs.grad = gradient.clone(), gradient.clone()
        mine.step()
        reference.step()
    assert (start - ours).abs().mean() > 0.05
    torch.testing.assert_close(ours, theirs, atol=0.02, rtol=0)


def test_muon_takes_no_closure() -> None:
    with pytest.raises(NotImplementedError, match="no closure"):
        Muon([nn.Parameter(torch.zeros(2, 2))], 0.1).step(lambda: 0.0)


def test_muon_treats_stacked_projections_as_matrices_of_their_own() -> None:
    gradient = torch.randn(12, 4, generator=torch.Generator().manual_seed(4))
    fused = nn.Parameter(torch.zeros(12, 4))
    single = nn.Parameter(torch.zeros(4, 4))
    fused.grad, single.grad = gradient.clone(), gradient[4:8].clone()
    Muon([{"params": [fused], "parts": 3}], 0.1).step()
    Muon([single], 0.1).step()
    torch.testing.assert_close(fused[4:8], single)


def test_build_optimizers_gives_each_its_rate_and_decay() -> None:
    rates = {"muon_lr": 0.02, "adamw_lr": 0.003, "muon_decay": 0.1, "adamw_decay": 0.01}
    muon, adamw = build_optimizers(MusicLM(TINY), **rates, muon_steps=4)
    assert {(g["lr"], g["weight_decay"], g["steps"]) for g in muon.param_groups} == {(0.02, 0.1, 4)}
    assert [(g["lr"], g["weight_decay"]) for g in adamw.param_groups] == [
        (0.003, 0.01),
        (0.003, 0.0),
    ]
    set_rate([muon, adamw], 0.5)
    set_rate([muon, adamw], 0.25)
    assert muon.param_groups[0]["lr"] == 0.005
    assert adamw.param_groups[1]["lr"] == 0.00075


def test_without_a_muon_rate_adamw_trains_everything() -> None:
    model = MusicLM(TINY)
    options = {"adamw_lr": 0.003, "muon_decay": 0.1, "adamw_decay": 0.01, "muon_steps": 5}
    (adamw,) = build_optimizers(model, muon_lr=0.0, **options)
    trained = {id(p) for group in adamw.param_groups for p in group["params"]}
    assert trained == {id(p) for p in model.parameters()}


@pytest.mark.parametrize(
    ("step", "progress", "expected"),
    [
        (0, 0.0, 1 / 5),  # first of four warm-up steps
        (3, 0.0, 4 / 5),
        (4, 0.0, 1.0),
        (50, 0.5, 0.1 + 0.9 * 0.5),  # half way down the cosine
        (99, 1.0, 0.1),
    ],
)
def test_rate_warms_up_then_falls_to_the_final_share(
    step: int, progress: float, expected: float
) -> None:
    assert rate_factor(step, progress, 4, 0.1) == pytest.approx(expected)


def test_rate_falls_as_a_cosine() -> None:
    expected = 0.5 * (1 + math.cos(math.pi / 4))
    assert rate_factor(100, 0.25, 0, 0.0) == pytest.approx(expected)


def test_average_follows_the_weights_more_slowly_with_more_decay() -> None:
    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, 0.0)
    slow, fast = WeightAverage(model, 0.9), WeightAverage(model, 0.5)
    nn.init.constant_(model.weight, 1.0)
    slow.update(model, 1000)
    fast.update(model, 1000)
    assert slow.tensors["weight"].item() == pytest.approx(0.1)
    assert fast.tensors["weight"].item() == pytest.approx(0.5)


def test_early_steps_forget_the_random_start_quickly() -> None:
    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, 0.0)
    average = WeightAverage(model, 0.999)
    nn.init.constant_(model.weight, 1.0)
    average.update(model, 0)
    assert average.tensors["weight"].item() == pytest.approx(0.9)


def test_swapping_twice_restores_every_bit() -> None:
    model = nn.Linear(5, 3)
    average = WeightAverage(model, 0.9)
    before = {name: p.clone() for name, p in model.named_parameters()}
    nn.init.normal_(model.weight)
    changed = model.weight.detach().clone()
    average.swap(model)
    assert torch.equal(model.weight, before["weight"])
    average.swap(model)
    assert torch.equal(model.weight, changed)
    assert torch.equal(average.tensors["weight"], before["weight"])
