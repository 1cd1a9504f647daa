"""A take is chosen by one half of a clip and judged by the other."""

from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.takes import hear, render, summarise, tell_louder
from musicgen_rl.audio.clip import Clip
from musicgen_rl.lm.beat import BeatAdapter
from tests.audio.test_tempo import clicks


class Ears:
    """Hears one style, whatever is played."""

    def __init__(self) -> None:
        self.classes = {"style": ["jazz", "rock"]}

    def log_probs(self, samples: Any, sample_rate: int) -> dict[str, Any]:
        return {"style": torch.tensor([[0.1, 0.9]]).log()}


def test_both_halves_and_the_whole_are_heard() -> None:
    sound = np.concatenate([clicks(100), clicks(140)], axis=1)
    heard = hear(Clip(sound, 8000), Ears())  # type: ignore[arg-type]
    assert heard["first"] == pytest.approx(100, rel=0.04)
    assert heard["second"] == pytest.approx(140, rel=0.04)
    assert heard["style"] == "rock"


def take(first: float, second: float, whole: float, style: str = "rock") -> dict[str, Any]:
    return {"first": first, "second": second, "whole": whole, "style": style}


def test_shares_by_hand() -> None:
    heard = [
        [take(90, 120, 90), take(120, 90, 120, "jazz"), take(121, 60, 90)],
        [take(80, 80, 80), take(99, 100, 99), take(100, 101, 100)],
    ]
    facts = [{"style": "rock", "tempo_bpm": 120}, {"style": "rock", "tempo_bpm": 100}]
    found = summarise(heard, facts, [1, 2, 3])
    assert found["1"]["second"] == 0.5  # 120 met by luck, 80 is not 100
    assert found["1"]["whole"] == 0.0
    assert found["2"] == {"second": 0.5, "error": 0.5, "whole": 1.0, "style": 0.5}
    assert found["3"]["second"] == 0.5  # of the first piece 120 is nearest, and played 90 after it


def test_the_table_names_what_was_measured() -> None:
    row = {"second": 0.25, "error": 0.05, "whole": 0.5, "style": 0.9}
    models = {"pocket": {"takes": {"1": row, "4": row}, "one_s": 1.0, "most_s": 2.5}}
    about = {"pieces": 60, "seconds": 16.0, "seed": 0, "most": 4, "models": models}
    lines = render(about).splitlines()
    assert "| pocket | 1 | 0.25 ± 0.05 | 0.50 | 0.90 | 1.0 |" in lines
    assert "| pocket | 4 | 0.25 ± 0.05 | 0.50 | 0.90 | 2.5 |" in lines


def test_all_that_is_told_is_multiplied() -> None:
    torch.manual_seed(0)
    adapter, places, bpm = BeatAdapter(8, 2, hidden=8), torch.rand(1, 5), torch.tensor([100.0])
    torch.nn.init.normal_(adapter.outer.weight)
    torch.nn.init.normal_(adapter.outer.bias)
    before = adapter(places, bpm)
    tell_louder(adapter, 1.5)
    assert torch.allclose(adapter(places, bpm), 1.5 * before, atol=1e-5)
    tell_louder(None, 2.0)  # a model without one
