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

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]


def start(
    folder: Path, steps: int, batch_size: int, dropout: float = 0.0, **environment: str
) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "tests.training.pretrain_process"]
    command += [str(folder), str(steps), str(batch_size), str(dropout)]
    return subprocess.Popen(
        command, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1", **environment}
    )


def start_two(
    folder: Path, steps: int, batch_size: int, dropout: float = 0.0
) -> "list[subprocess.Popen[bytes]]":
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    return [
        start(
            folder, steps, batch_size, dropout, RANK=str(rank), LOCAL_RANK=str(rank),
            WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=port, ACCELERATE_USE_CPU="true",
        )
        for rank in range(2)
    ]  # fmt: skip


def step_of(folder: Path) -> int:
    rows = read_metrics(folder / "metrics.jsonl")
    return rows[-1]["step"] if rows else 0


def kill_at(folder: Path, step: int, processes: "list[subprocess.Popen[bytes]]") -> None:
    deadline = time.monotonic() + 120
    while step_of(folder) < step and time.monotonic() < deadline:
        time.sleep(0.005)
    for process in processes:
        process.send_signal(signal.SIGKILL)
    for process in processes:
        process.wait(30)
    assert processes[0].returncode == -signal.SIGKILL


def assert_same_bits(whole: Path, killed: Path, steps: int) -> None:
    found, expected = load_training_state(killed / "state"), load_training_state(whole / "state")
    assert found is not None
    assert expected is not None
    assert found[1]["step"] == steps
    assert all(torch.equal(found[0][name], t) for name, t in expected[0].items())
    losses = [[r["loss"] for r in read_metrics(f / "metrics.jsonl")] for f in (whole, killed)]
    assert losses[0] == losses[1]


def test_a_killed_run_goes_on_bit_for_bit(tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert start(whole, 40, 4).wait(120) == 0
    for reached in (5, 20):  # killed twice, wherever it happens to be
        kill_at(killed, reached, [start(killed, 40, 4)])
    assert start(killed, 40, 4).wait(120) == 0
    assert_same_bits(whole, killed, 40)


def test_two_killed_processes_with_dropout_go_on_bit_for_bit(tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert [process.wait(120) for process in start_two(whole, 12, 4, 0.2)] == [0, 0]
    kill_at(killed, 4, start_two(killed, 12, 4, 0.2))
    assert [process.wait(120) for process in start_two(killed, 12, 4, 0.2)] == [0, 0]
    assert_same_bits(whole, killed, 12)


def test_two_processes_learn_what_one_with_the_whole_batch_learns(tmp_path: Path) -> None:
    assert start(tmp_path / "one", 5, 8).wait(120) == 0
    both = start_two(tmp_path / "two", 5, 8)
    assert [process.wait(120) for process in both] == [0, 0]
    rows = [read_metrics(tmp_path / name / "metrics.jsonl") for name in ("one", "two")]
    assert len(rows[0]) == len(rows[1]) == 6
    for one, two in zip(*rows, strict=True):
        assert one["loss"] == pytest.approx(two["loss"], rel=1e-4)
        assert one["loss_per_codebook"] == pytest.approx(two["loss_per_codebook"], rel=1e-4)
