"""Makings of several lengths in turns, so that a machine whose load drifts is as kind to all.

Each length has a process of its own, for its memory. It stops after every stretch (the sound that
is decoded at once, a few seconds of work) until it is told to go on, so that a long clip is made
between short ones and not after them. Both ends speak one JSON line a message.
"""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import IO, Any, Protocol

if __name__ == "__main__":
    from pathlib import Path

    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench import fresh

Message = dict[str, Any]


class Maker(Protocol):
    """Makes clips of one length over and over, one stretch at a time."""

    def stretch(self) -> Message:
        """Do the next stretch: `wall_s`, `cpu_s`, `finished` (a clip is whole), `peak_mb`."""
        ...


def take_turns(makers: Sequence[Maker]) -> list[list[Message]]:
    """Give all makers a stretch in turn until the last one has finished a clip.

    Args:
        makers: shortest clip first.

    Returns:
        For each maker the clips it finished: `wall_s` and `cpu_s`, summed over their stretches,
        and `peak_mb` at their end. One that finished none by then goes on alone.
    """
    finished: list[list[Message]] = [[] for _ in makers]
    spent = [{"wall_s": 0.0, "cpu_s": 0.0} for _ in makers]

    def go(place: int) -> None:
        said = makers[place].stretch()
        for key in spent[place]:
            spent[place][key] += said[key]
        if said["finished"]:
            finished[place].append(spent[place] | {"peak_mb": said["peak_mb"]})
            spent[place] = {"wall_s": 0.0, "cpu_s": 0.0}

    while not finished[-1]:
        for place in range(len(makers)):
            go(place)
    for place in range(len(makers)):
        while not finished[place]:
            go(place)
    return finished


class _Line:
    """One end of a line to somebody who makes clips."""

    def __init__(self, read: IO[str], write: IO[str]) -> None:
        self._read, self._write = read, write

    def say(self, message: Message) -> None:
        self._write.write(json.dumps(message) + "\n")
        self._write.flush()

    def hear(self) -> Message:
        line = self._read.readline()
        if not line:
            raise RuntimeError("the maker of a clip ended early; what it said is above")
        message: Message = json.loads(line)
        return message

    def stretch(self) -> Message:
        self.say({"go": True})
        return self.hear()


@contextmanager
def makers_of(jobs: Sequence[Message], *, here: bool = False) -> Iterator[list[Maker]]:
    """Start one maker a job, loaded and once used.

    Args:
        jobs: as `fresh` takes them, with `seconds` and `warm_s`.
        here: as threads of this process, to try the code.
    """
    with_ends = [_thread(job) if here else _process(job) for job in jobs]
    try:
        for line, _ in with_ends:
            line.hear()  # ready
        yield [line for line, _ in with_ends]
    finally:
        for line, join in with_ends:
            with suppress(OSError):  # one that failed is not there any more
                line.say({"go": False})
            join()


def _process(job: Message) -> tuple[_Line, Any]:
    process = subprocess.Popen(
        [sys.executable, __file__, json.dumps(job)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    return _Line(process.stdout, process.stdin), process.wait


def _thread(job: Message) -> tuple[_Line, Any]:
    down, up = os.pipe(), os.pipe()
    theirs = _Line(os.fdopen(down[0]), os.fdopen(up[1], "w"))
    thread = threading.Thread(target=serve, args=(job, theirs))
    thread.start()
    return _Line(os.fdopen(up[0]), os.fdopen(down[1], "w")), thread.join


class _EnoughError(Exception):
    """No more clips are wanted."""


def serve(job: Message, line: _Line) -> None:
    """Make clips of `seconds`, over and over, going on when told to."""
    pipeline = fresh.load(job)
    fresh.make(pipeline, job, job["warm_s"])
    began = 0.0, 0.0

    def wait() -> None:
        nonlocal began
        if not line.hear()["go"]:
            raise _EnoughError
        began = time.perf_counter(), time.process_time()

    def tell(finished: bool) -> None:
        spent = time.perf_counter() - began[0], time.process_time() - began[1]
        line.say({"wall_s": spent[0], "cpu_s": spent[1], "finished": finished,
                  "peak_mb": fresh.peak_mb()})  # fmt: skip

    def between(*_: object) -> None:
        tell(finished=False)
        wait()

    line.say({"ready": True})
    try:
        while True:
            wait()
            fresh.make(pipeline, job, job["seconds"], heard=between)
            tell(finished=True)
    except _EnoughError:
        return


if __name__ == "__main__":
    serve(json.loads(sys.argv[1]), _Line(sys.stdin, sys.stdout))
