"""A key that goes with words: its scale as likely as it was learnt, its tonic any of the twelve."""

from collections import Counter

import torch

from musicgen_rl.text.key import SCALES, KeySense


def drawn(sense, seeds=6000):
    return [sense.choose(torch.zeros(4), seed) for seed in range(seeds)]


def test_scales_are_drawn_as_likely_as_they_are_sharpened_and_tonics_evenly():
    sense = KeySense(4)
    likely = [SCALES.index(name) for name in ("major", "minor", "dorian")]
    with torch.no_grad():
        sense.layer.bias[likely] = torch.tensor([20.0, 20.0, 20.0 - 1.0 / sense.typical])
    keys = drawn(sense)
    scales, tonics = (Counter(getattr(key, name) for key in keys) for name in ("scale", "tonic"))
    assert set(scales) == {"major", "minor", "dorian"}
    for name, weight in (("major", 1.0), ("minor", 1.0), ("dorian", 1.0 / torch.e)):
        assert abs(scales[name] / 6000 - weight / (2 + 1 / torch.e)) < 0.03
    assert sorted(tonics) == list(range(12))
    assert all(abs(count / 6000 - 1 / 12) < 0.02 for count in tonics.values())
    both = Counter((key.tonic, key.scale) for key in keys)
    assert abs(both[3, "minor"] / 6000 - scales["minor"] / 6000 / 12) < 0.012
    assert keys[:50] == drawn(sense, 50)
