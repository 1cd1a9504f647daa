import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from musicgen_rl.training.checkpointing import load_training_state
from musicgen_rl.training.metrics import read_metrics
from tests.models import save_tiny

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]


def start(base: Path, folder: Path, steps: int, train: str, **environment: str):
    command = [sys.executable, "-m", "tests.training.endpoint_process"]
    command += [str(base), str(folder), str(steps), train]
    return subprocess.Popen(
        command, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1", **environment}
    )


def last_step(folder: Path) -> int:
    rows = read_metrics(folder / "metrics.jsonl")
    return max((row["step"] for row in rows), default=0)


@pytest.mark.parametrize("train", ["all", "low-rank"])
def test_a_killed_run_goes_on_bit_for_bit(tmp_path: Path, train: str) -> None:
    base = save_tiny(tmp_path / "base")
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert start(base, whole, 12, train).wait(240) == 0
    for reached in (3, 8):  # killed twice, wherever it happens to be
        process = start(base, killed, 12, train)
        deadline = time.monotonic() + 240
        while last_step(killed) < reached and time.monotonic() < deadline:
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        assert process.wait(30) == -signal.SIGKILL
    assert start(base, killed, 12, train).wait(240) == 0
    found, expected = load_training_state(killed / "state"), load_training_state(whole / "state")
    assert found is not None
    assert expected is not None
    assert found[1]["step"] == 12
    assert found[0].keys() == expected[0].keys()
    assert all(torch.equal(found[0][name], t) for name, t in expected[0].items())


def test_two_processes_learn_what_one_with_all_prompts_learns(tmp_path: Path) -> None:
    base = save_tiny(tmp_path / "base")
    assert start(base, tmp_path / "one", 4, "all").wait(240) == 0
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    both = [
        start(
            base, tmp_path / "two", 4, "all", RANK=str(rank), LOCAL_RANK=str(rank),
            WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=port, ACCELERATE_USE_CPU="true",
        )
        for rank in range(2)
    ]  # fmt: skip
    assert [process.wait(240) for process in both] == [0, 0]
    rows = [[r for r in read_metrics(tmp_path / name / "metrics.jsonl") if r["kind"] == "train"]
            for name in ("one", "two")]  # fmt: skip
    assert len(rows[0]) == len(rows[1]) == 4
    first, other = rows[0][0], rows[1][0]
    assert first["clips"] == other["clips"]
    for name in ("kl", "entropy", "diversity", "grad_norm", "grad_norm_kl"):
        # The critic's batches differ from the second step on, the first is the same but for order.
        assert first[name] == pytest.approx(other[name], rel=1e-3)
