"""`doctor`: exit 0 where `generate` can work, else 1 and the way out."""

import json
import sys

import pytest

from musicgen_rl.audio import files
from musicgen_rl.checkpoint import checkpoints_folder
from musicgen_rl.cli import doctor


@pytest.fixture
def checkpoints(tiny_folder, tmp_path, monkeypatch):
    """Make a folder with all that `generate` needs."""
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    (folder / "minilm").symlink_to(checkpoints_folder() / "minilm")
    (folder / "pocket").symlink_to(tiny_folder)
    monkeypatch.setenv("MUSICGEN_RL_CHECKPOINTS", str(folder))
    return folder


@pytest.fixture
def look(call):
    """Run it and return its exit status and its checks by name."""

    def _look():
        done = call("doctor", "--json")
        report = json.loads(done.out)
        assert report["ok"] == (done.code == 0)
        return done.code, {check["name"]: check for check in report["checks"]}

    return _look


def test_all_is_well(look, checkpoints):
    code, checks = look()
    assert code == 0
    assert checks["model pocket"]["ok"]
    assert str(checkpoints / "pocket") in checks["model pocket"]["found"]
    assert checks["audio formats"]["found"].startswith("wav, flac, ogg, mp3 by soundfile")
    assert checks["extra app"]["found"].startswith("gradio ")
    assert [name for name, check in checks.items() if check["needed"]] == [
        "python", "torch", "model pocket", "text encoder MiniLM",
    ]  # fmt: skip


def test_without_pocket_it_says_how_to_get_it(call, look, checkpoints):
    (checkpoints / "pocket").unlink()
    code, checks = look()
    assert code == 1
    assert "MUSICGEN_RL_CHECKPOINTS" in checks["model pocket"]["fix"]
    out = call("doctor").out
    assert [line for line in out.splitlines() if line.startswith("NO  model pocket")]
    assert "cannot work here" in out.splitlines()[-1]


def test_without_the_text_encoder(look, checkpoints):
    (checkpoints / "minilm").unlink()
    code, checks = look()
    assert code == 1
    assert "lacks config.json" in checks["text encoder MiniLM"]["found"]


def test_a_broken_model_is_reported_not_raised(look, checkpoints, tmp_path):
    (checkpoints / "pocket").unlink()
    (checkpoints / "pocket").mkdir()
    (checkpoints / "pocket" / "config.json").write_text("{")
    code, checks = look()
    assert code == 1
    assert "config.json" in checks["model pocket"]["found"]


def test_what_is_not_needed_does_not_fail_it(call, look, checkpoints, monkeypatch):
    monkeypatch.setattr(doctor, "find_spec", lambda name: None)
    code, checks = look()
    assert code == 0
    assert "pip install 'musicgen-rl[train]'" in checks["extra train"]["fix"]
    out = call("doctor").out
    assert [line for line in out.splitlines() if line.startswith("--  extra train")]
    assert out.splitlines()[-1] == "`musicgen-rl generate` can work here."


def test_a_broken_package_is_reported_not_raised(look, checkpoints, monkeypatch):
    monkeypatch.setitem(sys.modules, "torchaudio", None)
    code, checks = look()
    assert code == 0
    assert "ModuleNotFoundError" in checks["torchaudio"]["found"]


def test_a_folder_that_cannot_be_written(look, checkpoints, monkeypatch):
    def refuse(*arguments):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(files, "_create", refuse)
    code, checks = look()
    assert code == 0  # -o names another
    assert "permission denied" in checks["current folder"]["found"]
    assert checks["current folder"]["fix"] == "use -o FOLDER"
