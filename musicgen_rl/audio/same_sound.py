"""Whether a file still sounds like the clip it was written from."""

import io

import numpy as np
import soundfile

from musicgen_rl.audio.clip import Clip
from musicgen_rl.audio.io import encode_clip

BLOCK_S = 0.05
_QUIET = 1e-3
"""Differences below this are not heard: -60 dB of full scale."""
_SHARE = 0.6
"""How much of a block may differ (rms of the difference over rms of the block) once it is as loud.
Where a limiter steps in, the gain moves within a block, for .4 of it; other sound differs by about
1, one that breaks off halfway by .7."""
_MOST_GAIN = 30.0
"""Times by which a block may be louder or softer: what is streamed is levelled as it comes, so it
has other gains than a clip that was levelled whole."""


def first_other_sound(kept: Clip, made: Clip, format: str) -> float | None:
    """Find where a file's sound leaves that of the clip made again.

    The clip goes through the file's format first, so that what coding loses is lost on both sides.
    Loudness is left out, block by block.

    Args:
        kept: the file, as read.
        made: the clip made again.
        format: wav, flac, ogg or mp3, of the file.

    Returns:
        Seconds from the start, to a block of 50 ms; None where they are the same. Where one is
        shorter, its end counts as a difference; at another sample rate or number of channels
        everything differs.
    """
    if (kept.sample_rate, kept.num_channels) != (made.sample_rate, made.num_channels):
        return 0.0
    coded, _ = soundfile.read(
        io.BytesIO(encode_clip(made, format)), dtype="float32", always_2d=True
    )  # [M, C]
    size = max(1, round(BLOCK_S * made.sample_rate))
    shorter = min(len(coded), kept.num_samples)
    for start in range(0, shorter, size):
        theirs = kept.samples[:, start : min(start + size, shorter)]
        ours = coded[start : min(start + size, shorter)].T
        if not _same_but_for_gain(theirs, ours):
            return start / made.sample_rate
    if len(coded) != kept.num_samples:
        return shorter / made.sample_rate
    return None


def _same_but_for_gain(theirs: np.ndarray, ours: np.ndarray) -> bool:
    """Say whether one block [C, M] is another one, louder or softer."""
    loudest = max(_rms(theirs), _rms(ours))
    if loudest <= _QUIET:
        return True
    power = float(np.sum(np.square(ours, dtype=np.float64)))
    gain = float(np.sum(theirs.astype(np.float64) * ours)) / max(power, 1e-12)  # nearest there is
    if not 1 / _MOST_GAIN <= gain <= _MOST_GAIN:
        return False
    gap = _rms(theirs - gain * ours)
    return gap <= _QUIET or gap <= _SHARE * _rms(theirs)


def _rms(samples: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(samples, dtype=np.float64))))
