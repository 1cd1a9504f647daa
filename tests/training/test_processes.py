import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

JOIN = """
import torch.distributed

def begin(**given):
    print(given["timeout"].total_seconds())
    raise SystemExit

torch.distributed.init_process_group = begin
from musicgen_rl.training.processes import Processes
Processes()
"""


def test_processes_wait_a_day_for_what_the_first_does_alone() -> None:
    several = {
        "RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": "1", "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    made = subprocess.run(
        [sys.executable, "-c", JOIN], cwd=ROOT, env={**os.environ, **several}, check=False,
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    assert float(made.stdout) == 24 * 3600


def test_accelerators_are_made_in_one_place() -> None:
    package = ROOT / "musicgen_rl"
    found = [p.name for p in package.rglob("*.py") if " Accelerator(" in p.read_text("utf-8")]
    assert found == ["processes.py"]
