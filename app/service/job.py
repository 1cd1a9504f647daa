"""A job: what the visitor's side and the worker's side share, and nothing else does."""

import contextlib
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from app.service.request import Admitted


class State(StrEnum):
    """Where a job stands."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    STOPPED = "stopped"
    FAILED = "failed"


ACTIVE = (State.WAITING, State.RUNNING)


@dataclass(frozen=True, kw_only=True)
class Update:
    """What a visitor learns at one look."""

    state: State
    """Where the job stands."""
    position: int
    """Jobs before this one; 0 once it runs."""
    fraction: float
    """Share made, 0 to 1."""
    seconds_left: float | None
    """Until this job ends, waiting included; None where nothing is known yet."""
    parts: list[NDArray[np.float32]]
    """New sound of the first variation since the last look, [C, m] each, in order."""
    files: list[Path]
    """New files since the last look, each complete, in order of the variations."""
    error: str
    """One sentence, where the job failed."""


class Stopped(Exception):  # noqa: N818  (not an error: its visitor wants it so)
    """Raised inside a job's own work when it is to end here and now."""


class Job:
    """One visitor's job. Made by `Service.submit`; all methods may be called from any thread.

    Args:
        request: checked.
        client: whose it is.
        folder: where its files go; its own.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        request: Admitted,
        client: str,
        folder: Path,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.id = secrets.token_urlsafe(16)
        self.request, self.client, self.folder = request, client, folder
        self._clock = clock
        self._lock = threading.Lock()
        self._state = State.WAITING
        self._stopping = self._abandoned = False
        self._started_at = self.ended_at = 0.0
        self._asked_at = clock()
        self.first_sound_s: float | None = None
        """Seconds from the request to the first sound; None while there was none."""
        self.playing = False
        """Whether its sound has begun to go out to its visitor."""
        self.awaited = False
        """Whether somebody waits for its sound already."""
        self._done = self._total = 0
        self._parts: list[NDArray[np.float32]] = []
        self._files: list[Path] = []
        self._seen_files = 0
        self._error = ""

    @property
    def seed(self) -> int:
        """The seed in use."""
        assert self.request.generation.seed is not None
        return self.request.generation.seed

    @property
    def state(self) -> State:
        """Where it stands."""
        with self._lock:
            return self._state

    @property
    def abandoned(self) -> bool:
        """Whether its visitor has left."""
        return self._abandoned

    @property
    def stopping(self) -> bool:
        """Whether it is to end, by wish or because its visitor has left."""
        return self._stopping

    @property
    def files(self) -> list[Path]:
        """All files so far, each complete, in order of the variations."""
        with self._lock:
            return list(self._files)

    @property
    def has_files(self) -> bool:
        """Whether a whole clip is there already."""
        with self._lock:
            return bool(self._files)

    @property
    def file_bytes(self) -> int:
        """Bytes its files hold on the disk; 0 once they are gone."""
        found = 0
        for path in self.files:
            with contextlib.suppress(FileNotFoundError):
                found += path.stat().st_size
        return found

    def ask_to_stop(self, *, abandon: bool = False) -> None:
        """Have the worker end this job at its next step; abandoned, nothing of it is kept."""
        with self._lock:
            self._stopping = True
            if abandon:
                self._abandoned = True
                self._parts.clear()

    def begin(self) -> None:
        """Note that the worker has taken it up."""
        with self._lock:
            self._state = State.RUNNING
            self._started_at = self._clock()

    def advance(self, done: int, total: int) -> None:
        """Note frames made of frames to make.

        Raises:
            Stopped: the work is to end here and now.
        """
        if self._stopping:
            raise Stopped
        with self._lock:
            self._done, self._total = done, total

    def hear(self, part: NDArray[np.float32]) -> None:
        """Hand over the next sound [C, m] of the first variation."""
        with self._lock:
            if self.first_sound_s is None:
                self.first_sound_s = self._clock() - self._asked_at
            if not self._abandoned:
                self._parts.append(part)

    def deliver(self, path: Path) -> None:
        """Hand over a finished file."""
        with self._lock:
            self._files.append(path)

    def end(self, state: State, error: str = "") -> None:
        """Note how it ended; the first ending stands."""
        with self._lock:
            if self._state in ACTIVE:
                self._state, self._error, self.ended_at = state, error, self._clock()

    def running_seconds(self) -> tuple[float, float | None]:
        """Tell seconds in work so far, and seconds left going by them (None at the start)."""
        with self._lock:
            if self._state is not State.RUNNING:
                return 0.0, None
            spent = self._clock() - self._started_at
            share = self._done / self._total if self._total else 0.0
            return spent, (spent * (1 - share) / share if share > 0.05 else None)

    def forget_sound(self) -> None:
        """Let go of sound that nobody took; files stay."""
        with self._lock:
            self._parts.clear()

    def look(self, position: int, seconds_left: float | None, *, sound: bool = True) -> Update:
        """Take what is new since the last look; the outlook comes from the service.

        Args:
            position: jobs before this one.
            seconds_left: until it ends.
            sound: take the sound too; else it stays for another look.
        """
        with self._lock:
            parts: list[NDArray[np.float32]] = []
            if sound:
                parts, self._parts = self._parts, parts
            files = self._files[self._seen_files :]
            self._seen_files = len(self._files)
            finished = self._state is State.DONE
            return Update(
                state=self._state,
                position=position,
                fraction=1.0 if finished else self._done / self._total if self._total else 0.0,
                seconds_left=seconds_left if self._state in ACTIVE else None,
                parts=parts,
                files=files,
                error=self._error,
            )
