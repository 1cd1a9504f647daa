"""A training run as a program of its own, for tests that kill it or start two of it.

Usage: python -m tests.training.pretrain_process FOLDER STEPS BATCH_SIZE [DROPOUT]
"""

import sys
from dataclasses import replace
from pathlib import Path

import torch

from musicgen_rl.training.pretrain import pretrain
from musicgen_rl.training.pretrain_config import PretrainConfig
from tests.training.fakes import CONFIG, ramp_data


def main() -> None:
    torch.set_num_threads(1)
    folder, steps, batch_size = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    model = replace(CONFIG, dropout=float(sys.argv[4]) if len(sys.argv) > 4 else 0.0)
    config = PretrainConfig(
        steps=steps, batch_size=batch_size, micro_batch_size=2, crop_frames=12, warmup_steps=1,
        eval_rows=4, eval_minutes=100, save_minutes=0, precision="fp32",
    )  # fmt: skip
    train, valid, text = ramp_data()
    pretrain(model, config, train, valid, text, folder, live=False)


if __name__ == "__main__":
    main()
