import re
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from musicgen_rl.errors import CheckpointError, StorageError
from musicgen_rl.lm.transformer import MusicLM
from musicgen_rl.training import pretrain_state
from musicgen_rl.training.checkpointing import save_training_state
from musicgen_rl.training.dataset import TokenDataset
from musicgen_rl.training.metrics import read_metrics
from musicgen_rl.training.pretrain import pretrain
from musicgen_rl.training.pretrain_config import ContrastConfig, PretrainConfig
from musicgen_rl.training.pretrain_state import MAY_CHANGE
from tests.training.fakes import CONFIG, ramp_data
from tests.training.pretrain_runs import FAST, run, saved


def assert_same_state(left: Path, right: Path) -> None:
    (tensors, state), (others, other_state) = saved(left), saved(right)
    assert tensors.keys() == others.keys()
    assert all(torch.equal(tensors[name], others[name]) for name in tensors)
    assert state["step"] == other_state["step"]


def test_a_run_goes_on_with_the_codec_the_start_and_the_text_encoder_it_was_begun_with(
    tmp_path: Path,
) -> None:
    torch.manual_seed(0)
    start, other = MusicLM(CONFIG).state_dict(), MusicLM(CONFIG).state_dict()
    run(tmp_path, replace(FAST, steps=1), start=start, codec_hash="aaa", text_hash="one")
    same = {name: start[name].clone() for name in reversed(start)}
    with pytest.raises(CheckpointError, match=r"another codec \(aaa, now bbb\): .* new folder"):
        run(tmp_path, start=start, codec_hash="bbb")
    for changed in (other, None):
        with pytest.raises(CheckpointError, match=r"another start \(.*\): .* new folder"):
            run(tmp_path, start=changed, codec_hash="aaa")
    with pytest.raises(CheckpointError, match=r"another text encoder \(one, now other\): .*"):
        run(tmp_path, start=same, codec_hash="aaa", text_hash="other")
    assert run(tmp_path, start=same, codec_hash="aaa", text_hash="one")["steps"] == 6


def test_a_run_goes_on_with_the_manifest_and_the_recordings_it_was_begun_with(
    tmp_path: Path,
) -> None:
    run(tmp_path, replace(FAST, steps=1), manifest_hash="one")
    with pytest.raises(CheckpointError, match=r"another manifest \(one, now two\): .* new folder"):
        run(tmp_path, manifest_hash="two")
    train, valid, text = ramp_data()
    for changed in ("train", "valid"):
        data = {"train": train, "valid": valid} | {changed: backwards(train)}
        with pytest.raises(CheckpointError) as caught:
            pretrain(
                CONFIG, FAST, data["train"], data["valid"], text, tmp_path, live=False,
                manifest_hash="one",
            )  # fmt: skip
        said = r"begun with other recordings \(\w{12}, now \w{12}\): name the tokens of that time"
        assert re.search(said, str(caught.value))
    assert saved(tmp_path)[1]["step"] == 1
    assert run(tmp_path, manifest_hash="one")["steps"] == 6


def backwards(data: TokenDataset) -> TokenDataset:
    """Play every piece backwards."""
    pieces = [
        replace(piece, codes=piece.codes.long().flip(1).to(torch.uint16)) for piece in data.pieces
    ]
    return TokenDataset(pieces, ["up", "down"], CONFIG.pad_token)


def test_a_run_of_another_kind_is_not_gone_on_with(tmp_path: Path) -> None:
    run(tmp_path, replace(FAST, steps=1))
    tensors, state = saved(tmp_path)
    assert state["kind"] == "lm"
    save_training_state(tmp_path / "state", tensors, state | {"kind": "contrast"})
    with pytest.raises(CheckpointError, match="holds a run of `train contrast`, not of `train lm`"):
        run(tmp_path)
    del state["kind"]  # as before it was told
    save_training_state(tmp_path / "state", tensors, state)
    assert run(tmp_path)["steps"] == 6


def test_a_state_that_does_not_tell_its_beginning_still_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = pretrain_state.save_training_state

    def save(folder: Path, tensors: dict[str, Tensor], state: dict[str, Any]) -> Path:
        return real(folder, tensors, {k: v for k, v in state.items() if k != "begun_with"})

    monkeypatch.setattr(pretrain_state, "save_training_state", save)
    run(tmp_path, replace(FAST, steps=1))
    monkeypatch.undo()
    start = MusicLM(CONFIG).state_dict()
    figures = run(
        tmp_path, start=start, codec_hash="aaa", text_hash="one", manifest_hash="two"
    )  # fmt: skip
    assert figures["steps"] == 6


def test_another_model_does_not_continue_a_run(tmp_path: Path) -> None:
    run(tmp_path, replace(FAST, steps=1))
    train, valid, text = ramp_data()
    with pytest.raises(CheckpointError, match="another model"):
        pretrain(replace(CONFIG, ffn_size=64), FAST, train, valid, text, tmp_path, live=False)


FIXED = {
    "seed": 5, "batch_size": 2, "crop_frames": 8, "short_share": 0.5, "short_factor": 3,
    "caption_dropout": 0.5, "loop_share": 0.25, "loop_until": 0.75, "muon_steps": 3,
    "embedding_std": 0.5,
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(FIXED))
def test_an_option_that_says_what_is_learnt_from_is_refused_by_name(
    tmp_path: Path, name: str
) -> None:
    run(tmp_path, replace(FAST, steps=1))
    said = re.escape(f"begun with {name} {getattr(FAST, name)!r}, now {FIXED[name]!r}: ")
    with pytest.raises(CheckpointError, match=said + ".* train into a new folder"):
        run(tmp_path, replace(FAST, **{name: FIXED[name]}))
    assert saved(tmp_path)[1]["step"] == 1


def test_every_option_is_either_fixed_or_may_change() -> None:
    assert {f.name for f in fields(PretrainConfig)} == MAY_CHANGE | FIXED.keys()
    own = {f.name for f in fields(ContrastConfig)} - {f.name for f in fields(PretrainConfig)}
    assert own == {"anchor"}


def test_length_machine_rates_and_evaluation_may_be_others(tmp_path: Path) -> None:
    free = {
        "steps": 3, "save_minutes": 50.0, "micro_batch_size": 2, "precision": "auto",
        "muon_lr": 0.01, "adamw_lr": 1e-3, "muon_decay": 0.1, "adamw_decay": 0.1,
        "warmup_steps": 2, "final_rate": 0.5, "grad_clip": 2.0, "ema_decay": 0.5,
        "eval_minutes": 50.0, "eval_rows": 2,
    }  # fmt: skip
    assert free.keys() == MAY_CHANGE - {"minutes", "compile"}  # which are slow
    run(tmp_path, replace(FAST, steps=1))
    assert run(tmp_path, replace(FAST, **free))["steps"] == 3


def test_options_that_a_state_does_not_tell_of_had_their_default(tmp_path: Path) -> None:
    run(tmp_path, replace(FAST, steps=1))
    tensors, state = saved(tmp_path)
    for name in ("loop_share", "loop_until", "short_share", "short_factor"):
        del state["config"][name]
    save_training_state(tmp_path / "state", tensors, state)
    with pytest.raises(CheckpointError, match=r"loop_share 0\.0, now 0\.5"):
        run(tmp_path, replace(FAST, loop_share=0.5))
    assert run(tmp_path, replace(FAST, steps=2))["steps"] == 2


@pytest.mark.parametrize(("then", "now"), [(0.02, 0.0), (0.0, 0.02)])
def test_muon_is_neither_begun_nor_left_in_the_middle(
    tmp_path: Path, then: float, now: float
) -> None:
    run(tmp_path, replace(FAST, steps=1, muon_lr=then))
    with pytest.raises(CheckpointError, match=f"begun with muon_lr {then}, now {now}: "):
        run(tmp_path, replace(FAST, muon_lr=now))


def test_lowered_rates_count_when_a_run_goes_on(tmp_path: Path) -> None:
    run(tmp_path, replace(FAST, steps=3))
    before = saved(tmp_path)[0]
    still = replace(FAST, muon_lr=1e-12, adamw_lr=1e-12, muon_decay=0.0, adamw_decay=0.0)
    assert run(tmp_path, still)["steps"] == 6
    after = saved(tmp_path)[0]
    for name in (name for name in before if name.startswith("model.")):
        torch.testing.assert_close(after[name], before[name], rtol=0, atol=1e-9)


def test_a_run_by_minutes_that_was_stopped_early_may_go_on_by_steps(tmp_path: Path) -> None:
    first = run(tmp_path, replace(FAST, minutes=1.0), stop=lambda: True)
    assert (first["steps"], first["finished"]) == (1, False)
    asked = iter([False] * 20)
    figures = run(tmp_path, replace(FAST, steps=4), stop=lambda: next(asked, True))
    assert (figures["steps"], figures["finished"]) == (4, True)


def test_a_full_disk_stops_the_run_with_the_last_save_intact(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = pretrain_state.save_training_state, []

    def save(folder: Path, tensors: dict[str, Tensor], state: dict[str, Any]) -> Path:
        calls.append(folder)
        if len(calls) == 3:
            raise StorageError("disk full")
        return real(folder, tensors, state)

    monkeypatch.setattr(pretrain_state, "save_training_state", save)
    with pytest.raises(StorageError):
        run(tmp_path, replace(FAST, save_minutes=0))
    assert saved(tmp_path)[1]["step"] == 2
    monkeypatch.undo()
    run(tmp_path)
    run(tmp_path / "whole")
    assert_same_state(tmp_path / "whole", tmp_path)


def test_a_stopped_run_goes_on_bit_for_bit(tmp_path: Path) -> None:
    run(tmp_path / "whole")
    asked = iter([False, False, True])
    first = run(tmp_path / "parts", stop=lambda: next(asked))
    assert first["steps"] == 3
    assert not first["finished"]
    run(tmp_path / "parts")
    assert_same_state(tmp_path / "whole", tmp_path / "parts")
    losses = [
        [row["loss"] for row in read_metrics(tmp_path / name / "metrics.jsonl")]
        for name in ("whole", "parts")
    ]
    assert losses[0] == losses[1]
    assert len(losses[0]) == 7  # six steps, one evaluation


def test_a_finished_run_is_left_as_it_is(tmp_path: Path) -> None:
    run(tmp_path)
    before = saved(tmp_path)[0]
    assert run(tmp_path)["steps"] == 6
    assert all(torch.equal(before[name], t) for name, t in saved(tmp_path)[0].items())
