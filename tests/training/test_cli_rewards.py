from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from musicgen_rl.cli.train import app
from musicgen_rl.cli.train_rewards import build
from musicgen_rl.errors import CheckpointError, ConfigError
from musicgen_rl.rewards import load_encoder
from musicgen_rl.training import reward_scorer
from musicgen_rl.training.checkpointing import save_training_state
from musicgen_rl.training.reward_encoder import EncoderTrainConfig
from musicgen_rl.training.reward_probe import ProbeTrainConfig
from tests.training.reward_corpus import write_corpus

TINY = ("width=16", "heads=2", "layers=1", "patch_frames=8", "dim=8", "batch_size=4",
        "longest_s=1.6", "styles=2")  # fmt: skip


def invoke(*arguments: str) -> Any:
    return CliRunner().invoke(app, list(arguments))


def sets(*texts: str) -> list[str]:
    return [part for text in texts for part in ("--set", text)]


def test_an_encoder_is_made_from_a_manifest_and_the_run_goes_on(tmp_path: Path) -> None:
    manifest = write_corpus(tmp_path / "corpus", pieces=8, seconds=5.0)
    common = [
        "--mels",
        str(tmp_path / "mels"),
        "--out",
        str(tmp_path / "run"),
        "--half",
        "all",
        "--role",
        "report",
        "--name",
        "ears",
        "--license",
        "CC0-1.0",
        *sets(*TINY),
    ]
    first = invoke("encoder", "--manifest", str(manifest), *common, *sets("steps=1"))
    assert first.exit_code == 0, first.output
    assert first.stdout.strip().endswith(str(tmp_path / "run" / "export"))
    identity = load_encoder(tmp_path / "run" / "export").identity
    assert (identity.name, identity.role) == ("ears", "report")
    second = invoke("encoder", *common, *sets("steps=2"))
    assert second.exit_code == 0, second.output
    assert load_encoder(tmp_path / "run" / "export").identity != identity


@pytest.mark.parametrize("kind", ["encoder", "scorer", "probe"])
def test_options_are_listed_with_their_defaults(kind: str) -> None:
    result = invoke(kind, "--show-options")
    assert result.exit_code == 0, result.output
    shown = result.output
    assert "minutes=8.0  Length of the run" in shown
    assert "width=192  vit: width" in shown
    assert "role=" not in shown


def test_assignments_reach_the_config_and_its_tower() -> None:
    config = build(
        EncoderTrainConfig, ["steps=7", "temperature=0.2", "kind=conv", "layers=4"],
        role="report", half="b",
    )  # fmt: skip
    assert (config.steps, config.temperature, config.role, config.half) == (7, 0.2, "report", "b")
    assert (config.tower.kind, config.tower.layers) == ("conv", 4)
    assert build(ProbeTrainConfig, ["transpose=1"]).transpose == 1


def test_the_tower_of_an_encoder_is_taken_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tower = EncoderTrainConfig().tower
    monkeypatch.setattr(reward_scorer, "tower_of", lambda _: tower)
    assert build(ProbeTrainConfig, [], tmp_path).tower is tower
    with pytest.raises(ConfigError, match="leave out --set width"):
        build(ProbeTrainConfig, ["width=64"], tmp_path)


@pytest.mark.parametrize(
    ("options", "text"),
    [(["wings=2"], "unknown --set 'wings'"), (["role=report"], "unknown --set 'role'"),
     (["steps=many"], "needs a int"), (["kind=mlp"], "unknown tower 'mlp'")],
)  # fmt: skip
def test_assignments_that_cannot_work_are_refused(options: list[str], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        build(EncoderTrainConfig, options)


def test_a_codec_needs_audio_to_play(tmp_path: Path) -> None:
    result = invoke("probe", "--mels", str(tmp_path), "--out", str(tmp_path), "--codec", "c")
    assert isinstance(result.exception, ConfigError)
    assert "give --manifest" in str(result.exception)


@pytest.mark.parametrize(
    ("kind", "told", "said"),
    [("encoder", {"temperature": 0.5}, "begun with temperature 0.5, not 0.1"),
     ("scorer", {"start": "f" * 64}, "begun with start ffffffffffff, not none"),
     ("probe", {"start": "f" * 64}, "begun with start ffffffffffff, not none")],
)  # fmt: skip
def test_what_a_run_was_begun_with_is_asked_before_any_audio_is_measured(
    tmp_path: Path, kind: str, told: dict[str, Any], said: str
) -> None:
    manifest, run = write_corpus(tmp_path / "corpus", pieces=5, seconds=3.0), tmp_path / "run"
    save_training_state(run, {"step": torch.zeros(1)}, {"kind": kind, "begun_with": told})
    common = ["--mels", str(tmp_path / "mels"), "--out", str(run), "--manifest", str(manifest)]
    result = invoke(kind, *common)
    assert isinstance(result.exception, CheckpointError)
    assert said in str(result.exception)
    other = {"encoder": "scorer", "scorer": "probe", "probe": "encoder"}[kind]
    result = invoke(other, *common)
    assert isinstance(result.exception, CheckpointError)
    assert f"holds a run of `train {kind}`, not of `train {other}`" in str(result.exception)
    assert not (tmp_path / "mels").exists()
