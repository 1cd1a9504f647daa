"""`musicgen-rl evaluate` as processes that are killed: what they leave is gone on with."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from musicgen_rl.config import SamplingConfig
from musicgen_rl.evaluation.summary import read_summary
from musicgen_rl.evaluation.table import read_rows
from tests.judged import save_judged
from tests.merging.pairs import tune

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
ROOT = Path(__file__).resolve().parents[2]
ARMS = [
    {"name": "base", "family": "base"},
    {"name": "same"},  # as base: its clips are made once for both
    {"name": "guidance 3", "family": "guidance", "sampling": {"guidance_scale": 3.0}},
    {"name": "temperature 1.2", "family": "temperature", "sampling": {"temperature": 1.2}},
    {"name": "quality", "family": "merge", "diversity": 0.0},
    {"name": "merge 0.5", "family": "merge", "diversity": 0.5},
    {"name": "diversity", "family": "merge", "diversity": 1.0},
    {"name": "half-way", "family": "control", "role": "half-way",
     "merge": {"quality": "base", "diversity": "quality", "lam": 0.5}},
]  # fmt: skip


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "tiny"
    save_judged(folder, sampling=SamplingConfig(guidance_scale=3.0, top_k=20))
    for number, end in enumerate(("quality", "diversity"), 1):
        tune(folder, folder / end, number, knows_base=True)
    return folder


def start(
    model: Path, arms: Path, prompts: Path, out: Path, workers: int
) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "musicgen_rl", "evaluate", "--model", model, "--prompts",
               prompts, "--arms", arms, "--quick", "-P", 8, "-n", 2, "--duration", 1.2,
               "--workers", workers, "--split", "final", "-o", out]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    return subprocess.Popen(
        [str(c) for c in command], cwd=ROOT, env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def numbers(out: Path) -> dict[str, Any]:
    """What a summary says of the music, without when and where it was made."""
    summary = read_summary(out)
    return {k: summary[k] for k in ("arms", "fronts", "claims", "measures", "bootstrap")}


@pytest.mark.parametrize("workers", [1, 2])
def test_killed_runs_come_to_the_numbers_of_an_undisturbed_one(
    model: Path, tmp_path: Path, workers: int
) -> None:
    prompts = tmp_path / "prompts.jsonl"
    rows = [{"prompt": f"jazz tune {i}", "attributes": {"style": "jazz"}} for i in range(8)]
    prompts.write_text("".join(json.dumps(r) + "\n" for r in rows))
    arms = tmp_path / "arms.json"
    arms.write_text(json.dumps({"reference": "base", "arms": ARMS}))
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    done = start(model, arms, prompts, whole, workers)
    out, err = done.communicate(timeout=280)
    assert done.returncode == 0, err
    assert out.strip() == str(whole / "report.html")
    assert "(8 of 8 arms)" in err
    assert " left (" in err

    for parts in (1, 3, 5):  # in the middle of making, of measuring, wherever it happens to be
        process = start(model, arms, prompts, killed, workers)
        while len(list((killed / "measured").glob("*.parquet"))) < parts:
            assert process.poll() is None, process.communicate()
            time.sleep(0.005)
        others = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGKILL)
        process.wait(30)
        process.communicate()
        _, alive = psutil.wait_procs(others, timeout=30)
        assert not alive  # nobody works on for a parent that is gone
        assert not (killed / "summary.json").exists()
    kept = {p: p.read_bytes() for p in (killed / "measured").glob("*.parquet")}
    last = start(model, arms, prompts, killed, workers)
    _, err = last.communicate(timeout=280)
    assert last.returncode == 0, err
    assert all(path.read_bytes() == content for path, content in kept.items())  # not made again
    made = [r for p in (killed / "measured").glob("*.parquet") for r in read_rows(p)[0]]
    keys = {(r["arm"], r["prompt"], r["index"]) for r in made}
    assert len(made) == len(keys) == 8 * 8 * 2  # none lost, none twice
    assert numbers(killed) == numbers(whole)
    one, two = (a["estimates"] for a in numbers(whole)["arms"][:2])
    assert one == two
    assert len(list((killed / "samples").rglob("*.ogg"))) == 8 * 4 * 2
    assert not list(killed.rglob("*.tmp"))
    for out in (whole, killed):  # four starts of one plan, and the same clips made anew: one look
        assert read_summary(out)["made"]["uses_of_final_split"] == 1
    assert len(prompts.with_name("prompts.uses.jsonl").read_text().splitlines()) == 1
