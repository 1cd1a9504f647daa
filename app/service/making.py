"""The work on one job: clips into files, the first one heard on the way."""

import logging

import numpy as np
from numpy.typing import NDArray

from app.service.job import Abandoned, Job, State
from musicgen_rl.audio.stream_level import StreamLeveller
from musicgen_rl.errors import MusicgenRLError
from musicgen_rl.pipeline.core import Pipeline
from musicgen_rl.pipeline.files import generate_files
from musicgen_rl.pipeline.work import Batch, Chunk

log = logging.getLogger(__name__)

PART_FRAMES = 25  # 0.5 s at 50 Hz: soon heard, and the codec's context still costs little
_KEEP_S = 0.15  # time after a stop to put away what was made; the next visitor waits for it


class FirstVariation:
    """Passes the first variation's sound on to its job, levelled as it comes.

    A batch that ran out of memory is made again, in halves, and then brings sound that was heard
    before: that is left out.
    """

    def __init__(self, pipeline: Pipeline, job: Job) -> None:
        self._job = job
        self._leveller = StreamLeveller(
            pipeline.sample_rate, pipeline.codec.audio_channels, job.request.generation.loudness
        )
        self._first = job.request.generation.first_index
        self._batch: Batch | None = None
        self._at = self._passed = 0

    def __call__(self, batch: Batch, part: Chunk) -> None:
        """Take the next part of a batch."""
        if self._first not in batch.indices:
            return
        if batch is not self._batch:
            self._batch, self._at = batch, 0
        samples = part.samples[batch.indices.index(self._first)]  # [C, m]
        new = self._new(samples)
        if new.shape[1]:
            self._job.hear(self._leveller.push(new))

    def _new(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        start, self._at = self._at, self._at + samples.shape[1]
        new = samples[:, max(0, self._passed - start) :]
        self._passed = max(self._passed, self._at)
        return new


def make(pipeline: Pipeline, job: Job) -> None:
    """Do a job; whatever happens, it ends, and the caller goes on.

    Args:
        pipeline: this thread's alone.
        job: begun; ended on return.
    """
    try:
        _make(pipeline, job)
        job.end(State.STOPPED if job.stop_wanted() else State.DONE)
    except Abandoned:
        job.end(State.STOPPED)
    except Exception as error:
        job.end(State.FAILED, sentence(error))


def sentence(error: Exception) -> str:
    """Turn an error into what a visitor is told; what nobody foresaw goes to the log in full."""
    if isinstance(error, MusicgenRLError):
        return str(error)
    if isinstance(error, MemoryError):
        return "there is not enough memory for this: ask for shorter or fewer clips"
    log.error("a job failed", exc_info=error)
    return (
        f"something unexpected went wrong here ({type(error).__name__}); your settings are kept, "
        "so try again, and tell whoever runs this page if it stays"
    )


def _make(pipeline: Pipeline, job: Job) -> None:
    files = generate_files(
        pipeline,
        [job.request.prompt],
        job.request.generation,
        job.request.sampling,
        folder=job.folder,
        format=job.request.format,
        stop=job.stop_wanted,
        progress=job.advance,
        part_frames=PART_FRAMES,
        heard=FirstVariation(pipeline, job),
    )
    try:
        for path in files:
            job.deliver(path)
            if job.abandoned or job.seconds_since_stop() > _KEEP_S:
                break
    finally:
        files.close()  # type: ignore[attr-defined]  # a generator: drops what it still holds
