"""Several training processes on one machine, from one command.

On a processor two processes of one thread each train faster than one of two threads: a step is
thousands of short operations, and threads wait for each other at every one of them, processes only
once a step (docs/training.md has the figures). Several GPUs are for `accelerate launch`.
"""

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from musicgen_rl.errors import ConfigError, MusicgenRLError

WAIT_S = 60.0
"""How long the first process waits for the others to end after it, and goes on after one that
ended before its time."""
ENDED = (
    "another process ended with status {}: what was saved is intact, run the command again to go on"
)


def is_first() -> bool:
    """Say whether this process is the one that prepares, writes and decides."""
    return os.environ.get("RANK", "0") == "0"


def threads_each(processes: int, threads: int) -> int:
    """Share the processor's threads out where the user gave no number; 0 leaves it to torch."""
    if threads or processes == 1:
        return threads
    return max(1, (os.cpu_count() or 1) // processes)


@contextmanager
def side_by_side(count: int, arguments: Sequence[str] | None = None) -> Iterator[None]:
    """Run what follows in `count` processes, of which this is the first.

    Enter it before the first `Accelerator`. The others run the same command with the same
    arguments; each finds its number in the environment, and nothing is started again.

    Args:
        count: processes; 1 starts none.
        arguments: of the command, those of this process if None.

    Raises:
        ConfigError: this process is one of several already.
        MusicgenRLError: another process ended before its time; what was saved is intact.
    """
    if count == 1 or "MUSICGEN_RL_SIDE_BY_SIDE" in os.environ:
        yield
        return
    if "RANK" in os.environ:
        raise ConfigError("--processes under a launcher: leave it out, the launcher has its own")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    shared = {
        "WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port,
        "ACCELERATE_USE_CPU": "true", "MUSICGEN_RL_SIDE_BY_SIDE": "1",
    }  # fmt: skip
    # Where this is not set, accelerate gives every process as many threads as there are cores.
    shared["OMP_NUM_THREADS"] = os.environ.get("OMP_NUM_THREADS") or str(threads_each(count, 0))
    before = dict(os.environ)
    command = [sys.executable, "-m", "musicgen_rl", *(arguments or sys.argv[1:])]
    others = [
        subprocess.Popen(
            command, env={**before, **shared, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )
        for rank in range(1, count)
    ]  # fmt: skip
    os.environ.update(shared, RANK="0", LOCAL_RANK="0")
    done = threading.Event()
    threading.Thread(target=_end_with, args=(others, done), daemon=True).start()
    try:
        yield
        for other in others:
            other.wait(WAIT_S)
    except RuntimeError as error:  # a connection that broke off
        ended = [other.poll() for other in others if other.poll() is not None]
        if isinstance(error, MusicgenRLError) or not ended:
            raise
        raise MusicgenRLError(ENDED.format(ended[0])) from error
    finally:
        done.set()
        for other in others:
            if other.poll() is None:
                other.terminate()
        for name in (*shared, "RANK", "LOCAL_RANK"):
            os.environ.pop(name, None)
            if name in before:
                os.environ[name] = before[name]


def _end_with(others: Sequence["subprocess.Popen[bytes]"], done: threading.Event) -> None:
    """End this process after another broke off; one that died before all met is waited for long.

    A connection that breaks off is told of at once, by an error. Before there are connections
    nothing tells, and a process in torch's own waiting hears no exception.

    Args:
        others: beside this one.
        done: set when their work is over.
    """
    broken: list[int] = []
    while not broken and not done.wait(1.0):
        broken = [other.returncode for other in others if other.poll()]
    if broken and not done.wait(WAIT_S):
        sys.stderr.write(ENDED.format(broken[0]) + "\n")
        sys.stderr.flush()
        os._exit(1)
