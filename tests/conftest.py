"""What every test needs: torchaudio's cure before anything, and one torch thread."""

import musicgen_rl  # noqa: F401  isort: skip  (installs the cure, so it stands first)

from pathlib import Path

import pytest
import torch

# Two threads on busy cores have turned 0.7 s into 64 s.
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    """Give tests that forget a generator the same numbers in every run."""
    torch.manual_seed(0)


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
