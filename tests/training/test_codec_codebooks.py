import pytest
import torch

from musicgen_rl.codec.quantizer import ResidualQuantizer
from musicgen_rl.errors import CheckpointError
from musicgen_rl.training.codec_codebooks import CodebookLearner, k_means, usage


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_k_means_finds_well_separated_clusters() -> None:
    centres = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]])
    vectors = centres.repeat(40, 1) + torch.randn(120, 2, generator=generator()) * 0.1
    found = k_means(vectors, 3, 10, generator(3))
    assert float(torch.cdist(found, centres).min(0).values.max()) < 0.2


def test_k_means_with_fewer_vectors_than_clusters_still_gives_all() -> None:
    found = k_means(torch.randn(5, 4), 16, 3, generator())
    assert found.shape == (16, 4)
    assert bool(torch.isfinite(found).all())


def test_starting_sets_each_codebook_on_what_is_left() -> None:
    quantizer = ResidualQuantizer(3, 8, 4)
    latents = torch.randn(400, 4, generator=generator())
    CodebookLearner(quantizer).start(latents, generator())
    codes = quantizer.encode(latents[None])
    errors = [
        float((latents - quantizer.decode(codes[:, : k + 1])[0]).square().mean()) for k in range(3)
    ]
    assert errors[0] < 0.6
    assert errors[2] < 0.6 * errors[1] < 0.4 * errors[0]


def test_the_gradient_passes_straight_through() -> None:
    quantizer = ResidualQuantizer(2, 8, 4)
    quantizer.entries.normal_()
    latents = torch.randn(1, 6, 4, requires_grad=True)
    quantized, _, codes, _ = CodebookLearner(quantizer).quantize(latents, generator())
    weight = torch.randn(1, 6, 4)
    (quantized * weight).sum().backward()
    assert latents.grad is not None
    assert torch.equal(latents.grad, weight)
    assert codes.shape == (1, 2, 6)


def test_commitment_is_the_mean_distance_to_the_entries_and_pulls_latents_there() -> None:
    quantizer = ResidualQuantizer(1, 2, 1)
    quantizer.entries[0] = torch.tensor([[0.0], [10.0]])
    latents = torch.tensor([[[1.0], [8.0]]], requires_grad=True)
    _, commitment, _, _ = CodebookLearner(quantizer).quantize(latents, generator())
    assert float(commitment.detach()) == pytest.approx((1.0 + 4.0) / 2)
    commitment.backward()
    assert latents.grad is not None
    assert latents.grad.flatten().tolist() == pytest.approx([1.0, -2.0])


def test_entries_move_to_the_running_mean_of_their_vectors() -> None:
    quantizer = ResidualQuantizer(1, 2, 1)
    learner = CodebookLearner(quantizer, decay=0.5, dead_share=0.0)
    quantizer.entries[0] = torch.tensor([[0.0], [10.0]])
    learner.sizes[0] = torch.tensor([2.0, 2.0])
    learner.sums[0] = torch.tensor([[0.0], [20.0]])
    learner.quantize(torch.tensor([[[1.0], [1.0], [12.0], [12.0]]]), generator())
    # Sizes 0.5 * 2 + 0.5 * 2; sums 0.5 * 0 + 0.5 * 2 and 0.5 * 20 + 0.5 * 24.
    assert quantizer.entries[0].flatten().tolist() == pytest.approx([0.5, 11.0])


def test_a_dead_entry_is_replaced_and_the_next_step_does_not_undo_it() -> None:
    quantizer = ResidualQuantizer(1, 2, 1)
    learner = CodebookLearner(quantizer, decay=0.9, dead_share=0.1)
    quantizer.entries[0] = torch.tensor([[0.0], [1000.0]])
    learner.sizes[0] = torch.tensor([4.0, 0.01])
    learner.sums[0] = torch.tensor([[0.0], [10.0]])
    batch = torch.tensor([[[-1.0], [-1.2], [3.0], [3.1]]])
    replaced = learner.quantize(batch, generator(1))[3]
    assert replaced == 1
    fresh = float(quantizer.entries[0, 1])
    assert min(abs(fresh - v) for v in (-1.0, -1.2, 3.0, 3.1)) < 1e-5
    assert learner.quantize(batch, generator(2))[3] == 0
    assert abs(float(quantizer.entries[0, 1]) - fresh) < 1.0


def test_training_on_data_in_few_places_uses_all_of_the_codebook() -> None:
    quantizer = ResidualQuantizer(1, 16, 2)
    quantizer.entries[0] = torch.randn(16, 2, generator=generator()) * 100
    learner = CodebookLearner(quantizer)
    for step in range(60):
        learner.quantize(torch.randn(1, 200, 2, generator=generator(step)), generator(step))
    codes = quantizer.encode(torch.randn(1, 500, 2, generator=generator(99)))
    assert usage(codes, 16)[0] == [1.0]


def test_state_comes_back_and_another_shape_is_refused() -> None:
    learner = CodebookLearner(ResidualQuantizer(2, 8, 4))
    learner.start(torch.randn(50, 4), generator())
    other = CodebookLearner(ResidualQuantizer(2, 8, 4))
    other.restore(learner.state())
    assert torch.equal(other.sums, learner.sums)
    assert torch.equal(other.sizes, learner.sizes)
    with pytest.raises(CheckpointError, match=r"codebooks\.sums"):
        CodebookLearner(ResidualQuantizer(2, 4, 4)).restore(learner.state())


def test_usage_counts_entries_and_their_evenness() -> None:
    codes = torch.tensor([[[0, 1, 2, 3], [5, 5, 5, 5]]])
    shares, perplexities = usage(codes, 8)
    assert shares == [0.5, 0.125]
    assert perplexities == pytest.approx([4.0, 1.0])
