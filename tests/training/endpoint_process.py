"""An endpoint run as a program of its own, for tests that kill it or start two of it.

Usage: python -m tests.training.endpoint_process BASE FOLDER STEPS TRAIN
"""

import sys
from pathlib import Path

import torch

from musicgen_rl.training.endpoint_loop import train_endpoint
from tests.training.endpoint_fakes import small_config, small_parts


def main() -> None:
    torch.set_num_threads(1)
    base, folder, steps, train = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    config = small_config(
        steps=steps, train=train, diversity_weight=5.0, prompts_per_step=4, micro_batch_size=2,
        measure_every=3, grad_clip=1e6,
    )  # fmt: skip
    train_endpoint(small_parts(base), config, folder, live=False)


if __name__ == "__main__":
    main()
