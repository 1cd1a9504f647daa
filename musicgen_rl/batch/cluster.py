"""The engine of a cluster: actors on Ray's scheduler, one for each worker.

An actor makes whole batches and hands back the bytes of finished files; the driver alone writes
and records. So actors need no common disk, an actor or a node may die at any moment, and what is
made does not depend on who made it.
"""

import os
import socket
from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from musicgen_rl.batch.local import AHEAD, once_more
from musicgen_rl.batch.work import Done, Job, Stop
from musicgen_rl.batch.worker import Setup
from musicgen_rl.errors import MusicgenRLError, ResourceError

_LOOK_S = 0.5
_KNOCK_S = 10.0


def run_cluster(
    jobs: Iterator[Job],
    setup: Setup,
    *,
    workers: int,
    gpus_per_worker: float = 0.0,
    stop: Stop,
) -> Iterator[Done]:
    """Make jobs on a Ray cluster: the one RAY_ADDRESS names, or one started on this machine.

    Args:
        jobs: taken as they are needed.
        setup: of the run.
        workers: actors.
        gpus_per_worker: of each; 0 for CPUs, 0.5 puts two actors on one GPU.
        stop: then the actors are ended.

    Raises:
        ResourceError: there is no such cluster, or workers die before they have made anything.
    """
    import ray

    started_here = not ray.is_initialized()
    if started_here:
        _connect(ray)
    cpus = max(1, setup.threads)
    actor = ray.remote(num_cpus=cpus, num_gpus=gpus_per_worker, max_concurrency=AHEAD)(_Actor)
    crew = [actor.remote(setup) for _ in range(workers)]
    held: dict[Any, tuple[int, Job]] = {}  # result -> place of the worker, job
    again: deque[Job] = deque()
    made_any = [False] * workers
    early_deaths = 0
    try:
        while not stop():
            for place in range(workers):
                while sum(p == place for p, _ in held.values()) < AHEAD:
                    job = again.popleft() if again else next(jobs, None)
                    if job is None:
                        break
                    held[crew[place].make.remote(job)] = place, job
            if not held:
                return
            ready, _ = ray.wait(list(held), num_returns=1, timeout=_LOOK_S)
            for reference in ready:
                if reference not in held:  # its worker was found dead meanwhile
                    continue
                place, job = held[reference]
                try:
                    done = ray.get(reference)
                except ray.exceptions.RayActorError:
                    lost = [r for r, (p, _) in held.items() if p == place]
                    early_deaths = 0 if made_any[place] else early_deaths + 1
                    if early_deaths > 2 * workers:
                        raise ResourceError(
                            f"{early_deaths} workers died before they made anything: give each "
                            "more memory, or use a smaller batch size"
                        ) from None
                    crew[place], made_any[place] = actor.remote(setup), False
                    for other in lost:
                        yield from once_more(held.pop(other)[1], again, "on the cluster")
                    continue
                except ray.exceptions.RayTaskError as error:
                    cause = error.cause
                    raise cause if isinstance(cause, MusicgenRLError) else error from None
                del held[reference]
                made_any[place] = True
                yield done
    finally:
        for member in crew:
            ray.kill(member)
        if started_here:
            ray.shutdown()


class _Actor:
    """A worker as Ray runs it; two calls at once, one decodes while the other encodes."""

    def __init__(self, setup: Setup) -> None:
        kind = setup.device.split(":")[0]  # Ray shows each worker its own GPUs alone
        self._worker = replace(setup, device=kind).worker()

    def make(self, job: Job) -> Done:
        return self._worker.make(job)


def _connect(ray: Any) -> None:
    """Join the cluster of RAY_ADDRESS, or start one here, quietly and without its web page."""
    address = os.environ.get("RAY_ADDRESS")
    if address is not None:
        _require_reachable(address)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    options: dict[str, Any] = {"log_to_driver": False, "configure_logging": False}
    if address is None:
        options |= {"include_dashboard": False}
    try:
        ray.init(address=address, **options)
    except (ConnectionError, RuntimeError, ValueError, TimeoutError, OSError) as error:
        where = f"the Ray cluster at {address}" if address else "a Ray cluster here"
        reason = " ".join(str(error).split())[:200]
        raise ResourceError(
            f"cannot reach {where}: {reason}; check RAY_ADDRESS, or use --engine local"
        ) from error


def _require_reachable(address: str) -> None:
    """Knock at the head node's door: Ray itself would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        return  # "auto", "local": for Ray to find
    try:
        socket.create_connection((host, int(port)), timeout=_KNOCK_S).close()
    except OSError as error:
        raise ResourceError(
            f"cannot reach the Ray cluster at {address}: {error}; check RAY_ADDRESS, or use "
            "--engine local"
        ) from error
