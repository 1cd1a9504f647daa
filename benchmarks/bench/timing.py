"""Fair timing on a machine that is never quite quiet: all candidates take turns."""

import gc
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Candidate:
    """Something that takes steps."""

    name: str
    run: Callable[[int], object]
    """Takes that many steps; each call goes on where the last one stopped."""
    steps: int = 1
    """Steps of one turn."""
    check: Callable[[], None] | None = None
    """Called after the last turn; raises where not all the work was done."""


def take_turns(
    candidates: Sequence[Candidate],
    rounds: int,
    *,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Time candidates in turns, so that a busy moment of the machine hits all of them.

    The first turn of each only warms up. The order moves on by one each round, so that nobody
    always runs behind the same neighbour, whose data fills the processor's cache.

    Args:
        candidates: names must differ.
        rounds: turns of each that count.
        clock: seconds.

    Returns:
        Name -> seconds a step, one for each round.
    """
    times: dict[str, list[float]] = {c.name: [] for c in candidates}
    if len(times) != len(candidates):
        raise ValueError("two candidates have the same name")
    for candidate in candidates:
        candidate.run(candidate.steps)
    gc.collect()
    gc.disable()
    try:
        for turn in range(rounds):
            for i in range(len(candidates)):
                candidate = candidates[(turn + i) % len(candidates)]
                start = clock()
                candidate.run(candidate.steps)
                times[candidate.name].append((clock() - start) / candidate.steps)
    finally:
        gc.enable()
    for candidate in candidates:
        if candidate.check is not None:
            candidate.check()
    return times


def summary(seconds: Sequence[float]) -> dict[str, Any]:
    """Give the minimum and the median of some times, in ms, and how many there were."""
    return {
        "min_ms": min(seconds) * 1e3,
        "median_ms": statistics.median(seconds) * 1e3,
        "rounds": len(seconds),
    }
