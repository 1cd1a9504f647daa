"""Words are learnt by contrast; what the model knew before stays; a killed run goes on."""

import json
import math
import random
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from musicgen_rl.errors import CheckpointError, ConfigError, InputError
from musicgen_rl.lm.condition import Condition
from musicgen_rl.lm.transformer import MusicLM
from musicgen_rl.training.contrast import ContrastTrainer, contrast_loss, divergence
from musicgen_rl.training.contrast_run import rivals_among
from musicgen_rl.training.dataset import TokenPiece
from musicgen_rl.training.pretrain_config import ContrastConfig
from tests.training.fakes import CONFIG, ramp_data

SETTINGS = ContrastConfig(
    steps=30, batch_size=4, micro_batch_size=2, crop_frames=8, eval_rows=8, warmup_steps=1,
    muon_lr=0.02, adamw_lr=0.01, ema_decay=0.5, eval_minutes=100, save_minutes=0, anchor=0.01,
    precision="fp32",
)  # fmt: skip


class Words:
    """Reads "up" and "down" as two directions."""

    hidden_size = 16

    def encode(self, prompts: list[str]) -> Condition:
        hidden = torch.stack([4 * torch.eye(16)[["up", "down"].index(p)][None] for p in prompts])
        return Condition(hidden, torch.ones(len(prompts), 1, dtype=torch.bool))


def opposite(piece: TokenPiece, _: random.Random) -> list[str]:
    return [piece.captions[0], {"up": "down", "down": "up"}[piece.captions[0]]]


def trainer_in(folder: Path, config: ContrastConfig, dropout: float) -> ContrastTrainer:
    torch.manual_seed(3)
    shape = replace(CONFIG, dropout=dropout)
    start = {n: t.clone() for n, t in MusicLM(shape).state_dict().items()}
    train, valid, text = ramp_data()
    made = ContrastTrainer(
        shape, config, train, valid, text, folder, start, encoder=Words(), rivals=opposite
    )
    made.restore()
    return made


def run(
    folder: Path, config: ContrastConfig = SETTINGS, stop_at: int = 1000, dropout: float = 0.0
) -> ContrastTrainer:
    made = trainer_in(folder, config, dropout)
    made.run(None, lambda: made.progress.step >= stop_at, live=False)
    return made


def test_loss_by_hand() -> None:
    costs = torch.tensor([[1.0, 1.0, 1.0], [0.0, math.log(2), math.log(4)]])
    assert contrast_loss(costs).tolist() == pytest.approx([math.log(3), math.log(1.75)])


def test_divergence_by_hand_leaves_padding_out() -> None:
    before = torch.tensor([0.5, 0.5]).log().expand(1, 1, 2, 2)
    now = torch.tensor([0.25, 0.75]).log().expand(1, 1, 2, 2)
    one = 0.5 * math.log(2) + 0.5 * math.log(2 / 3)
    for real, places in (([True, True], 2), ([True, False], 1)):
        found = divergence(before, now, torch.tensor([[real]]))
        assert found.tolist() == pytest.approx([places * one])


def test_the_words_are_learnt_and_the_anchor_holds_the_rest(tmp_path: Path) -> None:
    free = run(tmp_path / "free").progress.last
    held = run(tmp_path / "held", replace(SETTINGS, anchor=10.0)).progress.last
    assert free["known"] == 1.0
    assert free["contrast"] < 0.7 * math.log(2)
    assert held["kl"] < 0.5 * free["kl"]


def test_a_stopped_run_ends_in_the_bits_of_one_that_was_not(tmp_path: Path) -> None:
    config = replace(SETTINGS, steps=6)
    whole = run(tmp_path / "whole", config).average.tensors
    run(tmp_path / "parts", config, stop_at=2)
    again = run(tmp_path / "parts", config).average.tensors
    assert all(torch.equal(again[name], tensor) for name, tensor in whole.items())
    rows = [json.loads(r) for r in (tmp_path / "parts/metrics.jsonl").read_text().splitlines()]
    assert [r["step"] for r in rows if r["kind"] == "train"] == list(range(1, 7))
    assert {"contrast", "kl", "known"} <= rows[0].keys()
    assert rows[0]["kl"] == pytest.approx(0.0, abs=1e-5)  # the first step starts from the start
    later = [r for r in rows if r["kind"] == "train"][-1]  # the model has left the start
    assert later["kl"] > 0
    assert later["loss"] == pytest.approx(later["contrast"] + 0.01 * later["kl"], rel=1e-4)


def test_rivals_and_the_model_as_it_was_are_compared_without_dropout(tmp_path: Path) -> None:
    made = run(tmp_path, replace(SETTINGS, steps=1), dropout=0.5)
    row = json.loads((made.folder / "metrics.jsonl").read_text().splitlines()[0])
    assert row["kl"] == pytest.approx(0.0, abs=1e-5)
    assert not any(p.requires_grad for p in made.before.parameters())


def test_a_run_does_not_go_on_with_another_anchor(tmp_path: Path) -> None:
    run(tmp_path, replace(SETTINGS, steps=1))
    with pytest.raises(CheckpointError, match=r"begun with anchor 0\.01, now 0\.5: .* new folder"):
        run(tmp_path, replace(SETTINGS, steps=2, anchor=0.5))
    assert run(tmp_path, replace(SETTINGS, steps=2, adamw_lr=0.005)).progress.step == 2


def test_micro_batches_change_nothing(tmp_path: Path) -> None:
    rows = []
    for size in (1, 4):
        made = run(tmp_path / str(size), replace(SETTINGS, steps=1, micro_batch_size=size))
        rows.append(json.loads((made.folder / "metrics.jsonl").read_text().splitlines()[0]))
    for name in ("contrast", "kl", "known", "grad_norm"):
        assert rows[0][name] == pytest.approx(rows[1][name], rel=1e-3, abs=1e-5)


def test_captions_of_other_pieces_are_rivals_where_facts_are_missing() -> None:
    codes = torch.zeros(2, 20, dtype=torch.uint16)
    pieces = [
        TokenPiece(codes, (f"{n} a", f"{n} b"), n, "train", {}) for n in ("one", "two", "three")
    ]
    write = rivals_among(pieces)
    for seed in range(20):
        own, *others = write(pieces[0], random.Random(seed))
        assert own in pieces[0].captions
        assert len({*others, own}) == 3
        assert not {*others} & {*pieces[0].captions}
    with pytest.raises(InputError, match="2 different captions are too few"):
        rivals_among(pieces[:1])


@pytest.mark.parametrize(
    ("change", "words"),
    [({"anchor": -1.0}, "anchor"), ({"caption_dropout": 0.1}, "caption_dropout must be 0"),
     ({"anchor": math.nan}, "anchor")],
)  # fmt: skip
def test_settings_that_make_no_sense_are_named(change: dict[str, float], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        replace(SETTINGS, **change)


def test_every_row_tells_its_piece() -> None:
    train, _, _ = ramp_data()
    batch = train.draw(1, range(20), 8)
    captions = [train.pieces[p].captions[0] for p in batch.pieces]
    assert captions == [["up", "down"][c] for c in batch.captions]
    assert len({*captions}) == 2
