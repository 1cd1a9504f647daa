import math

import pytest
import torch

from musicgen_rl.errors import InputError
from musicgen_rl.rewards.mel import N_MELS
from musicgen_rl.training.reward_mels import MelPiece
from musicgen_rl.training.reward_retrieval import (
    coded_crops,
    crops_at,
    encoder_figures,
    recall_at,
    recall_within,
)

SIMILAR = torch.tensor([[0.9, 0.1, 0.5], [0.8, 0.2, 0.1], [0.3, 0.9, 0.4]])


def test_recall_by_hand() -> None:
    right = torch.eye(3, dtype=torch.bool)
    assert recall_at(SIMILAR, right, 1) == pytest.approx(1 / 3)
    assert recall_at(SIMILAR, right, 2) == pytest.approx(1.0)
    assert recall_at(SIMILAR, ~right, 1) == pytest.approx(2 / 3)
    with pytest.raises(InputError, match="recall at 4 needs a gallery of 4 items, got 3"):
        recall_at(SIMILAR, right, 4)


def test_recall_within_groups_looks_at_members_alone() -> None:
    hit, chance = recall_within(SIMILAR, ["a", "a", "b"])
    assert hit == pytest.approx(0.5)  # 0 finds itself; 1 finds 0; 2 has no company
    assert chance == pytest.approx(0.5)
    assert all(math.isnan(v) for v in recall_within(SIMILAR, ["a", "b", "c"]))


def pieces(count: int) -> list[MelPiece]:
    """Pieces that are loud in a band of their own."""
    found = []
    for i in range(count):
        frames = torch.full((600, N_MELS), 50, dtype=torch.uint8)
        frames[:, 10 * i : 10 * i + 5] = 200
        style = "even" if i % 2 == 0 else "odd"
        coded = frames[:300] if i < 3 else None
        found.append(
            MelPiece(str(i), str(i), "test", ("words",), {"style": style}, frames, coded, 0)
        )
    return found


def test_figures_of_an_encoder_that_hears_everything_and_of_one_that_is_deaf() -> None:
    def perfect(frames: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.normalize(frames.mean(1), dim=1)

    def deaf(frames: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.normalize(torch.ones(len(frames), 4), dim=1)

    good, bad = encoder_figures(perfect, pieces(6)), encoder_figures(deaf, pieces(6))
    for name in ("recall@1, 2 s", "recall@1 within style, 5 s", "recall@1 through the codec, 2 s"):
        assert good[name] == 1.0
        assert bad[name] < 0.5
    assert good["chance within style, 2 s"] == pytest.approx(1 / 3)
    assert good["cosine within a piece"] > good["cosine across styles"] + 0.05
    assert bad["cosine across styles"] == pytest.approx(1.0)
    assert good["cosine to itself, a tone higher"] < good["cosine within a piece"]
    assert bad["cosine to itself, filtered and noised"] == pytest.approx(1.0)
    assert good["pieces"] == 6


def test_crops_are_cut_where_they_are_said_to_be() -> None:
    held = pieces(2)
    first, last = crops_at(held, 2.0, 0.0)[0], crops_at(held, 2.0, 1.0)[0]
    assert (first.start, first.frames) == (0, 96)
    assert last.start + last.frames <= 600
    assert [i for i, _ in coded_crops(pieces(6), 2.0)] == [0, 1, 2]
    assert coded_crops(pieces(6), 8.0) == []
