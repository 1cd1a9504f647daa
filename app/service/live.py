"""The room of all jams: endless music that visitors steer while it plays.

One thread makes all jams, a little of each in turn, on weights of its own: a job of the queue and a
jam never wait for each other's weights. Making is paced. A model that makes ten seconds in one
would, left alone, have made a minute before the first move; so each jam is kept `LEAD_S` ahead of
what its visitor hears, and what is moved now is heard that much later.
"""

import contextlib
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from app.service.errors import QueueFullError, ServiceClosedError
from app.service.jam import JamRequest, LiveJam, begun, sampling_of
from app.service.making import sentence
from app.service.metrics import Metrics
from app.service.request import Limits, checked_text
from musicgen_rl.pipeline.core import Pipeline
from musicgen_rl.pipeline.dial import require_endpoints
from musicgen_rl.pipeline.holds import require_holds
from musicgen_rl.pipeline.moves import Move
from musicgen_rl.pipeline.request import draw_seed

SLICE_S = 0.24
"""Seconds of music made at a time."""
_KEPT_S = 900.0  # a jam that ended can still be written to a file
_MOST_ENDED = 8
_WAIT_S = 0.05


class LiveRoom:
    """Makes all jams, in a thread that starts with the first one.

    Args:
        pipeline: of the service; a twin of it is played on.
        limits: how many jams, and how long.
        folder: for kept files.
        metrics: counted in.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        limits: Limits,
        folder: Path,
        metrics: Metrics,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.pipeline, self.limits, self.folder = pipeline, limits, folder
        self.metrics, self.clock = metrics, clock
        self._jams: list[LiveJam] = []
        self._ended: list[LiveJam] = []
        self._change = threading.Condition()
        self._closed = False
        self._thread: threading.Thread | None = None

    @property
    def playing(self) -> int:
        """How many jams play."""
        with self._change:
            return len(self._jams)

    def open(self, request: JamRequest, client: str = "") -> LiveJam:
        """Start a jam.

        Args:
            request: as the visitor gave it.
            client: whose it is; a visitor's older jam ends.

        Raises:
            InputError, ConfigError: it cannot be.
            QueueFullError: as many jams play as may.
            ServiceClosedError: the service is shutting down.
        """
        prompt = checked_text(request.prompt, "the prompt", self.limits.max_prompt_characters)
        require_endpoints(self.pipeline.info, request.diversity)
        require_holds(self.pipeline.info, request.held())
        request = replace(request, sampling=begun(self.pipeline.info, request))
        sampling = sampling_of(self, request.diversity, dict(request.sampling))
        first = Move(frame=0, prompt=prompt, sampling=sampling, diversity=request.diversity)
        seed = draw_seed() if request.seed is None else request.seed
        jam = LiveJam(self, request, first, seed, client)
        if client:
            for other in self.of(client):
                self.end(other)
        with self._change:
            if self._closed:
                raise ServiceClosedError("the studio is shutting down: come back later")
            if len(self._jams) >= self.limits.max_jams:
                self.metrics.refused("jams")
                raise QueueFullError(
                    f"{len(self._jams)} jams play here already, as many as may: try again in a "
                    "minute", 60.0,
                )  # fmt: skip
            self._jams.append(jam)
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._work, name="musicgen-rl jams", daemon=True
                )
                self._thread.start()
            self._change.notify_all()
        return jam

    def find(self, id: str) -> LiveJam | None:
        """Find a jam by its secret name."""
        with self._change:
            return next((jam for jam in (*self._jams, *self._ended) if jam.id == id), None)

    def of(self, client: str) -> list[LiveJam]:
        """List the jams of a client that play."""
        with self._change:
            return [jam for jam in self._jams if jam.client == client]

    def end(self, jam: LiveJam, error: str = "") -> None:
        """End a jam; no other one notices."""
        with self._change:
            if jam not in self._jams:
                return
            self._jams.remove(jam)
            self._ended.append(jam)
            while len(self._ended) > _MOST_ENDED:
                self._forget(self._ended[0])
        jam.finish(error)

    def leave(self, client: str) -> None:
        """Forget the jams of a client that has gone: they end, and kept files go."""
        for jam in self.of(client):
            self.end(jam)
        with self._change:
            for jam in [jam for jam in self._ended if jam.client == client]:
                self._forget(jam)

    def close(self, timeout_s: float = 10.0) -> None:
        """End all jams and remove their files."""
        with self._change:
            self._closed = True
            jams = list(self._jams)
            self._change.notify_all()
        for jam in jams:
            self.end(jam)
        if self._thread is not None:
            self._thread.join(timeout_s)
        with self._change:
            for jam in list(self._ended):
                self._forget(jam)

    def wake(self) -> None:
        """Look at once whether something is due."""
        with self._change:
            self._change.notify_all()

    def _work(self) -> None:
        try:
            self._play(self.pipeline.twin())
        except Exception as error:  # there is no room for a second model, for one
            said = sentence(error)
            with self._change:
                jams, self._thread = list(self._jams), None  # the next jam tries again
            for jam in jams:
                self.end(jam, said)

    def _play(self, pipeline: Pipeline) -> None:
        slice_frames = max(1, round(SLICE_S * pipeline.info.frame_rate))
        while not self._closed:
            now = self.clock()
            with self._change:
                jams = list(self._jams)
                for old in [e for e in self._ended if now - (e.ended_at or now) > _KEPT_S]:
                    self._forget(old)
            for jam in [jam for jam in jams if jam.gone(now)]:
                self.end(jam)
            due = [jam for jam in jams if not jam.ended and jam.due(now)]
            for jam in due:
                try:
                    self.metrics.jammed(jam.make(pipeline, slice_frames))
                except Exception as error:
                    self.end(jam, sentence(error))
            if not due:
                with self._change:
                    if not self._closed:
                        self._change.wait(_WAIT_S if self._jams else None)

    def _forget(self, jam: LiveJam) -> None:
        with contextlib.suppress(ValueError):
            self._ended.remove(jam)
        shutil.rmtree(jam.folder, ignore_errors=True)
