import pytest
import torch

from musicgen_rl.training.endpoint_clips import Batch, answers, listening
from tests.training.endpoint_fakes import HashText, LoudScorer

TEXTS = ["slow piano", "fast drums"]


def heard(samples: torch.Tensor, codes: torch.Tensor | None = None) -> Batch:
    """Two prompts of two clips."""
    if codes is None:
        codes = torch.arange(4 * 3 * 5).view(4, 3, 5)
    return Batch([7, 2], TEXTS, HashText().encode(TEXTS), codes, torch.arange(4), samples=samples)


class Corners:
    """Embeds clips as the first of their samples, at the rate of 150 Hz."""

    sample_rate, identity = 150, "corners"

    def embed(self, samples: torch.Tensor, sample_rate: int) -> torch.Tensor:
        assert sample_rate == 150
        return samples[:, :2]


class Noted(LoudScorer):
    """Remembers what it was asked."""

    def score(self, samples: torch.Tensor, sample_rate: int, captions: list[str]) -> torch.Tensor:
        self.asked = (sample_rate, captions)
        return super().score(samples, sample_rate, captions)


def test_answers_are_a_straight_line_between_both_scores_by_hand() -> None:
    means = torch.tensor([0.1, 0.3, 0.4, 0.9])
    scorer = Noted()
    found = answers(heard(means[:, None].expand(4, 6)), scorer, 150, low=0.2, high=0.6)
    torch.testing.assert_close(found, torch.tensor([[0.0, 0.25], [0.5, 1.0]]))
    assert scorer.asked == (150, ["slow piano", "slow piano", "fast drums", "fast drums"])


def test_what_is_heard_by_hand() -> None:
    samples = torch.zeros(4, 6)
    samples[:3, :2] = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    samples[3, 0] = 1e-6  # too soft to be heard, but not to be embedded
    codes = torch.arange(5).repeat(4, 3, 1)
    codes[0, :, 1] = codes[0, :, 0]  # one of four changes of one of four clips
    found = listening(heard(samples, codes), Corners(), LoudScorer(), 150)
    assert found["silent"] == 0.25
    assert found["repeated"] == pytest.approx(1 / 16)
    assert found["held_out_diversity"] == pytest.approx((1.0 + 0.0) / 2)
    assert found["score"] == pytest.approx(float(samples.mean()))


def test_held_out_clips_lie_further_apart_once_what_they_share_is_taken_off() -> None:
    samples = torch.zeros(4, 6)
    samples[:, :2] = torch.tensor([[1.0, 0.1], [1.0, -0.1], [1.0, 0.1], [1.0, -0.1]])
    plain, centred = (
        listening(heard(samples), Corners(), None, 150, take_off_mean=off) for off in (False, True)
    )
    assert plain["held_out_diversity"] < 0.1
    assert centred["held_out_diversity"] == pytest.approx(2.0, abs=0.01)


def test_judges_that_are_not_there_say_nothing() -> None:
    assert set(listening(heard(torch.ones(4, 6)), None, None, 150)) == {"silent", "repeated"}
