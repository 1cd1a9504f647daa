"""The work on jobs: clips into files, the first of each job heard on the way."""

import logging
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from app.service.job import Job, State, Stopped
from musicgen_rl.audio.clip import Clip
from musicgen_rl.audio.files import file_name, prepare_folder
from musicgen_rl.audio.spool import Spool
from musicgen_rl.audio.stream_level import StreamLeveller
from musicgen_rl.errors import MusicgenRLError
from musicgen_rl.pipeline.core import Pipeline
from musicgen_rl.pipeline.devices import is_out_of_memory
from musicgen_rl.pipeline.files import generate_files
from musicgen_rl.pipeline.provenance import describe_codes
from musicgen_rl.pipeline.work import Batch, Chunk

log = logging.getLogger(__name__)

# The codec decodes its context around each part again, so short parts cost several times their
# sound; but the first one is what a visitor waits for. They grow to a second and a half.
_FIRST_S, _NEXT_S, _LATER_S = 0.4, 0.8, 1.5


def part_frames(pipeline: Pipeline) -> list[int]:
    """Say in which parts clips are made: the first as soon as it can be heard."""
    rate, held_back = pipeline.info.frame_rate, pipeline.codec.context_frames[1]
    return [
        held_back + max(1, round(_FIRST_S * rate)),
        max(1, round(_NEXT_S * rate)),
        max(1, round(_LATER_S * rate)),
    ]


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
        self._row = 0
        self._at = self._passed = 0
        self._codes: list[NDArray[np.int64]] = []
        self._heard: list[NDArray[np.float32]] = []

    def __call__(self, batch: Batch, part: Chunk) -> None:
        """Take the next part of a batch of this job alone."""
        if self._first in batch.indices:
            self.take(batch, batch.indices.index(self._first), part)

    def take(self, batch: Batch, row: int, part: Chunk) -> None:
        """Take the next part of a batch, in which this job's first clip is `row`."""
        if batch is not self._batch:
            self._batch, self._row, self._at = batch, row, 0
            self._codes.clear()
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
        source = pipeline.read_source(request.continue_from)
        samples = np.concatenate(self._heard, axis=1)
        known = 0 if source is None else source.samples.shape[1]
        frames = max(0, -(-(samples.shape[1] - known) // pipeline.codec.hop_length))
        codes = np.concatenate(self._codes, axis=1)[:, :frames]
        settings = pipeline.settings(self._batch, self._row, generation, request.sampling, source)
        settings |= describe_codes(codes, pipeline.frames_of(generation))
        name = file_name(request.prompt, self._job.seed, self._first, request.format)
        path = (self._job.folder / name).with_stem(f"{Path(name).stem}-stopped")
        return Clip(samples, pipeline.sample_rate, settings).save(path)

    def _new(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        start, self._at = self._at, self._at + samples.shape[1]
        new = samples[:, max(0, self._passed - start) :]
        self._passed = max(self._passed, self._at)
        return new


def make(pipeline: Pipeline, jobs: list[Job]) -> None:
    """Do jobs side by side; whatever happens, each ends, and the caller goes on.

    Args:
        pipeline: this thread's alone.
        jobs: begun, each `goes_with` the first; ended on return.
    """
    heard = {job.id: FirstVariation(pipeline, job) for job in jobs}
    crowded = False
    if len(jobs) > 1:
        try:
            _make_together(pipeline, jobs, heard)
        except Exception as error:
            crowded = is_out_of_memory(error)
            if not crowded:
                for job in jobs:
                    job.end(State.FAILED, sentence(error))
    if crowded:  # here, where the error holds nothing of the batch any more
        pipeline.clear_runners()
    for job in jobs:
        if job.state is State.RUNNING:  # alone, or there was not room for all of them together
            _guarded(job, heard[job.id], lambda job, first: _make(pipeline, job, first))


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


def _guarded(
    job: Job,
    heard: FirstVariation,
    work: Callable[[Job, FirstVariation], None],
) -> None:
    """Do a part of one job's work that may end the job, and end it."""
    try:
        try:
            work(job, heard)
            job.end(State.DONE)
        except Stopped:
            if not job.abandoned and not job.has_files and (path := heard.keep()) is not None:
                job.deliver(path)
            job.end(State.STOPPED)
    except Exception as error:
        job.end(State.FAILED, sentence(error))


def _make(pipeline: Pipeline, job: Job, heard: FirstVariation) -> None:
    """Make one job's clips."""
    files = generate_files(
        pipeline,
        [job.request.prompt],
        job.request.generation,
        job.request.sampling,
        folder=job.folder,
        format=job.request.format,
        source=pipeline.read_source(job.request.continue_from),
        progress=job.advance,  # asked at every step, and ends the work there when it is to stop
        part_frames=part_frames(pipeline),
        heard=heard,
    )
    clips = job.request.generation.clips_per_prompt
    with closing(files):  # type: ignore[type-var]  # a generator: what it holds goes with it
        for number, path in enumerate(files, 1):
            job.deliver(path)
            if job.stopping and number < clips:
                raise Stopped


def _make_together(pipeline: Pipeline, jobs: list[Job], heard: dict[str, FirstVariation]) -> None:
    """Make the clips of several jobs in one batch; each still has its own seed, files and stop."""
    owners = [job for job in jobs for _ in range(job.request.generation.clips_per_prompt)]
    firsts = {job.id: owners.index(job) for job in jobs}
    batch = Batch(
        [job.request.prompt for job in owners],
        [
            job.request.generation.first_index + row - firsts[job.id]
            for row, job in enumerate(owners)
        ],
        seeds=[job.seed for job in owners],
    )
    shared = replace(jobs[0].request.generation, clips_per_prompt=1)
    wanted, steps = pipeline.frames_of(shared), 0

    def leave(job: Job, _: FirstVariation) -> None:
        raise Stopped

    def ask() -> bool:
        """Let those go who want to; they say so at every step."""
        nonlocal steps
        steps += 1
        for job in jobs:
            if job.state is State.RUNNING:
                try:
                    job.advance(min(steps, wanted), wanted)
                except Stopped:
                    _guarded(job, heard[job.id], leave)
        return all(job.state is not State.RUNNING for job in jobs)

    with ExitStack() as stack:
        spools = [
            stack.enter_context(
                Spool(
                    prepare_folder(job.folder), pipeline.sample_rate,
                    pipeline.codec.audio_channels, job.request.generation.loudness,
                )
            )
            for job in owners
        ]  # fmt: skip
        codes: list[NDArray[np.int64]] = []
        for part in pipeline.chunks(
            batch, shared, jobs[0].request.sampling, stop=ask, frames=part_frames(pipeline)
        ):
            codes.append(part.codes)
            for row, (job, spool) in enumerate(zip(owners, spools, strict=True)):
                if job.state is State.RUNNING:
                    spool.push(part.samples[row])
                    if row == firsts[job.id]:
                        heard[job.id].take(batch, row, part)
        if not codes:
            return
        joined = np.concatenate(codes, axis=-1)  # [B, K, T]

        def write(job: Job, _: FirstVariation) -> None:
            request = job.request
            for row, owner in enumerate(owners):
                if owner is not job:
                    continue
                settings = pipeline.settings(batch, row, request.generation, request.sampling, None)
                settings |= describe_codes(joined[row], wanted)
                name = file_name(request.prompt, job.seed, batch.indices[row], request.format)
                job.deliver(spools[row].finish(job.folder / name, request.format, settings))
                if job.stopping:
                    raise Stopped

        for job in jobs:
            if job.state is State.RUNNING:
                _guarded(job, heard[job.id], write)
