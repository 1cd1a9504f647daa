"""What the batch tests share: a tiny model in fp32, whose rounding depends on the batch's shape."""

import faulthandler
import math
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest

from musicgen_rl.batch import Item, Plan, make_plan
from musicgen_rl.pipeline import Pipeline

DATE = "2026-11-24T00:00:00+00:00"


@pytest.fixture(scope="session")
def model(tiny_folder: Path) -> str:
    """Name the tiny model as items do."""
    return str(tiny_folder)


@pytest.fixture(scope="session")
def pipelines(model: str) -> dict[str, Pipeline]:
    """Hold it loaded."""
    return {model: Pipeline.load(model, device="cpu", dtype="fp32")}


@pytest.fixture(scope="session")
def items(model: str) -> list[Item]:
    """Ask for ten clips, of two lengths."""
    return [
        Item(prompt=prompt, seed=seed, index=index, duration_s=duration, model=model, name=prompt)
        for prompt, duration in (("slow piano", 0.3), ("drums", 0.3), ("loud jazz", 0.2))
        for seed, index in ((0, 0), (0, 1), (5, 0))
    ] + [Item(prompt="ein Café", duration_s=0.2, model=model, attributes={"style": "pop"})]


@pytest.fixture(scope="session")
def plan(items: list[Item]) -> Plan:
    """Plan them in batches of four."""
    return make_plan(items, device="cpu", dtype="fp32", batch_size=4, date=DATE)


def contents(folder: Path) -> dict[str, bytes]:
    """Read all that a run leaves for its user: clips, shards, manifest."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if (path.is_file() and path.parent != folder) or path.name == "manifest.jsonl"
    }


def in_child(work: Callable[[], None], kill_after_s: float = math.inf) -> int:
    """Run `work` in a copy of this process, and kill it after a while.

    A fork, since a process that starts anew would spend its life on imports. This process must
    not be in the middle of torch's work then.

    Returns:
        Its exit status; -9 where it was killed.
    """
    child = os.fork()
    if child == 0:
        status = 1
        try:
            faulthandler.dump_traceback_later(60, exit=True, file=sys.__stderr__)
            work()
            status = 0
        except BaseException:
            traceback.print_exc(file=sys.__stderr__)
        finally:
            os._exit(status)
    end = time.monotonic() + kill_after_s
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.0005)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)
