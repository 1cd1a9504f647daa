"""What each open page has asked for: its runs, for history, and what it goes on from.

An open page says so every `BEAT_S`, and says when it is left. Gradio's own heartbeat, one request
that never ends, would hold one of the six connections a browser opens to an address: the sixth tab
of the studio would never appear.
"""

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from app.service import Job, Service
from app.settings import Settings

BEAT_S = 20.0
"""Between two signs of life of an open page, seconds; static/visit.js sends them."""
GONE_S = 150.0
"""A page that gave no sign for so long is closed; browsers let a hidden one speak once a minute."""
_SWEEP_S = 10.0
_COPYING_S = 60.0  # a copy that Gradio has not finished after so long never will be
log = logging.getLogger(__name__)
_MOST_RUNS = 30
_MOST_BYTES = 300_000_000


@dataclass
class Run:
    """One press of Generate."""

    number: int
    settings: Settings
    job: Job
    service: Service
    began: datetime = field(default_factory=datetime.now)

    @property
    def label(self) -> str:
        """Name it in the history."""
        text = " ".join(self.settings.prompt.split())
        text = text if len(text) <= 40 else f"{text[:39]}…"
        dialled = self.job.request.generation.diversity
        parts = [f"{self.number}. {text}", f"seed {self.job.seed}"]
        if dialled is not None:
            parts.insert(1, f"diversity {dialled:.2f}")
        return " · ".join(parts)

    def files(self) -> list[Path]:
        """List the clips that are still there."""
        return [path for path in self.job.files if path.is_file()]


class Visit:
    """The runs of one open page. Methods may be called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._runs: list[Run] = []
        self._count = 0
        self.shown: Run | None = None
        """The run whose clips are on the page."""
        self.source: Path | None = None
        """What the next run goes on from."""
        self.stands: tuple[str, bool] = "", False
        """Whose own sampling the controls were set to: a model ("" is the first), whether its base.

        Kept here, for a page with a `gr.State` holds a connection for as long as it is open.
        """
        self.others: dict[str, list[tuple[Service, Job]]] = {}
        """Jobs of comparisons and spreads, by which."""

    def add(self, settings: Settings, job: Job, service: Service) -> Run:
        """Note a new run; files of the oldest ones go when there are too many."""
        with self._lock:
            self._count += 1
            run = Run(self._count, settings, job, service)
            self._runs.append(run)
            self.shown = run
            dropped, self._runs = self._runs[:-_MOST_RUNS], self._runs[-_MOST_RUNS:]
            kept, total = list(self._runs), 0
        for old in dropped:
            old.service.release(old.job)
        for old in reversed(kept):
            total += old.job.file_bytes
            if total > _MOST_BYTES and old is not run:
                old.service.release(old.job)
        return run

    def runs(self) -> list[Run]:
        """List them, newest first."""
        with self._lock:
            return self._runs[::-1]

    @property
    def newest(self) -> Run | None:
        """The last press of Generate."""
        with self._lock:
            return self._runs[-1] if self._runs else None

    def find(self, number: int) -> Run | None:
        """Find one by its number."""
        return next((run for run in self.runs() if run.number == number), None)

    def replace_others(self, kind: str, jobs: list[tuple[Service, Job]]) -> None:
        """Put the jobs of a new comparison or spread in place of the last ones."""
        with self._lock:
            old, self.others[kind] = self.others.get(kind, []), jobs
        for service, job in old:
            service.release(job)

    def end(self) -> None:
        """Forget all of it: jobs end, files go."""
        for kind in list(self.others):
            self.replace_others(kind, [])
        for run in self.runs():
            run.service.release(run.job)


class Visits:
    """The visits of all open pages, by Gradio's name of their session.

    Args:
        services: what makes the music.
        cache: where Gradio puts its copies of what a page shows; None leaves them to it.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        services: Iterable[Service],
        cache: Path | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._services, self._cache, self._clock = list(services), cache, clock
        self._lock, self._tidying = threading.Lock(), threading.Lock()
        self._open: dict[str, tuple[Visit, float]] = {}  # and when it last gave a sign
        self._closed = threading.Event()
        self._sweeper = threading.Thread(target=self._sweep, name="studio visits", daemon=True)

    def start(self) -> None:
        """Look after the visits, until `close`."""
        self._sweeper.start()

    def close(self) -> None:
        """End all visits."""
        self._closed.set()
        if self._sweeper.is_alive():
            self._sweeper.join()
        for client in list(self._open):
            self.leave(client)

    def of(self, client: str) -> Visit:
        """Find the visit of a page that asks for something; a new one where there is none."""
        with self._lock:
            visit = self._open[client][0] if client in self._open else Visit()
            self._open[client] = visit, self._clock()
            return visit

    def known(self, client: str) -> Visit:
        """Find the visit of a page; an empty one, which is not kept, where it has ended."""
        with self._lock:
            return self._open[client][0] if client in self._open else Visit()

    def beat(self, client: str) -> None:
        """Note that a page is open; one that has asked for nothing is not noted."""
        with self._lock:
            if client in self._open:
                self._open[client] = self._open[client][0], self._clock()

    def leave(self, client: str) -> None:
        """Free the jobs, jams and files of a page that was closed."""
        with self._lock:
            visit, _ = self._open.pop(client, (None, 0.0))
        for service in self._services:
            for job in service.jobs_of(client):
                service.release(job)
            service.live.leave(client)
        if visit is not None:
            visit.end()
            self.tidy()

    def end_silent(self) -> None:
        """End the visits of pages that have given no sign for long."""
        with self._lock:
            since = self._clock() - GONE_S
            silent = [client for client, (_, seen) in self._open.items() if seen < since]
        for client in silent:
            self.leave(client)

    def tidy(self) -> None:
        """Remove Gradio's copies of what no open page can show any more."""
        if self._cache is None:
            return
        with self._tidying:  # a folder that another thread removes would end the listing
            self._tidy(self._cache)

    def _tidy(self, cache: Path) -> None:
        # Listed first: what is copied from now on belongs to a run that is looked at below.
        copies = [path for path in cache.glob("*/*") if path.is_file() and not _is_copying(path)]
        with self._lock:
            visits = [visit for visit, _ in self._open.values()]
        shown = {path.stem for visit in visits for run in visit.runs() for path in run.files()}
        for path in copies:
            if path.stem not in shown:
                path.unlink(missing_ok=True)
                with contextlib.suppress(OSError):  # another copy is in it
                    path.parent.rmdir()

    def _sweep(self) -> None:
        while not self._closed.wait(_SWEEP_S):
            try:
                self.end_silent()
                self.tidy()
            except Exception:  # what could not be removed now may be later, and others' files can
                log.exception("visits that have ended could not be put away; trying again")


def _is_copying(path: Path) -> bool:
    """Say whether Gradio is still writing this copy: until it is whole its name is hidden.

    Without the copy Gradio would give the page the job's own path, which is not served.
    """
    if not path.name.startswith("."):
        return False
    try:
        return time.time() - path.stat().st_ctime < _COPYING_S
    except FileNotFoundError:  # it has its name by now
        return True
