import time
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from musicgen_rl.checkpoint import ModelInfo, checkpoints_folder, load_lm, read_info, save_model
from musicgen_rl.codec.frame import FrameCodec
from musicgen_rl.codec.load import load_codec, save_codec
from musicgen_rl.config import LMConfig, SamplingConfig
from musicgen_rl.errors import ConfigError
from musicgen_rl.lm.transformer import MusicLM
from musicgen_rl.pipeline import Pipeline
from musicgen_rl.rewards.files import read_description
from musicgen_rl.sampling.decode import Window
from musicgen_rl.storage import read_json
from musicgen_rl.training import pocket
from musicgen_rl.training.pocket import (
    STAGES,
    PocketConfig,
    check_record,
    make_endpoints,
    make_pocket,
    records,
    ship,
    stages,
)
from musicgen_rl.training.pocket_sizes import JUDGES, SIZES
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
    monkeypatch.setattr(pocket, "write_card", lambda *_: None)
    return names


@pytest.mark.parametrize("size", sorted(SIZES))
def test_every_size_is_made_of_values_the_configs_accept(tmp_path: Path, size: str) -> None:
    plan = stages(config(tmp_path, size=size, seed=7))
    twice = bool(SIZES[size].again)  # trains the language model again, to look back
    assert tuple(plan) == tuple(name for name in STAGES if twice or name != "lookback")
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
    assert lines[-1] == "endpoints: done before"
    record = read_json(tmp_path / "work" / "codec.json")
    assert record["seconds_of_last_run"] >= 0
    assert record["machine"]


def test_the_card_is_written_again_when_all_stages_are_known(
    tmp_path: Path, ran: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    cards: list[tuple[Path, tuple[str, ...]]] = []
    monkeypatch.setattr(pocket, "write_card", lambda f, told: cards.append((f, tuple(told))))
    make_pocket(config(tmp_path))
    make_pocket(config(tmp_path))
    assert cards == [(tmp_path / "model", STAGES)]


def test_a_stage_whose_record_is_gone_runs_again(tmp_path: Path, ran: list[str]) -> None:
    make_pocket(config(tmp_path))
    (tmp_path / "work" / "lm.json").unlink()
    ran.clear()
    make_pocket(config(tmp_path))
    assert ran == ["lm"]


def test_skipped_stages_do_not_run(tmp_path: Path, ran: list[str]) -> None:
    make_pocket(config(tmp_path, skip=("corpus", "rewards", "ship", "endpoints")))
    assert ran == ["codec", "tokens", "lm", "lookback"]


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


def test_a_stage_that_was_stopped_leaves_no_record_and_later_ones_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    finished = {"rewards": False}

    def plan(made: PocketConfig, **_: Any) -> dict[str, Any]:
        return {name: ({}, lambda name=name: {"finished": finished.get(name, True)})
                for name in STAGES}  # fmt: skip

    monkeypatch.setattr(pocket, "stages", plan)
    monkeypatch.setattr(pocket, "write_card", lambda *_: None)
    assert make_pocket(config(tmp_path)) is None
    assert list(records(tmp_path / "work")) == ["corpus", "codec", "tokens"]
    finished["rewards"] = True
    assert make_pocket(config(tmp_path)) is not None
    assert tuple(records(tmp_path / "work")) == STAGES


def test_what_the_judges_and_ends_were_made_with_is_kept(tmp_path: Path) -> None:
    plan = stages(config(tmp_path, seed=5))
    assert plan["rewards"][0] == {**SIZES["tiny"].judges, "coded_every": 4}
    ends = plan["endpoints"][0]
    assert (ends["quality"]["diversity_weight"], ends["quality"]["seed"]) == (0.0, 5)
    assert ends["diversity"]["diversity_weight"] == 150.0  # the preset's
    assert ends["diversity"]["steps"] == SIZES["tiny"].ends["diversity"]["steps"]


@pytest.fixture
def pair(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Replace the training of both ends; what it is to find is `figures`."""
    found: dict[str, Any] = {}

    def train_pair(sources: Any, quality: Any, diversity: Any, out: Path, runs: Path, **_: Any):
        found.update(sources=sources, quality=quality, diversity=diversity, out=out, runs=runs)
        return found["figures"]

    monkeypatch.setattr(pocket, "train_pair", train_pair)
    return found


def test_the_ends_are_trained_on_the_shipped_model(tmp_path: Path, pair: dict[str, Any]) -> None:
    done = {"finished": True, "stopped": None, "steps": 3}
    pair["figures"] = {"quality": done, "diversity": done}
    given = {"quality": "q", "diversity": "d"}
    output, prompts = tmp_path / "pocket", tmp_path / "m.jsonl"
    figures = make_endpoints(output, prompts, given, tmp_path / "work")  # type: ignore[arg-type]
    assert figures == {"finished": True, "quality": done, "diversity": done}
    assert (pair["sources"].base, pair["sources"].prompts) == (str(output), prompts)
    assert (pair["quality"], pair["diversity"], pair["out"]) == ("q", "d", output)


@pytest.mark.parametrize("ends", [("quality",), ("quality", "diversity")])
def test_ends_that_are_not_finished_go_on_another_time(
    tmp_path: Path, pair: dict[str, Any], ends: tuple[str, ...]
) -> None:
    pair["figures"] = {e: {"finished": False, "stopped": None, "steps": 1} for e in ends}
    given = {"quality": "q", "diversity": "d"}
    made = make_endpoints(tmp_path, tmp_path, given, tmp_path / "work")  # type: ignore[arg-type]
    assert not made["finished"]


def test_an_end_that_a_guard_stopped_is_named(tmp_path: Path, pair: dict[str, Any]) -> None:
    pair["figures"] = {"quality": {"finished": False, "stopped": "clips are silent", "steps": 9}}
    given = {"quality": "q", "diversity": "d"}
    with pytest.raises(ConfigError, match="quality end was stopped at step 9: clips are silent"):
        make_endpoints(tmp_path, tmp_path, given, tmp_path / "work")  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_tiny_runs_from_nothing_to_a_model_with_judges_and_a_dial(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    made = config(tmp_path, text_encoder=checkpoints_folder() / "minilm")
    begun = time.monotonic()
    assert make_pocket(made, live=False) == tmp_path / "model"
    assert time.monotonic() - begun < 600
    notes = read_info(tmp_path / "model").notes
    assert (notes["start"]["training"]["steps"], notes["training"]["steps"]) == (40, 20)
    assert notes["temperature_in_heads"] == [1.1, 1.2, 1.2, 1.2]
    assert read_info(tmp_path / "model").lm.dropout == SIZES["tiny"].again_dropout > 0
    diversity = read_info(tmp_path / "model" / "diversity")
    assert diversity.notes["eased"]["trained_at_share"] == 0.5
    assert diversity.notes["low_rank"]["towards"]["share"] == 1.0
    for name in JUDGES:
        kind = name.split("-")[0]
        identity, *_ = read_description(tmp_path / "model" / "rewards" / name, kind)
        assert identity.name == name
    pipeline = Pipeline.load(tmp_path / "model", device="cpu")
    clips = [pipeline.generate("jazz", duration_s=1, diversity=d)[0].samples for d in (0.0, 1.0)]
    assert not np.array_equal(*clips)
    card = (tmp_path / "model" / "README.md").read_text()
    assert all(f"| {name} |" in card for name in (*STAGES, *JUDGES, "quality", "diversity"))
    first = {name: read_json(tmp_path / "work" / f"{name}.json") for name in STAGES}
    make_pocket(made, live=False)
    assert records(tmp_path / "work") == first
