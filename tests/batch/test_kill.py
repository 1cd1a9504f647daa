"""A run that is killed again and again ends with every clip once, whole, the same to the bit."""

import os
import random
import signal
import time

import pytest

from musicgen_rl.batch import read_results, run_batch, shards, verify, writer
from musicgen_rl.batch import run as runs
from musicgen_rl.batch.store import Store
from tests.batch.conftest import contents, in_child

# Python 3.12 warns of forks beside threads; the child here starts its own and then dies.
pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")

CONTAINERS = ["folder", "tar"]


@pytest.fixture(scope="module")
def undisturbed(plan, pipelines, tmp_path_factory):
    """Make the plan without a kill, once for each container."""
    made = {}
    for container in CONTAINERS:
        folder = tmp_path_factory.mktemp(container)
        run(plan, folder, container, pipelines)
        made[container] = contents(folder)
    return made


def run(plan, folder, container, pipelines):
    return run_batch(plan, folder, container=container, shard_size=4, pipelines=pipelines)


def require_whole(plan, folder, container, expected):
    assert verify(folder) == []
    assert contents(folder) == expected
    results = read_results(folder)
    assert list(results) == [clip.id for clip in plan.clips]
    if container == "tar":
        assert not list(folder.glob("clips/**/*"))


@pytest.mark.parametrize(
    ("container", "kills"),
    [("folder", 3), ("tar", 3), *(pytest.param(c, 50, marks=pytest.mark.slow) for c in CONTAINERS)],
)
def test_random_kills_change_nothing(plan, pipelines, tmp_path, undisturbed, container, kills):
    chance = random.Random(kills)
    started = time.monotonic()
    in_child(lambda: run(plan, tmp_path / "whole", container, pipelines))
    longest = time.monotonic() - started
    folders = [tmp_path / "0"]
    killed = here = 0
    while killed < kills:
        started = time.monotonic()
        code = in_child(
            lambda: run(plan, folders[-1], container, pipelines),
            kill_after_s=chance.uniform(0, longest),
        )
        assert code in (0, -9)
        if code == -9:
            killed, here = killed + 1, here + 1
        elif here == 0:  # a whole run: the machine is faster now than it was
            longest = min(longest, time.monotonic() - started)
        if code == 0 or here == 4:  # a run that is nearly done is hard to kill
            folders.append(tmp_path / str(len(folders)))
            here = 0
    for folder in folders:
        summary = run(plan, folder, container, pipelines)
        assert summary.complete
        assert summary.made + summary.kept == len(plan.clips)
        require_whole(plan, folder, container, undisturbed[container])


MOMENTS = {
    "before a file has its name": (writer, "write_whole", "before", 3),
    "before it is recorded": (Store, "record", "before", 2),
    "after it is recorded": (Store, "record", "after", 1),
    "before a shard": (writer, "write_shard", "before", 1),
    "in the middle of a shard": (shards, "_add", "before", 5),
    "after a shard, before its record": (Store, "move", "before", 2),
    "after its record, before the loose files go": (writer, "remove_loose", "before", 1),
    "before the manifest": (runs, "write_tables", "before", 1),
    "in the middle of the plan": (Store, "write_plan", "before", 1),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_kill_at_the_worst_moment_changes_nothing(
    plan, pipelines, tmp_path, undisturbed, moment, monkeypatch
):
    owner, name, when, count = MOMENTS[moment]
    real = getattr(owner, name)
    calls = 0

    def deadly(*arguments, **named):
        nonlocal calls
        calls += 1
        if calls == count and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        result = real(*arguments, **named)
        if calls == count:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    with monkeypatch.context() as patched:
        patched.setattr(owner, name, deadly)
        assert in_child(lambda: run(plan, tmp_path, "tar", pipelines)) == -9
    assert run(plan, tmp_path, "tar", pipelines).complete
    require_whole(plan, tmp_path, "tar", undisturbed["tar"])


def test_what_was_finished_before_a_kill_is_not_made_again(plan, pipelines, tmp_path, monkeypatch):
    real, calls = Store.record, []

    def deadly(*arguments):
        real(*arguments)
        calls.append(1)
        if len(calls) == 2:
            os.kill(os.getpid(), signal.SIGKILL)

    with monkeypatch.context() as patched:
        patched.setattr(Store, "record", deadly)
        assert in_child(lambda: run(plan, tmp_path, "folder", pipelines)) == -9
    summary = run(plan, tmp_path, "folder", pipelines)
    assert (summary.kept, summary.made) == (6, 4)  # batches of 4, 2 and 4
