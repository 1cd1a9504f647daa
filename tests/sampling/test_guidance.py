import pytest
import torch

from musicgen_rl.sampling.guidance import guide


@pytest.mark.parametrize(
    ("scale", "expected"), [(0, [1.0, 0.0]), (1, [2.0, -1.0]), (3, [4.0, -3.0]), (0.5, [1.5, -0.5])]
)
def test_guidance_by_hand(scale, expected):
    conditional, null = torch.tensor([2.0, -1.0]), torch.tensor([1.0, 0.0])
    assert guide(conditional, null, scale).tolist() == expected


def test_same_formula_as_transformers():
    from transformers.generation.logits_process import ClassifierFreeGuidanceLogitsProcessor

    logits = torch.randn(6, 11)
    theirs = ClassifierFreeGuidanceLogitsProcessor(2.5)(torch.zeros(3, 1), logits)
    assert torch.allclose(guide(logits[:3], logits[3:], 2.5), theirs, atol=1e-6)
