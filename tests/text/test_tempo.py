"""A tempo that goes with words: drawn by seed, as likely as it was learnt, the same everywhere."""

import itertools

import torch

from musicgen_rl.text.tempo import COUNT, TEMPI, TempoSense, number_of


def test_tempi_are_steps_of_six_percent_and_the_nearest_is_found():
    assert (TEMPI[0], TEMPI[-1]) == (49, 209)
    assert all(1.03 < b / a < 1.09 for a, b in itertools.pairwise(TEMPI))
    assert [number_of(bpm) for bpm in TEMPI] == list(range(COUNT))
    assert (number_of(20.0), number_of(400.0)) == (0, COUNT - 1)


def test_tempi_are_drawn_as_likely_as_they_are_sharpened():
    sense = TempoSense(4)
    with torch.no_grad():
        sense.layer.bias[[3, 7, 9]] = torch.tensor([20.0, 20.0, 20.0 - 1.0 / sense.typical])
    drawn = [sense.choose(torch.zeros(4), seed) for seed in range(3000)]
    shares = [drawn.count(TEMPI[n]) / 3000 for n in (3, 7, 9)]
    assert sum(shares) == 1.0
    for share, weight in zip(shares, (1.0, 1.0, 1.0 / torch.e), strict=True):
        assert abs(share - weight / (2 + 1 / torch.e)) < 0.03
    assert drawn[:50] == [sense.choose(torch.zeros(4), seed) for seed in range(50)]
