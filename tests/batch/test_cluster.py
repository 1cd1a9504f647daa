"""Two actors on a cluster of this machine make what one process makes; one is killed meanwhile."""

import os
import signal

import pytest

from musicgen_rl.batch import cluster, run_batch
from musicgen_rl.batch.worker import Setup
from tests.batch.conftest import contents

pytestmark = [
    pytest.mark.ray,
    # Ray leaves sockets and processes of its own behind.
    pytest.mark.filterwarnings("ignore"),
]


def test_a_cluster_makes_the_same_files_though_a_worker_is_killed(
    plan, pipelines, tmp_path, monkeypatch
):
    pytest.importorskip("ray")
    run_batch(plan, tmp_path / "here", pipelines=pipelines)
    pid_file = tmp_path / "pids"
    real = cluster._Actor.make

    class Actor(cluster._Actor):
        def make(self, job):
            with pid_file.open("a") as file:
                file.write(f"{os.getpid()}\n")
            if len(pid_file.read_text().split()) == 2 and not job.attempt:
                os.kill(os.getpid(), signal.SIGKILL)  # in the middle of its first job
            return real(self, job)

    monkeypatch.setattr(cluster, "_Actor", Actor)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    summary = run_batch(plan, tmp_path / "there", engine="ray", workers=2)
    assert summary.complete
    assert len(set(pid_file.read_text().split())) >= 2
    assert contents(tmp_path / "there") == contents(tmp_path / "here")


def test_a_cluster_that_is_not_there_is_said_in_one_sentence(plan, monkeypatch):
    pytest.importorskip("ray")
    from musicgen_rl.errors import ResourceError

    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with pytest.raises(ResourceError, match=r"cannot reach the Ray cluster at 127.0.0.1:1: "):
        list(cluster.run_cluster(iter([]), Setup.of(plan, "flac"), workers=1, stop=lambda: False))
