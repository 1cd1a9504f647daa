"""Ways to call the command line: in this process, and as a process of its own."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from musicgen_rl.cli import main

REPOSITORY = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Done:
    """What a call left."""

    code: int
    out: str
    err: str

    @property
    def paths(self) -> list[Path]:
        """The lines of stdout."""
        return [Path(line) for line in self.out.splitlines()]

    def refused(self, *says: str) -> None:
        """Hold that it was refused in one line that says so."""
        assert self.code == 2, self
        assert self.out == ""
        lines = self.err.splitlines()
        assert len(lines) == 1, self.err
        assert lines[0].startswith("error: ")
        assert "Traceback" not in self.err
        for word in says:
            assert word in lines[0]


@pytest.fixture(autouse=True)
def _offline(monkeypatch):
    """Keep a mistyped model name from asking the network."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.delenv("MUSICGEN_RL_DEBUG", raising=False)


@pytest.fixture
def call(capsys):
    """Call the command line in this process."""

    def _call(*arguments: object) -> Done:
        capsys.readouterr()
        code = main([str(a) for a in arguments])
        out, err = capsys.readouterr()
        return Done(code, out, err)

    return _call


def environment(**more: str) -> dict[str, str]:
    """Make the environment of a process of its own."""
    # One thread: two on busy cores are slower than one.
    return os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"} | more


def command(*arguments: object) -> list[str]:
    """Write a command as the system runs it."""
    return [sys.executable, "-m", "musicgen_rl", *map(str, arguments)]


def shell(*arguments: object, **more: object) -> Done:
    """Run it as a process of its own."""
    done = subprocess.run(
        command(*arguments), capture_output=True, text=True, timeout=120, cwd=REPOSITORY,
        env=environment(), **more,
    )  # fmt: skip
    return Done(done.returncode, done.stdout, done.stderr)
