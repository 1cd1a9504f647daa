"""What a plan will cost: counted, and measured for ten seconds."""

import time
from dataclasses import dataclass

import numpy as np

from musicgen_rl.audio.clip import Clip
from musicgen_rl.audio.io import encode_clip
from musicgen_rl.audio.loudness import level
from musicgen_rl.batch.plan import Plan, PlannedClip, group_of
from musicgen_rl.batch.progress import spell_seconds
from musicgen_rl.batch.work import side_by_side
from musicgen_rl.pipeline.core import Pipeline

MEASURE_S = 10.0
_FILE_SYSTEM_BLOCK = 4096
_LEAST_STEPS = 10
_WARM_UP_STEPS = 3  # the first steps allocate, and on a GPU capture


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What is left of a plan, and what it takes."""

    clips: int
    """To make."""
    batches: int
    """To decode."""
    positions: int
    """Settings, such as positions of the dial: groups that cannot share a batch."""
    audio_s: float
    """Seconds of audio to make."""
    bytes: int
    """On disk, blocks of the file system counted whole."""
    audio_rate: float
    """Seconds of audio a second, one worker, encoding included."""
    workers: int
    """That share the work: no more than there are batches."""

    @property
    def seconds(self) -> float:
        """Time it takes."""
        return self.audio_s / self.audio_rate / self.workers

    def lines(self) -> list[str]:
        """Say it."""
        size, hours = self.bytes / 1e9, self.audio_s / 3600
        return [
            f"clips to make: {self.clips} in {self.batches} batches, {self.positions} settings",
            f"audio: {hours:.2f} h" if hours >= 0.1 else f"audio: {spell_seconds(self.audio_s)}",
            f"on disk: {size:.2f} GB" if size >= 0.1 else f"on disk: {self.bytes / 1e6:.1f} MB",
            f"time: about {spell_seconds(self.seconds)} at {self.audio_rate:.1f} x real time"
            + (f" with each of {self.workers} workers" if self.workers > 1 else ""),
        ]


def estimate(
    plan: Plan,
    missing: frozenset[str],
    pipeline: Pipeline,
    *,
    format: str,
    workers: int = 1,
    seconds: float = MEASURE_S,
) -> Estimate:
    """Decode the first missing batch for a few seconds, encode what came, and scale it up.

    Frames come slower as the context grows, so a batch that does not end within the measurement is
    taken for a little faster than it is.

    Args:
        plan: of the run.
        missing: ids to make; at least one.
        pipeline: the model of the first of them.
        format: of the files.
        workers: that will share the work; on one machine they also share its memory's bandwidth.
        seconds: to measure.
    """
    clips = [clip for clip in plan.clips if clip.id in missing]
    first = [clip for clip in plan.clips if clip.batch == clips[0].batch]
    audio_s, took, size = _measure(first, pipeline, format, seconds)
    total_s = sum(clip.item.duration_s for clip in clips)
    each = size / audio_s
    batches = len({clip.batch for clip in clips})
    on_disk = sum(
        -(-int(each * clip.item.duration_s) // _FILE_SYSTEM_BLOCK) * _FILE_SYSTEM_BLOCK
        for clip in clips
    )
    return Estimate(
        clips=len(clips),
        batches=batches,
        positions=len({group_of(clip.item, clip.sampling) for clip in clips}),
        audio_s=total_s,
        bytes=on_disk,
        audio_rate=audio_s / took,
        workers=min(workers, batches),
    )  # fmt: skip


def _measure(
    clips: list[PlannedClip], pipeline: Pipeline, format: str, seconds: float
) -> tuple[float, float, int]:
    """Return seconds of audio made, seconds it took, and bytes it came to."""
    items = [clip.item for clip in clips]
    request = items[0].request()
    batch = side_by_side(items)
    steps = iter(range(_WARM_UP_STEPS + pipeline.info.lm.num_codebooks))
    warm = pipeline.chunks(
        batch, request, clips[0].sampling, stop=lambda: next(steps, None) is None
    )
    for _ in warm:
        pass
    # Never nothing: on a machine that is very busy the time may be over before the first frame.
    least = iter(range(_LEAST_STEPS + pipeline.info.lm.num_codebooks))
    start = time.monotonic()

    def over() -> bool:
        return next(least, None) is None and time.monotonic() > start + seconds

    parts = list(pipeline.chunks(batch, request, clips[0].sampling, stop=over))
    samples = np.concatenate([part.samples for part in parts], axis=-1)  # [B, C, M]
    settings = pipeline.settings(batch, 0, request, clips[0].sampling, None)
    size = 0
    for row in samples[:: items[0].takes]:
        sound = level(row, pipeline.sample_rate, request.loudness)
        size += len(encode_clip(Clip(sound, pipeline.sample_rate, settings), format))
    took = time.monotonic() - start
    return samples.shape[-1] / pipeline.sample_rate * len(items), took, size
