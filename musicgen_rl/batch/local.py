"""The engine of one machine: this process, or several beside it."""

import contextlib
import multiprocessing
import os
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import replace
from multiprocessing.connection import Connection
from multiprocessing.connection import wait as wait_for
from multiprocessing.process import BaseProcess
from typing import TYPE_CHECKING

from musicgen_rl.batch.work import Done, Job, Stop
from musicgen_rl.batch.worker import Setup, Stopped
from musicgen_rl.errors import MusicgenRLError, ResourceError

if TYPE_CHECKING:
    from musicgen_rl.pipeline.core import Pipeline

AHEAD = 2
"""Jobs a worker holds: one is decoded while the other is encoded."""
MOST_ATTEMPTS = 3
_LOOK_S = 0.2  # how often a waiting engine asks whether to stop


def run_here(
    jobs: Iterator[Job],
    setup: Setup,
    *,
    stop: Stop,
    pipelines: "Mapping[str, Pipeline] | None" = None,
) -> Iterator[Done]:
    """Make jobs in this process, encoding one while the next is decoded.

    Args:
        jobs: taken as they are needed.
        setup: of the run.
        stop: asked at every step; then what is encoded already still comes.
        pipelines: models that are loaded already.
    """
    leaving = threading.Event()
    worker = setup.worker(pipelines)
    with ThreadPoolExecutor(AHEAD, thread_name_prefix="batch") as pool:
        running: set[Future[Done]] = set()
        more = True
        try:
            while more or running:
                while more and len(running) < AHEAD and not stop():
                    job = next(jobs, None)
                    more = job is not None
                    if job is not None:
                        asked = lambda: stop() or leaving.is_set()  # noqa: E731
                        running.add(pool.submit(worker.make, job, asked))
                if stop():
                    more = False
                finished, running = wait(running, _LOOK_S, FIRST_COMPLETED)
                for future in finished:
                    with contextlib.suppress(Stopped):
                        yield future.result()
        finally:
            leaving.set()  # an error, or nobody wants more: do not decode to the end


def run_processes(jobs: Iterator[Job], setup: Setup, *, workers: int, stop: Stop) -> Iterator[Done]:
    """Make jobs in processes beside this one; one that dies is replaced and its jobs go on.

    Args:
        jobs: taken as they are needed.
        setup: of the run.
        workers: processes.
        stop: then the processes are ended: they hold nothing that is not made again.

    Raises:
        ResourceError: workers die before they have made anything.
    """
    # Not fork: threads of torch and numba do not survive it.
    context = multiprocessing.get_context("spawn")
    crew = [_Member(context, setup) for _ in range(workers)]
    again: deque[Job] = deque()
    early_deaths = 0
    try:
        while not stop():
            for member in crew:
                while len(member.held) < AHEAD:
                    job = again.popleft() if again else next(jobs, None)
                    if job is None:
                        break
                    member.give(job)
            if not any(member.held for member in crew):
                return
            ready = wait_for([m.pipe for m in crew], _LOOK_S)
            for place, member in enumerate(crew):
                if member.pipe not in ready:
                    continue
                try:
                    answer = member.pipe.recv()
                except (EOFError, OSError):
                    code = member.end()
                    early_deaths = 0 if member.made else early_deaths + 1
                    if early_deaths > 2 * workers:
                        raise ResourceError(
                            f"{early_deaths} workers died before they made anything "
                            f"({_death(code)}): use fewer workers, or a smaller batch size"
                        ) from None
                    crew[place] = _Member(context, setup)
                    for job in member.held.values():
                        yield from once_more(job, again, _death(code))
                    continue
                if isinstance(answer, BaseException):
                    raise answer
                del member.held[answer.number]
                member.made = True
                yield answer
    finally:
        for member in crew:
            member.end()


def once_more(job: Job, again: "deque[Job]", why: str) -> Iterator[Done]:
    """Queue a job that a worker died over, or give it up."""
    job = replace(job, attempt=job.attempt + 1)
    if job.attempt < MOST_ATTEMPTS:
        again.append(job)
    else:
        cause = f"{MOST_ATTEMPTS} workers died over its batch, the last {why}"
        yield Done(number=job.number, failed=dict.fromkeys(job.wanted, cause))


def _death(code: int | None) -> str:
    if code is not None and code < 0:
        killed = f"killed by signal {-code}"
        return f"{killed}, as the system does when memory runs out" if code == -9 else killed
    return f"with exit status {code}"


class _Member:
    """A worker process, as its parent sees it."""

    def __init__(self, context: "multiprocessing.context.SpawnContext", setup: Setup) -> None:
        self.pipe, other = context.Pipe()
        self.held: dict[int, Job] = {}
        self.made = False
        self._process: BaseProcess = context.Process(
            target=serve, args=(other, setup), name="batch-worker", daemon=True
        )
        self._process.start()
        other.close()

    def give(self, job: Job) -> None:
        self.held[job.number] = job
        with contextlib.suppress(OSError):  # it is dead: seen at the next receive
            self.pipe.send(job)

    def end(self) -> int | None:
        """End it, and return its exit status."""
        self.pipe.close()
        self._process.join(0.5 if not self.held else 0.1)
        if self._process.is_alive():
            self._process.kill()  # it writes nothing, so nothing can be left half
            self._process.join()
        code = self._process.exitcode
        self._process.close()
        return code


def serve(pipe: "Connection[Done | BaseException, Job]", setup: Setup) -> None:
    """Be a worker process: take jobs from the pipe until its other end is gone."""
    import signal

    # Ctrl-C reaches the whole group; the parent decides what becomes of it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sending = threading.Lock()

    def answer(message: Done | BaseException) -> None:
        try:
            with sending:
                pipe.send(message)
        except OSError:
            os._exit(1)  # the parent is gone, and with it whoever wants the clips

    try:
        worker = setup.worker()
    except BaseException as error:
        answer(error)
        return

    def make(job: Job) -> None:
        try:
            done: Done | BaseException = worker.make(job)
        except MusicgenRLError as error:
            done = error
        except BaseException as error:  # a foreign class may not survive the pipe
            done = RuntimeError(f"in a worker: {type(error).__name__}: {error}")
        answer(done)

    with ThreadPoolExecutor(AHEAD, thread_name_prefix="batch") as pool:
        while True:
            try:
                job = pipe.recv()
            except (EOFError, OSError):
                os._exit(0)
            pool.submit(make, job)
