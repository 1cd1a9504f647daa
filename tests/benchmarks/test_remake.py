"""Which results are of other weights, and the commands that make them again."""

import sys
from pathlib import Path

import pytest
import remake

from musicgen_rl.storage import write_json


@pytest.mark.parametrize("result", remake.RESULTS, ids=lambda r: r.name)
def test_every_command_is_one_that_its_script_takes(
    result: remake.Result, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = remake.arguments(result, "pocket", tmp_path, tmp_path, tmp_path / "own.csv")
    script = Path(command[1])
    assert script.is_file()
    source = script.read_text(encoding="utf-8")
    options = [word for word in command[2:] if word.startswith("--")]
    assert all(f'"{option}"' in source for option in options), options
    assert command.count("--out") == 1
    assert not any("{" in word for word in command)
    assert (remake.HERE / "results" / f"{result.name}.json").is_file()


def test_results_of_other_weights_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_json(tmp_path / "heard.json", {"model_sha256": "0123456789abcdef", "sets": {}})
    write_json(tmp_path / "pocket_music.json", {"about": {"model_sha256": "fedcba9876543210"}})
    asked = ["--only", "heard", "pocket_music", "keys", "--out", str(tmp_path), "--list"]
    monkeypatch.setattr(sys, "argv", ["remake.py", *asked])
    assert remake.main() == 0
    assert capsys.readouterr().out.splitlines() == [
        "heard: of 0123456789ab", "keys: of ?", "pocket_music: of fedcba987654",
    ]  # fmt: skip
    monkeypatch.setattr(remake, "model_hash", lambda info: "0123456789abcdef")
    assert remake.main() == 0
    assert "heard: up to date" in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", ["remake.py", *asked, "--model", "no-such-model"])
    assert remake.main() == 2
    assert "no-such-model" in capsys.readouterr().err


def test_what_is_stale_is_made_and_a_failure_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    scripts, out = tmp_path / "scripts", tmp_path / "out"
    scripts.mkdir()
    (scripts / "good.py").write_text(
        "import sys; from pathlib import Path\n"
        "out = Path(sys.argv[sys.argv.index('--out') + 1]).with_suffix('.json')\n"
        "import json; from musicgen_rl.checkpoint import *\n"
        "sha = model_hash(read_info(find_model('pocket')))\n"
        "out.write_text(json.dumps({'model_sha256': sha}))\n"
    )
    (scripts / "bad.py").write_text("import sys; print('no disk'); sys.exit(3)\n")
    monkeypatch.setattr(remake, "HERE", scripts)
    results = (remake.Result("first", "good"), remake.Result("second", "bad"))
    monkeypatch.setattr(remake, "RESULTS", results)
    options = ["--out", str(out), "--work", str(tmp_path / "work")]
    monkeypatch.setattr(sys, "argv", ["remake.py", *options])
    assert remake.main() == 1
    assert sorted(capsys.readouterr().out.splitlines()) == [
        "first: made", "second: exit 3: no disk",
    ]  # fmt: skip
    assert remake.main() == 1
    assert capsys.readouterr().out.splitlines() == ["second: exit 3: no disk"]
