from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from musicgen_rl.training.dataset import TokenDataset
from musicgen_rl.training.lm_loss import EVAL_SEED
from musicgen_rl.training.pretrain_crops import Crops
from tests.training.fakes import CONFIG, ramp_data
from tests.training.pretrain_runs import FAST, run


@pytest.mark.parametrize(("factor", "short"), [(2, (8, 6)), (3, (12, 4))])
def test_short_crops_come_first_and_are_as_many_times_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, factor: int, short: tuple[int, int]
) -> None:
    seen: list[tuple[int, int]] = []
    real = TokenDataset.draw

    def draw(self: TokenDataset, seed: int, rows: range, frames: int, *rest: float) -> Any:
        if seed != EVAL_SEED:
            seen.append((len(rows), frames))
        return real(self, seed, rows, frames, *rest)

    monkeypatch.setattr(TokenDataset, "draw", draw)
    run(tmp_path, replace(FAST, steps=4, short_share=0.5, short_factor=factor))
    assert seen == [short, short, (4, 12), (4, 12)]


def test_crops_drawn_ahead_are_those_of_the_step_or_drawn_again() -> None:
    train, _, text = ramp_data()
    crops = Crops(replace(FAST, loop_share=0.5, loop_until=1.0), CONFIG, train, text)
    fresh, _ = crops.take(3, 0.5)
    crops.draw_ahead(3, 0.5)
    ahead = crops.ahead
    assert ahead is not None
    found, _ = crops.take(3, 0.5)
    assert found is ahead.targets
    assert torch.equal(found, fresh)
    assert crops.ahead is None
    crops.draw_ahead(3, 0.5)
    ahead = crops.ahead
    assert ahead is not None
    found, _ = crops.take(3, 0.25)  # the run was found to be longer
    assert found is not ahead.targets


@pytest.mark.parametrize("share", [0.0, 1.0])  # short crops, and whole ones
def test_processes_divide_a_step_among_them(share: float) -> None:
    train, _, text = ramp_data()
    config = replace(FAST, short_share=0.5)
    whole, prompts = Crops(config, CONFIG, train, text).take(2, share)
    parts = [
        Crops(config, CONFIG, train, text, process=index, processes=2).take(2, share)
        for index in range(2)
    ]
    assert torch.equal(torch.cat([targets for targets, _ in parts]), whole)
    assert torch.equal(torch.cat([condition.hidden for _, condition in parts]), prompts.hidden)


def test_a_run_draws_fewer_and_fewer_loops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[float] = []
    real = TokenDataset.draw

    def draw(self: TokenDataset, seed: int, rows: range, frames: int, *rest: float) -> Any:
        if seed != EVAL_SEED:
            seen.append(rest[1])
        return real(self, seed, rows, frames, *rest)

    monkeypatch.setattr(TokenDataset, "draw", draw)
    run(tmp_path, replace(FAST, steps=4, loop_share=0.8, loop_until=0.5))
    assert seen == pytest.approx([0.8, 0.4, 0.0, 0.0])
