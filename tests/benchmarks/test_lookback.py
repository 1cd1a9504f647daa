import math
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmarks.lookback import by_place, in_loops, measure, render, returning
from musicgen_rl.config import LMConfig
from musicgen_rl.errors import InputError
from musicgen_rl.training.dataset import TextStates, TokenDataset, TokenPiece

V, PERIOD = 16, 10
CONFIG = LMConfig(
    hidden_size=8, num_layers=1, num_heads=1, ffn_size=8, num_codebooks=2, codebook_size=V,
    text_hidden_size=4,
)  # fmt: skip
TEXT = TextStates(torch.zeros(1, 4), torch.tensor([0, 1]))


@dataclass
class LooksBack:
    """Says what stood `period` steps before, as surely as `sure`; 0 knows nothing."""

    period: int
    sure: float
    config: LMConfig = CONFIG

    def __call__(self, tokens: Tensor, condition: Any) -> Tensor:
        before = tokens.roll(self.period - 1, dims=-1)
        before[..., : self.period - 1] = V  # nothing was heard then
        seen = torch.nn.functional.one_hot(before, V + 1)[..., :V]
        return self.sure * seen.float()


def pieces(period: int | None = None, frames: int = 400) -> list[TokenPiece]:
    random = torch.Generator().manual_seed(1)
    codes = torch.randint(V, (2, frames), generator=random)
    if period:
        codes = codes[:, torch.arange(frames) % period]
    return [TokenPiece(codes.to(torch.uint16), ("a",), "p", "valid", {})]


def data(**how: Any) -> TokenDataset:
    return TokenDataset(pieces(**how), ["a"], CONFIG.pad_token)


def test_a_model_that_looks_back_has_nothing_to_guess_the_second_time() -> None:
    found = in_loops(LooksBack(PERIOD, 40.0), data(), TEXT, rows=9, length=PERIOD, times=3)
    assert found.shape == (2, 3)
    torch.testing.assert_close(found[:, 0], torch.full((2,), math.log(V)))
    assert float(found[:, 1:].max()) < 1e-3


def test_a_model_that_does_not_guesses_as_before() -> None:
    found = in_loops(LooksBack(PERIOD, 0.0), data(), TEXT, rows=9, length=PERIOD, times=3)
    torch.testing.assert_close(found, torch.full((2, 3), math.log(V)))


def test_later_places_are_easier_where_music_repeats_and_is_looked_back_at() -> None:
    found = by_place(LooksBack(PERIOD, 40.0), data(period=PERIOD), TEXT, rows=4, frames=80)
    torch.testing.assert_close(found[:, 0], torch.full((2,), math.log(V)))
    assert float(found[:, 1:].max()) < 1e-3


def test_what_comes_back_is_counted_at_the_best_lag() -> None:
    back = returning(pieces(period=30), frame_rate=5.0)
    assert back == {"mean": pytest.approx(1 / V, abs=0.05), "best": 1.0, "pieces": 1}
    with pytest.raises(InputError, match="no piece is 24 s long"):
        returning(pieces(frames=100), frame_rate=5.0)


def test_the_page_shows_first_and_last_codebooks() -> None:
    found = measure(LooksBack(PERIOD, 1.0), pieces(), TEXT, 5.0, rows=2)
    page = render({**found, "model": "toy", "rows": 2})
    assert "on toy, 2 held-out crops" in page
    assert "| 0.5 s | 1 | 2.77" in page
