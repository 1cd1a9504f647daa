import itertools

import pytest
import torch

from musicgen_rl.codec import quantizer as quantizers
from musicgen_rl.codec.quantizer import ResidualQuantizer, nearest, smallest_sums


def test_nearest_agrees_with_measured_distances() -> None:
    vectors, entries = torch.randn(50, 8), torch.randn(32, 8)
    assert torch.equal(nearest(vectors, entries), torch.cdist(vectors, entries).argmin(-1))


def test_each_codebook_codes_what_the_ones_before_left() -> None:
    quantizer = ResidualQuantizer(2, 3, 2)
    quantizer.entries[0] = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]])
    quantizer.entries[1] = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, -1.0]])
    latents = torch.tensor([[[10.9, 0.1], [0.2, 8.8]]])  # [1, 2, 2]
    codes = quantizer.encode(latents)
    assert codes.tolist() == [[[1, 2], [1, 2]]]
    assert quantizer.decode(codes).tolist() == [[[11.0, 0.0], [0.0, 9.0]]]


def test_codes_of_several_clips_stay_apart() -> None:
    quantizer = ResidualQuantizer(3, 16, 4)
    quantizer.entries.normal_()
    latents = torch.randn(2, 5, 4)
    alone = torch.cat([quantizer.encode(latents[:1]), quantizer.encode(latents[1:])])
    assert torch.equal(quantizer.encode(latents), alone)
    assert alone.shape == (2, 3, 5)


def coded(quantizer: ResidualQuantizer, latents: torch.Tensor, ways: int) -> torch.Tensor:
    """How far each latent lies from what is coded of it, squared, [B, T]."""
    return (quantizer.decode(quantizer.encode(latents, ways)) - latents).square().sum(-1)


def random_quantizer(K: int, V: int, D: int) -> ResidualQuantizer:
    torch.manual_seed(0)
    quantizer = ResidualQuantizer(K, V, D)
    for k in range(K):
        quantizer.entries[k] = 0.6**k * torch.randn(V, D)
    return quantizer


def test_one_way_takes_the_nearest_entry_each_time() -> None:
    quantizer = random_quantizer(4, 64, 6)
    latents = torch.randn(2, 7, 6)
    residual, wanted = latents.reshape(14, 6), []
    for entries in quantizer.entries:
        wanted.append(torch.cdist(residual, entries).argmin(-1))
        residual = residual - entries[wanted[-1]]
    assert torch.equal(
        quantizer.encode(latents, 1), torch.stack(wanted).view(4, 2, 7).transpose(0, 1)
    )


def test_the_nearest_sum_is_found_where_the_nearest_entry_first_misses_it() -> None:
    quantizer = ResidualQuantizer(2, 2, 1)
    quantizer.entries[0] = torch.tensor([[0.0], [10.0]])
    quantizer.entries[1] = torch.tensor([[6.0], [-6.0]])
    latents = torch.tensor([[[4.1], [0.5]]])
    assert quantizer.encode(latents, 1).tolist() == [[[0, 0], [0, 0]]]  # 6, 6
    assert quantizer.encode(latents).tolist() == [[[1, 1], [1, 1]]]  # 4, 4


def test_all_ways_find_the_nearest_sum_of_all() -> None:
    quantizer = random_quantizer(3, 8, 4)
    latents = torch.randn(1, 20, 4)
    sums = torch.stack([
        sum((quantizer.entries[k, v] for k, v in enumerate(picked)), torch.zeros(4))
        for picked in itertools.product(range(8), repeat=3)
    ])  # fmt: skip
    best = torch.cdist(latents[0], sums).square().amin(-1)
    torch.testing.assert_close(coded(quantizer, latents, 64)[0], best)


def test_more_ways_code_nearer() -> None:
    quantizer = random_quantizer(6, 64, 8)
    latents = torch.randn(1, 300, 8)
    left = [float(coded(quantizer, latents, ways).mean()) for ways in (1, 2, 8)]
    assert left[1] < 0.97 * left[0]
    assert left[2] < 0.97 * left[1]


def test_frames_are_coded_alike_wherever_they_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    quantizer = random_quantizer(3, 32, 4)
    latents = torch.randn(2, 9, 4)
    whole = quantizer.encode(latents)
    monkeypatch.setattr(quantizers, "FRAMES", 4)
    assert torch.equal(quantizer.encode(latents), whole)


@pytest.mark.parametrize(
    ("ways", "entries", "count"), [(1, 1024, 8), (8, 1024, 8), (8, 1024, 1), (3, 32, 5), (2, 7, 9)]
)
def test_the_smallest_of_all_are_found_in_order(ways: int, entries: int, count: int) -> None:
    torch.manual_seed(1)
    numbers, more = torch.randn(20, ways, entries), 3 * torch.randn(20, ways)
    way, index = smallest_sums(numbers, more, count)
    wanted = (numbers + more[..., None]).flatten(1).sort(-1).indices[:, :count]
    assert torch.equal(way * entries + index, wanted)
