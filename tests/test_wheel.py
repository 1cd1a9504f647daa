"""Installed from a wheel into another folder, the package finds pocket by a setting."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.slow
def test_a_wheel_elsewhere_generates_with_the_setting_and_says_how_without(tmp_path):
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run(
        [*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", tmp_path, ROOT], check=True
    )
    (wheel,) = tmp_path.glob("musicgen_rl-*.whl")
    subprocess.run([*pip, "install", "--no-deps", "--target", tmp_path / "site", wheel], check=True)
    command = [
        sys.executable,
        "-m",
        "musicgen_rl",
        "generate",
        "drums",
        "--duration",
        "1",
        "-o",
        "o",
    ]
    kept = {k: v for k, v in os.environ.items() if k != "MUSICGEN_RL_CHECKPOINTS"}
    environment = kept | {"PYTHONPATH": str(tmp_path / "site")}

    def run(**more):
        return subprocess.run(
            command, cwd=tmp_path, env=environment | more, capture_output=True, text=True
        )

    lost = run()
    assert lost.returncode == 2
    assert "MUSICGEN_RL_CHECKPOINTS" in lost.stderr
    assert "Traceback" not in lost.stderr
    found = run(MUSICGEN_RL_CHECKPOINTS=str(ROOT / "checkpoints"))
    assert found.returncode == 0, found.stderr
    assert (tmp_path / found.stdout.strip()).is_file()
