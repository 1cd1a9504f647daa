"""What every test needs: torchaudio's cure before anything, and one torch thread."""

import musicgen_rl  # noqa: F401  isort: skip  (installs the cure, so it stands first)

import pytest
import torch

# Two threads on busy cores have turned 0.7 s into 64 s.
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    """Give tests that forget a generator the same numbers in every run."""
    torch.manual_seed(0)
