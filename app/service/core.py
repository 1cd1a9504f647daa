"""The service: one queue, one worker, one model."""

import contextlib
import ctypes
import logging
import secrets
import shutil
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path

from app.service.errors import QueueFullError, ServiceClosedError
from app.service.job import ACTIVE, Job, State, Update
from app.service.live import LiveRoom
from app.service.making import make, sentence
from app.service.metrics import Metrics
from app.service.pace import Pace, in_words
from app.service.rate import RateLimit
from app.service.request import Admitted, JobRequest, Limits, admit
from musicgen_rl.errors import MusicgenRLError
from musicgen_rl.pipeline.core import Pipeline
from musicgen_rl.pipeline.request import GenerationConfig

__all__ = ["QueueFullError", "Service", "ServiceClosedError", "give_memory_back"]

log = logging.getLogger(__name__)

_SWEEP_S = 60.0
_TAKEN_S = 30.0  # by then a page has taken the sound of a job that ended
_WARM_UP_S = 1.0
_PAUSE_S = 1.0  # after an error outside of any job, which the next round may meet again


class Service:
    """Makes music for many visitors, one job after the other.

    The worker thread is the only one that touches the pipeline. Each job carries its own settings,
    seed, stop and folder, so nothing of one visitor can reach another.

    Args:
        pipeline: handed over: nobody else may use it.
        limits: what is granted.
        folder: for files of jobs; a new private one, removed on `close`, where None.
        warm_up: make a second of music first, so that the first visitor finds everything
            loaded and gets an honest estimate.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        *,
        limits: Limits | None = None,
        folder: Path | None = None,
        warm_up: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.info = pipeline.info
        self.sample_rate, self.channels = pipeline.sample_rate, pipeline.codec.audio_channels
        self.has_dial = pipeline.has_endpoints
        self.device, self.dtype = str(pipeline.device), pipeline.dtype
        self.limits = limits or Limits()
        self._pipeline, self._clock = pipeline, clock
        self._own_folder = folder is None
        self.folder = folder or Path(tempfile.mkdtemp(prefix="musicgen-rl-"))
        self._pace = Pace()
        self._rate = RateLimit(self.limits.requests_per_minute, clock)
        self.metrics = Metrics()
        self._change = threading.Condition()
        self._waiting: deque[Job] = deque()
        self._running: list[Job] = []  # made side by side
        self._ended: deque[Job] = deque()
        self._closed = False
        self._warm_up = warm_up
        self.live = LiveRoom(pipeline, self.limits, self.folder, self.metrics, clock)
        self._worker = threading.Thread(target=self._work, name="musicgen-rl worker", daemon=True)
        self._worker.start()

    def submit(self, request: JobRequest, client: str = "", address: str = "") -> Job:
        """Check a request and queue it.

        Args:
            request: as the visitor gave it.
            client: whose it is; one client may have `limits.max_per_client` jobs at a time.
            address: where it comes from; one address may ask `limits.requests_per_minute` times.

        Returns:
            The job; look at it with `poll` or `watch`.

        Raises:
            InputError: the prompt cannot be used.
            ConfigError: a number out of range, or a seed that is not one.
            QueueFullError: no place is free; says when to try again.
            ServiceClosedError: the service is shutting down.
        """
        try:
            admitted = admit(request, self.limits, self.info)
        except MusicgenRLError:
            self.metrics.refused("mistake")
            raise
        self.check_rate(address)
        with self._change:
            if self._closed:
                raise ServiceClosedError("the studio is shutting down: come back later")
            if len(self._waiting) >= self.limits.max_waiting:
                self.metrics.refused("full")
                raise self._full()
            mine = len(self._jobs_of(client))
            if mine >= self.limits.max_per_client:
                self.metrics.refused("client")
                raise QueueFullError(
                    f"you have {mine} jobs here already: wait for one to end, or stop it",
                    self._remaining_of_running(),
                )
            folder = self.folder / secrets.token_urlsafe(16)
            job = Job(admitted, client, folder, self._clock)
            self._waiting.append(job)
            self._change.notify_all()
        return job

    def check_rate(self, address: str) -> None:
        """Count one request of an address.

        Raises:
            QueueFullError: it has sent too many; says when to try again.
        """
        wait = self._rate.wait_s(address)
        if wait:
            self.metrics.refused("rate")
            raise QueueFullError(
                f"that was the {self.limits.requests_per_minute}th request in a minute: try again "
                f"in {in_words(wait)}",
                wait,
            )

    def find(self, id: str) -> Job | None:
        """Find a job by its secret name."""
        with self._change:
            known = (*self._waiting, *self._running, *self._ended)
            return next((job for job in known if job.id == id), None)

    def poll(self, job: Job, *, sound: bool = True) -> Update:
        """Look at a job: where it stands, and what is new since the last look. Never waits.

        Args:
            job: from `submit`.
            sound: take its new sound; else that stays for another look.
        """
        with self._change:
            position, left = 0, self._remaining(job)
            if job in self._waiting:
                ahead = list(self._waiting)[: self._waiting.index(job)]
                position = len(self._running) + len(ahead)
                left += self._remaining_of_running() + sum(map(self._remaining, ahead))
        return job.look(position, left or None, sound=sound)

    def watch(self, job: Job, interval_s: float = 0.1) -> Iterator[Update]:
        """Look at a job until it has ended; a watcher that leaves before that frees the job.

        Args:
            job: from `submit`.
            interval_s: between looks.

        Returns:
            Updates; the last one holds the ending.
        """
        try:
            while True:
                update = self.poll(job)
                yield update
                if update.state not in ACTIVE:
                    return
                with self._change:
                    if not update.parts:
                        self._change.wait(interval_s)
        finally:
            if job.state in ACTIVE:
                self.release(job)

    def stop(self, job: Job) -> None:
        """Stop a job and keep what it has made; no other job notices."""
        self._end(job, abandon=False)

    def release(self, job: Job) -> None:
        """Forget a job: ended if it was still active, its files removed."""
        self._end(job, abandon=True)
        if job.state not in ACTIVE:  # else the worker removes them, when it has let go
            shutil.rmtree(job.folder, ignore_errors=True)

    def jobs_of(self, client: str) -> list[Job]:
        """List the jobs of a client that wait or run."""
        with self._change:
            return self._jobs_of(client)

    @property
    def load(self) -> tuple[int, int]:
        """Jobs waiting, and jobs in work."""
        with self._change:
            return len(self._waiting), len(self._running)

    def rendered_metrics(self) -> str:
        """Write the metrics, in Prometheus' text format."""
        waiting, running = self.load
        return self.metrics.render(
            waiting=waiting, running=running, jams=self.live.playing, model=self.info.name
        )

    def seconds_for(self, request: Admitted) -> float:
        """Estimate how long a request takes here once it runs; 0 while nothing is known."""
        steps = self._steps(request.generation)
        return self._pace.seconds(request.usual_rows, steps) * request.rounds

    def close(self, timeout_s: float = 10.0) -> None:
        """Stop everything and remove the service's files."""
        with self._change:
            self._closed = True
            jobs = [*self._waiting, *self._running]
            self._change.notify_all()
        for job in jobs:
            self.release(job)
        self.live.close(timeout_s)
        self._worker.join(timeout_s)
        if self._own_folder:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _end(self, job: Job, *, abandon: bool) -> None:
        job.ask_to_stop(abandon=abandon)
        with self._change:
            if job in self._waiting:
                self._waiting.remove(job)
                job.end(State.STOPPED)
                self.metrics.ended(State.STOPPED)
                self._ended.append(job)
            self._change.notify_all()

    def _work(self) -> None:
        if self._warm_up:
            try:
                self._practise()
            except Exception:
                log.exception("the warm-up failed; jobs will say why")
        while self._work_once():
            give_memory_back()
        self._sweep(everything=True)

    def _work_once(self) -> bool:
        """Do the next jobs; no error leaves, as nobody else would do those that wait.

        Returns:
            Whether there may be more; not once the service closes.
        """
        try:
            if not (jobs := self._take()):
                return False
            started = self._clock()
            make(self._pipeline, jobs)
            self._note(jobs, self._clock() - started)
        except Exception as error:
            log.exception("the worker met an error and goes on")
            with self._change:
                jobs = self._running
                if not jobs and not self._closed:
                    self._change.wait(_PAUSE_S)
            for job in jobs:
                job.end(State.FAILED, sentence(error))
        for job in jobs:
            if job.abandoned:
                shutil.rmtree(job.folder, ignore_errors=True)
        with self._change:
            self._running = []
            self._ended += jobs
            self._change.notify_all()
        return True

    def _take(self) -> list[Job]:
        """Wait for the next jobs, and put away what ended long ago; nothing when it closes."""
        while (taken := self._next()) is None:
            self._sweep()
        if taken:
            self._sweep()
        return taken

    def _next(self) -> list[Job] | None:
        """Take the next job, and with it those that can be made beside it.

        Only jobs of one position of the dial, one length and one way of drawing share a batch, so
        nobody's clip is made with another's weights.

        Returns:
            They, begun; None where none came for a while, nothing when the service closes.
        """
        with self._change:
            if not self._waiting and not self._closed:
                self._change.wait(_SWEEP_S)
            if self._closed:
                return []
            if not self._waiting:
                return None
            first = self._waiting.popleft()
            taken, rows = [first], first.request.rows
            for job in list(self._waiting):
                fits = rows + job.request.rows <= self.limits.max_rows
                if fits and job.request.goes_with(first.request):
                    self._waiting.remove(job)
                    taken.append(job)
                    rows += job.request.rows
            self._running = taken
            for job in taken:
                job.begin()
            self._change.notify_all()
        return taken

    def _note(self, jobs: list[Job], seconds: float) -> None:
        """Learn from what was made how long things take here."""
        done = [job for job in jobs if job.state is State.DONE]
        if len(done) == len(jobs):
            rows = sum(job.request.usual_rows for job in jobs)
            steps = self._steps(jobs[0].request.generation) * jobs[0].request.rounds
            self._pace.note(rows, steps, seconds)
        clips = [job.request.generation for job in done]
        self.metrics.worked(sum(c.duration_s * c.clips_per_prompt for c in clips), seconds)
        for job in jobs:
            self.metrics.ended(job.state)
            if (first := job.first_sound_s) is not None:
                self.metrics.first_sound(first)

    def _practise(self) -> None:
        """Make a short clip as visitors will, twice: the first one loads and compiles."""
        wanted = JobRequest(
            prompt="a", seed=0,
            duration_s=min(_WARM_UP_S, self.limits.max_duration_s),
            diversity=0.5 if self.has_dial else None,
        )  # fmt: skip
        request = admit(wanted, self.limits, self.info)
        for _ in range(2):
            job, started = Job(request, "", self.folder / "warm-up", self._clock), self._clock()
            job.begin()
            make(self._pipeline, [job])
            shutil.rmtree(job.folder, ignore_errors=True)
            if job.state is not State.DONE:
                log.error("the warm-up failed; jobs will say why")
                return
        self._pace.note(
            request.usual_rows, self._steps(request.generation), self._clock() - started
        )

    def _sweep(self, *, everything: bool = False) -> None:
        """Remove the files of jobs that ended long ago or are too many, and sound nobody took.

        Visitors end jobs meanwhile, and wait for no disk: only the list is taken under the lock.
        """
        now = self._clock()
        with self._change:
            ended = list(self._ended)
        gone, kept, sizes = [], [], []
        for job in ended:
            if now - job.ended_at > _TAKEN_S:
                job.forget_sound()
            if everything or now - job.ended_at > self.limits.keep_s:
                gone.append(job)
            else:
                kept.append(job)
                sizes.append(job.file_bytes)
        total = sum(sizes)
        for job, size in zip(kept[:-1], sizes, strict=False):  # oldest first, the newest stays
            if total <= self.limits.keep_bytes:
                break
            gone.append(job)
            total -= size
        with self._change:
            for job in gone:
                self._ended.remove(job)
        for job in gone:
            shutil.rmtree(job.folder, ignore_errors=True)

    def _steps(self, request: GenerationConfig) -> int:
        return self._pipeline.frames_of(request) + self.info.lm.num_codebooks - 1

    def _jobs_of(self, client: str) -> list[Job]:
        return [job for job in (*self._waiting, *self._running) if job.client == client]

    def _remaining_of_running(self) -> float:
        """Estimate seconds until the next job is taken."""
        return max(map(self._remaining, self._running), default=0.0)

    def _remaining(self, job: Job) -> float:
        """Estimate seconds of work a job still needs."""
        spent, left = job.running_seconds()
        return max(0.0, self.seconds_for(job.request) - spent) if left is None else left

    def _full(self) -> QueueFullError:
        retry = self._remaining_of_running()
        return QueueFullError(
            f"the queue is full ({len(self._waiting)} jobs are waiting): try again in "
            f"{in_words(retry)}",
            max(1.0, retry),
        )


def give_memory_back() -> None:
    """Return what the last job used to the system.

    No gc.collect(): with torch loaded it holds all threads for half a second, sound on its way to
    other visitors included, and a job's arrays are in no cycle.
    """
    if sys.platform == "linux":
        # glibc keeps freed memory for itself; a service that idles should not.
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).malloc_trim(0)
