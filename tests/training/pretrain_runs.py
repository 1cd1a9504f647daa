"""Runs of the language model that take a second, and what they leave."""

from pathlib import Path
from typing import Any

from torch import Tensor

from musicgen_rl.training.checkpointing import load_training_state
from musicgen_rl.training.pretrain import pretrain
from musicgen_rl.training.pretrain_config import PretrainConfig
from tests.training.fakes import CONFIG, ramp_data

FAST = PretrainConfig(
    steps=6, batch_size=4, crop_frames=12, warmup_steps=1, eval_rows=4, eval_minutes=100,
    save_minutes=100, precision="fp32",
)  # fmt: skip


def run(folder: Path, config: PretrainConfig = FAST, **options: Any) -> dict[str, Any]:
    train, valid, text = ramp_data()
    return pretrain(CONFIG, config, train, valid, text, folder, live=False, **options)


def saved(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    found = load_training_state(folder / "state")
    assert found is not None
    return found
