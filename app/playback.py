"""Sound on its way to the page while it is made: when it may start, and in which form it goes."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.service import ACTIVE, Job, Service, State

_MARGIN = 1.15  # making slows down when another visitor comes; better a little later than a gap
_GROWTH = 2.0  # a part is at most so much longer than the one before
_LOOK_S = 0.02


def start_after_s(duration_s: float, rate: float) -> float:
    """Say how much sound must be there so that playing never overtakes making.

    Args:
        duration_s: of the whole clip.
        rate: seconds of sound made in one second; above 1 making is ahead.

    Returns:
        Seconds of sound, 0 where making is fast enough; at most `duration_s`.
    """
    if rate <= 0:
        return duration_s
    return min(duration_s, max(0.0, duration_s * (1 - rate / _MARGIN)))


def sample_bytes(samples: NDArray[np.float32]) -> bytes:
    """Encode samples [C, m] within [-1, 1] as 16 bits, channels interleaved."""
    return np.round(samples.T * 32767).astype("<i2").tobytes()


def stream_facts(service: Service, job: Job) -> dict[str, Any]:
    """Say where a job's sound comes from, and what it will be."""
    return {
        "url": f"studio/stream/{job.id}",
        "rate": service.sample_rate,
        "channels": service.channels,
        "seconds": job.request.generation.duration_s,
    }


async def stream(service: Service, job: Job) -> AsyncIterator[bytes]:
    """Give out a job's sound while it is made, once it may start; ends when the job has.

    Args:
        service: the job's own.
        job: nobody else may take its sound.
    """
    job.awaited = True
    playback = Playback(
        job.request.generation.duration_s, service.sample_rate, service.seconds_for(job.request)
    )
    while True:
        update = service.poll(job)
        ended = update.state not in ACTIVE
        if update.state is not State.WAITING:
            sound = playback.push(update.parts, time.monotonic(), last=ended)
            if sound is not None:
                job.playing = True
                yield sound
        if ended:
            return
        await asyncio.sleep(_LOOK_S)


class Playback:
    """Collects a job's sound and gives it out in pieces, once it may start.

    Args:
        duration_s: of the whole clip.
        sample_rate: Hz.
        expected_s: seconds that making the whole clip takes here, as far as is known; 0 where
            nothing is. What comes first says little of it: half its time is spent on the prompt.
    """

    def __init__(self, duration_s: float, sample_rate: int, expected_s: float = 0.0) -> None:
        self._duration_s, self._sample_rate = duration_s, sample_rate
        self._expected_rate = duration_s / expected_s if expected_s > 0 else 0.0
        self._held: list[NDArray[np.float32]] = []
        self._made, self._longest = 0, 0.0
        self._began_at: float | None = None
        self.started = False
        """Whether anything was given out."""

    def push(
        self, parts: list[NDArray[np.float32]], now: float, *, last: bool = False
    ) -> bytes | None:
        """Take new sound, and give out what may be played.

        Args:
            parts: [C, m] each, in order.
            now: seconds, monotonic; the first call starts the clock of the making.
            last: nothing will follow, so hold nothing back.

        Returns:
            16-bit samples to be played after those before, or None.
        """
        if self._began_at is None:
            self._began_at = now
        self._held += parts
        lengths = [part.shape[1] for part in parts]
        self._made += sum(lengths)
        self._longest = max([self._longest, *(n / self._sample_rate for n in lengths)])
        held_s = sum(part.shape[1] for part in self._held) / self._sample_rate
        if not held_s or not (last or self._may_go(held_s, now - self._began_at)):
            return None
        samples = np.concatenate(self._held, axis=1)
        self._held.clear()
        self.started = True
        return sample_bytes(samples)

    def _may_go(self, held_s: float, spent_s: float) -> bool:
        if self.started:
            return True
        made_s = self._made / self._sample_rate
        rate = max(self._expected_rate, made_s / spent_s if spent_s > 0 else 0.0)
        # What is held lasts until the next part is there, and the whole of it to the end.
        lasts = held_s * rate >= _GROWTH * self._longest
        return lasts and made_s >= start_after_s(self._duration_s, rate)
