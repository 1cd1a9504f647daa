"""Sound on its way to the page: when it may start, and in which pieces it goes."""

import io
import wave

import numpy as np
from numpy.typing import NDArray

_FIRST_S, _LATER_S = 0.5, 1.0  # a piece is a request of the browser's, so not too small
_MARGIN = 1.15  # making slows down when another visitor comes; better a little later than a gap


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


def wav_bytes(samples: NDArray[np.float32], sample_rate: int) -> bytes:
    """Encode samples [C, m] within [-1, 1] as a 16-bit wav.

    Not a float array for the page: Gradio would scale each piece to full level.
    """
    whole = np.round(samples.T * 32767).astype("<i2")  # [m, C]
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(samples.shape[0])
        file.setsampwidth(2)
        file.setframerate(sample_rate)
        file.writeframes(whole.tobytes())
    return out.getvalue()


class Playback:
    """Collects a job's sound and gives it out in pieces, once it may start.

    Args:
        duration_s: of the whole clip.
        sample_rate: Hz.
    """

    def __init__(self, duration_s: float, sample_rate: int) -> None:
        self._duration_s, self._sample_rate = duration_s, sample_rate
        self._held: list[NDArray[np.float32]] = []
        self._made = 0
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
            A wav to be played after those before, or None.
        """
        if self._began_at is None:
            self._began_at = now
        self._held += parts
        self._made += sum(part.shape[1] for part in parts)
        held_s = sum(part.shape[1] for part in self._held) / self._sample_rate
        if not held_s or not (last or self._may_go(held_s, now - self._began_at)):
            return None
        samples = np.concatenate(self._held, axis=1)
        self._held.clear()
        self.started = True
        return wav_bytes(samples, self._sample_rate)

    def _may_go(self, held_s: float, spent_s: float) -> bool:
        if self.started:
            return held_s >= _LATER_S
        made_s = self._made / self._sample_rate
        rate = made_s / spent_s if spent_s > 0 else 0.0
        return held_s >= _FIRST_S and made_s >= start_after_s(self._duration_s, rate)
