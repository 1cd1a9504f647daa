"""Processes make what one process makes, and a death among them costs nothing."""

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from musicgen_rl.batch import local, run_batch
from musicgen_rl.batch.local import MOST_ATTEMPTS, once_more, run_processes
from musicgen_rl.batch.work import Job
from musicgen_rl.batch.worker import Setup
from musicgen_rl.errors import CheckpointError
from tests.batch.conftest import contents


def workers():
    return [p for p in psutil.Process().children() if "spawn_main" in " ".join(p.cmdline())]


@pytest.fixture(scope="module")
def expected(plan, pipelines, tmp_path_factory):
    folder = tmp_path_factory.mktemp("expected")
    run_batch(plan, folder, pipelines=pipelines)
    return contents(folder)


@pytest.mark.slow
def test_two_processes_make_the_same_files_and_one_may_die(plan, tmp_path, expected):
    killed = []

    def kill_one(status):
        if not killed:
            killed.append(workers()[0].pid)
            os.kill(killed[0], signal.SIGKILL)

    summary = run_batch(plan, tmp_path, workers=2, progress=kill_one)
    assert killed
    assert summary.complete
    assert contents(tmp_path) == expected
    assert not workers()


@pytest.mark.slow
def test_workers_of_a_killed_run_go_away_by_themselves(plan, tmp_path):
    code = (
        "import pickle, sys\n"
        "from musicgen_rl.batch import run_batch\n"
        "if __name__ == '__main__':\n"
        f"    plan = pickle.load(open({str(tmp_path / 'plan')!r}, 'rb'))\n"
        f"    run_batch(plan, {str(tmp_path / 'run')!r}, workers=2)\n"
    )
    import pickle

    (tmp_path / "plan").write_bytes(pickle.dumps(plan))
    (tmp_path / "go.py").write_text(code)
    parent = subprocess.Popen([sys.executable, str(tmp_path / "go.py")])
    end = time.monotonic() + 60
    children = []
    while len(children) < 2 and time.monotonic() < end:
        time.sleep(0.2)
        found = psutil.Process(parent.pid).children()
        children = [p for p in found if "spawn_main" in " ".join(p.cmdline())]
    parent.kill()
    parent.wait()
    gone, alive = psutil.wait_procs(children, timeout=60)
    assert len(gone) == 2
    assert not alive


def test_an_error_of_all_workers_ends_the_run_with_its_own_words(plan, tmp_path):
    from dataclasses import replace

    setup = Setup.of(plan, "flac")
    others = {name: replace(model, sha256="0" * 64) for name, model in setup.models.items()}
    setup = replace(setup, models=others)
    job = Job(number=0, clips=plan.clips[:4], wanted=frozenset(c.id for c in plan.clips[:4]))
    with pytest.raises(CheckpointError, match="the plan was made with model"):
        list(run_processes(iter([job]), setup, workers=1, stop=lambda: False))
    assert not workers()


def test_a_stop_ends_the_processes_at_once(plan):
    jobs = iter([Job(number=0, clips=plan.clips[:4], wanted=frozenset())])
    start = time.monotonic()
    asked = []

    def stop():
        asked.append(1)
        return len(asked) > 1

    assert list(run_processes(jobs, Setup.of(plan, "flac"), workers=1, stop=stop)) == []
    assert time.monotonic() - start < 20
    assert not workers()


def test_a_job_that_kills_every_worker_is_given_up_with_its_cause(plan):
    from collections import deque

    again = deque()
    job = Job(number=0, clips=plan.clips[:4], wanted=frozenset({plan.clips[1].id}))
    for attempt in range(1, MOST_ATTEMPTS):
        assert list(once_more(job, again, "x")) == []
        job = again.pop()
        assert job.attempt == attempt
    (given_up,) = once_more(job, again, local._death(-9))
    assert not again
    assert given_up.failed == {
        plan.clips[1].id: "3 workers died over its batch, the last killed by signal 9, as the "
        "system does when memory runs out"
    }
