from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch

from musicgen_rl.checkpoint import ModelInfo, checkpoints_folder, load_lm, read_info, save_model
from musicgen_rl.codec.frame import FrameCodec
from musicgen_rl.codec.load import load_codec, save_codec
from musicgen_rl.config import LMConfig, SamplingConfig
from musicgen_rl.errors import ConfigError
from musicgen_rl.lm.transformer import MusicLM
from musicgen_rl.sampling.decode import Window
from musicgen_rl.storage import read_json
from musicgen_rl.training import pocket
from musicgen_rl.training.pocket import (
    SIZES,
    STAGES,
    PocketConfig,
    check_record,
    make_pocket,
    ship,
    stages,
)
from musicgen_rl.training.pocket_card import model_card
from tests.models import TINY_CODEC


def config(tmp_path: Path, **options: Any) -> PocketConfig:
    found = {"work": tmp_path / "work", "output": tmp_path / "model", "size": "tiny",
             "text_encoder": tmp_path / "minilm", **options}  # fmt: skip
    return PocketConfig(**found)


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Replace the stages by ones that only note that they ran."""
    names: list[str] = []

    def noted(made: PocketConfig, **_: Any) -> dict[str, Any]:
        def run(name: str) -> dict[str, Any]:
            names.append(name)
            return {"finished": True}

        return {
            name: ({"size": made.size, "seed": made.seed}, lambda name=name: run(name))
            for name in STAGES
        }

    monkeypatch.setattr(pocket, "stages", noted)
    return names


@pytest.mark.parametrize("size", sorted(SIZES))
def test_every_size_is_made_of_values_the_configs_accept(tmp_path: Path, size: str) -> None:
    plan = stages(config(tmp_path, size=size, seed=7))
    assert tuple(plan) == STAGES
    assert plan["corpus"][0]["seed"] == plan["lm"][0]["seed"] == 7


def test_sizes_grow() -> None:
    hours = [SIZES[name].corpus["hours"] for name in ("tiny", "cpu", "gpu")]
    assert hours == sorted(hours)
    assert all(field.name in vars(SIZES["gpu"]) for field in fields(SIZES["gpu"]))


def test_stages_run_in_order_and_once(tmp_path: Path, ran: list[str]) -> None:
    lines: list[str] = []
    assert make_pocket(config(tmp_path), report=lines.append) == tmp_path / "model"
    assert tuple(ran) == STAGES
    make_pocket(config(tmp_path), report=lines.append)
    assert tuple(ran) == STAGES
    assert lines[-1] == "ship: done before"
    record = read_json(tmp_path / "work" / "codec.json")
    assert record["seconds_of_last_run"] >= 0
    assert record["machine"]


def test_a_stage_whose_record_is_gone_runs_again(tmp_path: Path, ran: list[str]) -> None:
    make_pocket(config(tmp_path))
    (tmp_path / "work" / "lm.json").unlink()
    ran.clear()
    make_pocket(config(tmp_path))
    assert ran == ["lm"]


def test_skipped_stages_do_not_run(tmp_path: Path, ran: list[str]) -> None:
    make_pocket(config(tmp_path, skip=("corpus", "ship")))
    assert ran == ["codec", "tokens", "lm"]


def test_another_seed_is_refused_in_a_work_folder_that_is_begun(
    tmp_path: Path, ran: list[str]
) -> None:
    make_pocket(config(tmp_path, skip=STAGES[1:]))
    with pytest.raises(ConfigError, match=r"stage corpus .* seed=0, not 1"):
        make_pocket(config(tmp_path, seed=1))
    assert ran == ["corpus"]


def test_records_compare_as_json_does(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"options": {"sizes": [1, 2]}}')
    check_record("a", tmp_path / "a.json", {"sizes": (1, 2)})
    with pytest.raises(ConfigError, match="sizes"):
        check_record("a", tmp_path / "a.json", {"sizes": (1, 3)})


def test_stopping_leaves_later_stages_for_the_next_start(tmp_path: Path, ran: list[str]) -> None:
    assert make_pocket(config(tmp_path), stop=lambda: len(ran) == 2) is None
    assert ran == ["corpus", "codec"]
    assert make_pocket(config(tmp_path)) is not None
    assert tuple(ran) == STAGES


@pytest.mark.parametrize("bad", [{"size": "huge"}, {"skip": ("dinner",)}])
def test_unknown_sizes_and_stages_are_named(tmp_path: Path, bad: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"huge|dinner"):
        config(tmp_path, **bad)


def exported(folder: Path) -> ModelInfo:
    """Save a small model as a training run does."""
    lm = LMConfig(num_codebooks=2, codebook_size=8, hidden_size=16, num_layers=1, num_heads=2,
                  ffn_size=16, text_hidden_size=16)  # fmt: skip
    info = ModelInfo(
        name="run", folder=folder, lm=lm, window=Window(frames=20, keep_frames=10),
        frame_rate=50.0, sampling=SamplingConfig(guidance_scale=3.0),
        text_encoder={"type": "minilm", "path": "elsewhere"},
        codec={"type": "frame", "path": "codec"},
        notes={"train_hours": 2.5, "data_licenses": ["CC0-1.0"],
               "training": {"steps": 9, "frames": 900, "loss_per_codebook": [1.25, 2.5],
                            "loss_null_per_codebook": [1.5, 2.75]}},
    )  # fmt: skip
    save_model(folder, info, MusicLM(lm).state_dict())
    save_codec(FrameCodec(TINY_CODEC), folder / "codec")
    return info


def test_what_is_shipped_is_the_export_with_its_codec_and_card(tmp_path: Path) -> None:
    info = exported(tmp_path / "export")
    target, encoder = tmp_path / "models" / "mine", tmp_path / "minilm"
    found = ship(tmp_path / "export", target, encoder, tmp_path)
    shipped = read_info(target)
    assert (shipped.name, shipped.license) == ("mine", "Apache-2.0")
    assert (target / shipped.text_encoder["path"]).resolve() == encoder.resolve()
    exact = load_codec(tmp_path / "export" / "codec").state_dict()
    for name, tensor in load_codec(target / "codec").state_dict().items():
        assert torch.equal(tensor, exact[name].half().float()), name
    assert found["bytes"] > 1000
    ours = load_lm(shipped).get_parameter("heads.weight")
    assert torch.equal(ours, load_lm(read_info(info.folder)).get_parameter("heads.weight"))


def test_the_card_says_what_the_model_came_from(tmp_path: Path) -> None:
    info = exported(tmp_path / "export")
    card = model_card(info, {"lm": {"seconds_of_last_run": 61.2, "machine": "one GPU"}})
    assert "| lm | 61 | one GPU |" in card
    assert "| 2 | 2.500 | 2.750 |" in card
    assert "2.5 h" in card
    assert "CC0-1.0" in card


@pytest.mark.slow
def test_tiny_runs_from_nothing_to_a_model(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    made = config(tmp_path, text_encoder=checkpoints_folder() / "minilm")
    assert make_pocket(made, live=False) == tmp_path / "model"
    info = read_info(tmp_path / "model")
    assert info.notes["training"]["steps"] == 40
    first = read_json(tmp_path / "work" / "ship.json")
    make_pocket(made, live=False)
    assert read_json(tmp_path / "work" / "ship.json") == first
