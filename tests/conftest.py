"""What every test needs: torchaudio's cure before anything, and one torch thread."""

import musicgen_rl  # noqa: F401  isort: skip  (installs the cure, so it stands first)

import subprocess
import sys
from pathlib import Path

import pytest
import torch

# Two threads on busy cores have turned 0.7 s into 64 s.
torch.set_num_threads(1)


def pytest_configure(config: pytest.Config) -> None:
    """Fill numba's cache with librosa's functions before several workers would at once.

    Two processes that compile a ufunc of arrays at the same time leave a pair of files that do not
    fit together, and whoever calls it dies of a segmentation fault (numba's issue 10128).
    """
    if config.getoption("numprocesses", None) and not hasattr(config, "workerinput"):
        importing = "import librosa.beat, librosa.onset, librosa.util, librosa.core"
        subprocess.run([sys.executable, "-c", importing], check=True)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    """Give every test the same numbers, and denormal ones too: training sets them to zero."""
    torch.manual_seed(0)
    torch.set_flush_denormal(False)


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Hold a tiny random model of our own kind."""
    from tests.models import save_tiny

    return save_tiny(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def tiny_musicgen_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Hold a tiny random model in MusicGen's own format."""
    from tests.models import save_tiny_musicgen

    return save_tiny_musicgen(tmp_path_factory.mktemp("models") / "tiny-musicgen")


@pytest.fixture(scope="session")
def dial_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Hold a tiny model with the two ends of the dial, tuned from it."""
    from tests.models import save_tiny_dial

    return save_tiny_dial(tmp_path_factory.mktemp("models") / "dialled")
