from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from benchmarks import codec_usage
from benchmarks.codec_usage import usage_by_hours


@dataclass
class Piece:
    codes: Tensor


def test_use_grows_with_the_music(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codec_usage, "HOURS", (4 / 3600, 100.0))
    first = torch.tensor([[0, 0, 1, 1], [2, 2, 2, 2]])
    rows = usage_by_hours([Piece(first), Piece(first.flip(0))], frame_rate=1.0, codebook_size=4)
    assert [row["hours"] for row in rows] == [round(4 / 3600, 3), round(8 / 3600, 3)]
    assert [row["used"] for row in rows] == [[0.5, 0.25], [0.75, 0.75]]
    assert [row["perplexity"] for row in rows] == [[2, 1], [3, 3]]
