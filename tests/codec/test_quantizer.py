import torch

from musicgen_rl.codec.quantizer import ResidualQuantizer, nearest


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
