import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from musicgen_rl.config import LMConfig
from musicgen_rl.errors import ConfigError
from musicgen_rl.lm.delay import apply_delay
from musicgen_rl.lm.transformer import MusicLM
from musicgen_rl.pipeline.devices import has_native_bf16
from musicgen_rl.training.dataset import TokenDataset, TokenPiece
from musicgen_rl.training.lm_loss import EVAL_SEED, evaluate, token_losses
from musicgen_rl.training.metrics import read_metrics
from musicgen_rl.training.pretrain import Trainer, pretrain, step_seed
from musicgen_rl.training.pretrain_config import PretrainConfig
from tests.training.fakes import CONFIG, ramp_data
from tests.training.pretrain_runs import FAST, run, saved


def test_a_code_costs_minus_its_log_probability_and_padding_nothing() -> None:
    logits = torch.tensor([0.0, math.log(3)]).expand(1, 2, 3, 2)
    targets = torch.tensor([[[0, 1, 2], [2, 0, 1]]])  # 2 is the padding of a codebook of 2
    quarter, most = math.log(4), math.log(4 / 3)
    expected = torch.tensor([[[quarter, most, 0.0], [0.0, quarter, most]]])
    torch.testing.assert_close(token_losses(logits, targets, pad=2), expected)


def test_losses_are_float32_whatever_the_logits_are() -> None:
    logits = torch.randn(1, 1, 2, 4, dtype=torch.bfloat16)
    assert token_losses(logits, torch.zeros(1, 1, 2, dtype=torch.long), 4).dtype == torch.float32


def test_padding_places_get_no_gradient() -> None:
    logits = torch.randn(1, 2, 4, 8, requires_grad=True)
    targets = apply_delay(torch.ones(1, 2, 3, dtype=torch.long), 8)
    token_losses(logits, targets, 8).sum().backward()
    assert logits.grad is not None
    touched = logits.grad.abs().sum(-1)[0] > 0
    assert touched.tolist() == [[True, True, True, False], [False, True, True, True]]


def test_evaluation_agrees_with_a_sum_by_hand() -> None:
    train, _, text = ramp_data()
    torch.manual_seed(3)
    model = MusicLM(CONFIG)
    options = {"rows": 3, "crop_frames": 5, "device": torch.device("cpu")}
    found = evaluate(model, CONFIG, train, text, micro_batch_size=2, **options)
    batch = train.draw(EVAL_SEED, range(3), 5)
    tokens = apply_delay(batch.codes, 8)
    inputs = torch.cat([torch.full((3, 2, 1), 8), tokens[..., :-1]], dim=-1)
    with torch.no_grad():
        logp = model(inputs, text.condition(batch.captions)).log_softmax(-1)  # [B, K, S, V]
    first = [-logp[b, 0, s, tokens[b, 0, s]] for b in range(3) for s in range(5)]
    second = [-logp[b, 1, s, tokens[b, 1, s]] for b in range(3) for s in range(1, 6)]
    per_codebook = [torch.stack(losses).mean().item() for losses in (first, second)]
    assert found["loss_per_codebook"] == pytest.approx(per_codebook, rel=1e-5)
    assert found["loss"] == pytest.approx(sum(per_codebook) / 2, rel=1e-5)
    assert found["loss_null"] != pytest.approx(found["loss"], rel=1e-6)


def test_training_learns_what_the_prompt_says(tmp_path: Path) -> None:
    pieces = [
        TokenPiece(torch.full((2, 4), code).to(torch.uint16), (caption,), caption, "train", {})
        for caption, code in (("up", 1), ("down", 5))
    ]
    data, text = TokenDataset(pieces, ["up", "down"], CONFIG.pad_token), ramp_data()[2]
    config = replace(
        FAST, steps=40, crop_frames=1, batch_size=16, caption_dropout=0.3, adamw_lr=0.02
    )
    figures = pretrain(CONFIG, config, data, data, text, tmp_path, live=False)
    first, *_ = read_metrics(tmp_path / "metrics.jsonl")
    assert first["loss"] == pytest.approx(math.log(8), abs=0.1)
    assert figures["loss"] < 0.3  # the prompt says it all,
    assert 0.3 < figures["loss_null"] < 1.1  # and without it, it is log(2) for one of two codes
    assert figures["frames"] == 40 * 16
    assert figures["finished"]


@pytest.mark.parametrize(
    ("until", "at", "share"),
    [(0.5, 0.0, 0.6), (0.5, 0.25, 0.3), (0.5, 0.5, 0.0), (0.5, 1.0, 0.0), (0.0, 0.0, 0.0)],
)
def test_loops_grow_fewer(until: float, at: float, share: float) -> None:
    assert PretrainConfig(loop_share=0.6, loop_until=until).loops_at(at) == pytest.approx(share)


def test_a_crop_that_cannot_be_cut_is_refused() -> None:
    assert PretrainConfig(crop_frames=375).short_share == 0
    with pytest.raises(ConfigError, match="crop_frames 375 is not a multiple of short_factor 2"):
        PretrainConfig(crop_frames=375, short_share=0.5)


def test_embeddings_start_as_wide_as_asked(tmp_path: Path) -> None:
    run(tmp_path, replace(FAST, steps=1, adamw_lr=1e-9, embedding_std=3.0))
    assert saved(tmp_path)[0]["model.embed.weight"].std().item() == pytest.approx(3.0, rel=0.2)


def test_micro_batches_change_nothing_but_rounding(tmp_path: Path) -> None:
    config = replace(FAST, steps=2)
    run(tmp_path / "whole", config)
    run(tmp_path / "split", replace(config, micro_batch_size=1))
    rows = [read_metrics(tmp_path / name / "metrics.jsonl")[1] for name in ("whole", "split")]
    assert rows[0]["loss"] == pytest.approx(rows[1]["loss"], rel=1e-5)
    assert rows[0]["grad_norm"] == pytest.approx(rows[1]["grad_norm"], rel=1e-4)


def test_the_seed_counts(tmp_path: Path) -> None:
    run(tmp_path / "a", replace(FAST, steps=1))
    run(tmp_path / "b", replace(FAST, steps=1, seed=1))
    a, b = (read_metrics(tmp_path / name / "metrics.jsonl")[0]["loss"] for name in "ab")
    assert a != b


def test_what_dropout_takes_follows_from_the_step_and_nothing_drawn_before(tmp_path: Path) -> None:
    train, valid, text = ramp_data()
    model = replace(CONFIG, dropout=0.3)

    def draws() -> bool:
        return bool(torch.rand(7).sum() < 0)

    for name, stop in (("plain", lambda: False), ("drawn", draws)):
        pretrain(model, FAST, train, valid, text, tmp_path / name, stop=stop, live=False)
    plain, drawn = (saved(tmp_path / name)[0] for name in ("plain", "drawn"))
    assert all(torch.equal(drawn[name], t) for name, t in plain.items())


def test_no_two_steps_and_no_two_processes_drop_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seeds = [step_seed(0, step, process) for step in range(3) for process in range(3)]
    assert len({*seeds, step_seed(1, 0, 0)}) == 10
    train, valid, text = ramp_data()
    trainer = Trainer(CONFIG, FAST, train, valid, text, tmp_path)
    given: list[int] = []
    seeded = torch.manual_seed
    monkeypatch.setattr(torch, "manual_seed", lambda seed: given.append(seed) or seeded(seed))
    monkeypatch.setattr(type(trainer.accelerator), "process_index", 2)
    monkeypatch.setattr(trainer, "_train_step", lambda model: stop_here())
    with pytest.raises(StopIteration):
        trainer.run(None, lambda: False, live=False)
    assert given == [step_seed(FAST.seed, 0, 2)]


def stop_here() -> dict[str, Any]:
    raise StopIteration


def test_minutes_become_steps_and_the_run_ends_in_time(tmp_path: Path) -> None:
    figures = run(tmp_path, replace(FAST, minutes=0.02, steps=1))
    rows = read_metrics(tmp_path / "metrics.jsonl")
    planned = [row["total_steps"] for row in rows if row["kind"] == "plan"]
    assert figures["finished"]
    assert planned
    assert figures["steps"] == planned[-1] > 9
    assert figures["seconds"] < 4


def test_evaluations_and_saves_come_when_due(tmp_path: Path) -> None:
    exported: list[int] = []

    def export(
        folder: Path, config: LMConfig, weights: dict[str, Tensor], figures: dict[str, Any]
    ) -> None:
        assert folder == tmp_path / "export"
        assert set(weights) == {name for name, _ in MusicLM(config).named_parameters()}
        exported.append(figures["steps"])

    run(tmp_path, replace(FAST, steps=3, eval_minutes=0, save_minutes=0), export=export)
    rows = read_metrics(tmp_path / "metrics.jsonl")
    assert [row["kind"] for row in rows] == ["train", "valid"] * 3
    assert exported == [1, 2, 3]


def test_what_is_exported_is_the_average(tmp_path: Path) -> None:
    found: dict[str, Tensor] = {}

    def export(
        folder: Path, config: LMConfig, weights: dict[str, Tensor], figures: dict[str, Any]
    ) -> None:
        found.update({name: t.clone() for name, t in weights.items()})

    run(tmp_path, export=export)
    tensors, _ = saved(tmp_path)
    assert torch.equal(found["norm.weight"], tensors["average.norm.weight"])
    assert not torch.equal(found["norm.weight"], tensors["model.norm.weight"])


def test_what_the_first_process_decides_travels_on_the_device(tmp_path: Path) -> None:
    """A GPU's processes have no way to send what lies in the memory of the processor."""
    train, valid, text = ramp_data()
    trainer = Trainer(CONFIG, FAST, train, valid, text, tmp_path)
    sent: list[str] = []

    def reduce(number: Tensor, _: str) -> Tensor:
        sent.append(number.device.type)
        return torch.tensor(1.0)

    beside = {"num_processes": 2, "is_main_process": True, "device": torch.device("meta")}
    fake = SimpleNamespace(**beside, reduce=reduce)
    trainer.accelerator = trainer.processes._accelerator = fake
    trainer.processes.count, trainer.processes.device = 2, fake.device
    assert trainer._due(0.0, 0.0)
    assert sent == ["meta"]


def test_sizes_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    train, valid, text = ramp_data()
    wide = replace(CONFIG, text_hidden_size=32)
    with pytest.raises(ConfigError, match="16 wide"):
        pretrain(wide, FAST, train, valid, text, tmp_path, live=False)
    with pytest.raises(ConfigError, match="2 codebooks"):
        pretrain(replace(CONFIG, num_codebooks=4), FAST, train, valid, text, tmp_path, live=False)


def test_a_gradient_that_is_not_finite_stops_the_run(tmp_path: Path) -> None:
    train, valid, text = ramp_data()
    text._hidden[0, 0] = float("nan")
    with pytest.raises(ConfigError, match="gradient is nan at step"):
        pretrain(CONFIG, FAST, train, valid, text, tmp_path, live=False)


@pytest.mark.parametrize(
    ("field", "value"),
    [("steps", 0), ("batch_size", -1), ("caption_dropout", 1.5), ("muon_lr", math.nan),
     ("precision", "fp8"), ("minutes", -1.0), ("grad_clip", 0.0), ("eval_rows", 0)],
)  # fmt: skip
def test_values_that_cannot_work_are_named(field: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=field):
        PretrainConfig(**{field: value})


def test_bf16_is_never_chosen_where_it_is_emulated() -> None:
    flags = Path("/proc/cpuinfo")
    expected = flags.exists() and "avx512_bf16" in flags.read_text()
    assert has_native_bf16(torch.device("cpu")) == expected
