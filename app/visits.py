"""What each open page has asked for: its runs, for history, and what it goes on from."""

import threading
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from app.service import Job, Service
from app.settings import Settings

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
        self.others: dict[str, list[tuple[Service, Job]]] = {}
        """Jobs of comparisons and spreads, by which."""

    def add(self, settings: Settings, job: Job, service: Service) -> Run:
        """Note a new run; files of the oldest ones go when there are too many."""
        with self._lock:
            self._count += 1
            run = Run(self._count, settings, job, service)
            self._runs.append(run)
            self.shown = run
            del self._runs[: max(0, len(self._runs) - _MOST_RUNS)]
            kept, total = list(self._runs), 0
        for old in reversed(kept):
            total += sum(path.stat().st_size for path in old.files())
            if total > _MOST_BYTES and old is not run:
                old.service.release(old.job)
        return run

    def runs(self) -> list[Run]:
        """List them, newest first."""
        with self._lock:
            return self._runs[::-1]

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
