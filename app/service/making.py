"""The work on one job: clips into files, the first one heard on the way."""

import logging
from contextlib import closing
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from app.service.job import Job, State, Stopped
from musicgen_rl.audio.clip import Clip
from musicgen_rl.audio.files import file_name
from musicgen_rl.audio.stream_level import StreamLeveller
from musicgen_rl.errors import MusicgenRLError
from musicgen_rl.pipeline.core import Pipeline
from musicgen_rl.pipeline.files import generate_files
from musicgen_rl.pipeline.provenance import describe_codes
from musicgen_rl.pipeline.work import Batch, Chunk

log = logging.getLogger(__name__)

# 1 s at 50 Hz. The codec decodes some 20 frames around each part again, so that a part of half a
# second costs nearly three times its sound, and one of a second twice.
PART_FRAMES = 50


class FirstVariation:
    """Passes the first variation's sound on to its job, levelled as it comes.

    A batch that ran out of memory is made again, in halves, and then brings sound that was heard
    before: that is left out.
    """

    def __init__(self, pipeline: Pipeline, job: Job) -> None:
        self._pipeline, self._job = pipeline, job
        self._leveller = StreamLeveller(
            pipeline.sample_rate, pipeline.codec.audio_channels, job.request.generation.loudness
        )
        self._first = job.request.generation.first_index
        self._batch: Batch | None = None
        self._at = self._passed = 0
        self._codes: list[NDArray[np.int64]] = []
        self._heard: list[NDArray[np.float32]] = []

    def __call__(self, batch: Batch, part: Chunk) -> None:
        """Take the next part of a batch."""
        if self._first not in batch.indices:
            return
        if batch is not self._batch:
            self._batch, self._at = batch, 0
            self._codes.clear()
        row = batch.indices.index(self._first)
        self._codes.append(part.codes[row])  # [K, t]
        new = self._new(part.samples[row])
        if new.shape[1]:
            self._heard.append(self._leveller.push(new))
            self._job.hear(self._heard[-1])

    def keep(self) -> Path | None:
        """Write what was heard until now to a file, at once: nothing more is decoded or levelled.

        Returns:
            Where it went; None if nothing was heard.
        """
        if self._batch is None or not self._heard:
            return None
        pipeline, request = self._pipeline, self._job.request
        generation = request.generation
        samples = np.concatenate(self._heard, axis=1)
        frames = -(-samples.shape[1] // pipeline.codec.hop_length)
        codes = np.concatenate(self._codes, axis=1)[:, :frames]
        row = self._batch.indices.index(self._first)
        settings = pipeline.settings(self._batch, row, generation, request.sampling, None)
        settings |= describe_codes(codes, pipeline.frames_of(generation))
        name = file_name(request.prompt, self._job.seed, self._first, request.format)
        path = (self._job.folder / name).with_stem(f"{Path(name).stem}-stopped")
        return Clip(samples, pipeline.sample_rate, settings).save(path)

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
    heard = FirstVariation(pipeline, job)
    try:
        try:
            _make(pipeline, job, heard)
            job.end(State.DONE)
        except Stopped:
            if not job.abandoned and not job.has_files and (path := heard.keep()) is not None:
                job.deliver(path)
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


def _make(pipeline: Pipeline, job: Job, heard: FirstVariation) -> None:
    files = generate_files(
        pipeline,
        [job.request.prompt],
        job.request.generation,
        job.request.sampling,
        folder=job.folder,
        format=job.request.format,
        progress=job.advance,  # asked at every step, and ends the work there when it is to stop
        part_frames=PART_FRAMES,
        heard=heard,
    )
    clips = job.request.generation.clips_per_prompt
    with closing(files):  # type: ignore[type-var]  # a generator: what it holds goes with it
        for number, path in enumerate(files, 1):
            job.deliver(path)
            if job.stopping and number < clips:
                raise Stopped
