"""What every reward model hears: log-mel frames of 16 kHz audio's band, at any sample rate.

Windows and hops are fixed in seconds (0.1 s and 0.02 s) and filters in Hz, so that a clip gives
nearly the same frames at 16, 32 or 48 kHz and nothing is resampled. Frames lie wholly inside the
clip; no silence is imagined around it. `level_free` takes the loudness out, clip by clip.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache

import torch
from torch import Tensor

from musicgen_rl.config import require_number
from musicgen_rl.errors import ConfigError, InputError

N_MELS = 128
FRAME_RATE = 50
"""Frames a second."""
WINDOW_HOPS = 5
"""A window is five hops: 0.1 s, which tells semitones apart from about 400 Hz up."""
LOW_HZ, HIGH_HZ = 30.0, 7600.0
LOWEST_RATE = 16000
MIN_SECONDS = 1.0
FLOOR_DB = -100.0
"""Of a full-scale sine's level; anything softer counts as silence."""
SILENCE_DB = -75.0
"""A clip's mean level is taken as at least this, so that silence stays silence."""
RANGE_DB = (-60.0, 40.0)
"""Levels kept, relative to a clip's mean."""
SPREAD_DB = 20.0

_Heard = dict[tuple[object, ...], tuple[Tensor, Tensor]]
_heard: ContextVar[_Heard | None] = ContextVar("heard", default=None)


@contextmanager
def hearing_once() -> Iterator[None]:
    """Within this block, let several models hear the same clips at the cost of one.

    Levels of the same memory are measured once, so samples must not be written to meanwhile. Other
    threads do not see the block.
    """
    token = _heard.set({})
    try:
        yield
    finally:
        _heard.reset(token)


@lru_cache(maxsize=16)
def mel_bands(sample_rate: int) -> Tensor:
    """Build triangular filters on HTK's mel scale, each of peak 1.

    Args:
        sample_rate: Hz.

    Returns:
        [bins, N_MELS] over STFT bins of 10 Hz, from 0 Hz to just above HIGH_HZ. Filters narrower
        than a bin are widened to one.
    """
    with torch.inference_mode(False):
        low, high = (2595.0 * math.log10(1.0 + f / 700.0) for f in (LOW_HZ, HIGH_HZ))
        mels = torch.linspace(low, high, N_MELS + 2, dtype=torch.float64)
        edges = 700.0 * (10.0 ** (mels / 2595.0) - 1.0)
        width = sample_rate / window_length(sample_rate)
        bins = torch.arange(math.ceil(HIGH_HZ / width) + 1, dtype=torch.float64)[:, None] * width
        left, centre, right = edges[:-2], edges[1:-1], edges[2:]
        rising = 1 - (centre - bins) / (centre - left).clamp(min=width)
        falling = 1 - (bins - centre) / (right - centre).clamp(min=width)
        return torch.minimum(rising, falling).clamp(min=0.0).float()


def window_length(sample_rate: int) -> int:
    """Samples of a window."""
    return WINDOW_HOPS * (sample_rate // FRAME_RATE)


def check_audio(samples: Tensor, sample_rate: int) -> Tensor:
    """Refuse what cannot be heard, in one sentence.

    Args:
        samples: [B, M].
        sample_rate: Hz.

    Returns:
        The samples as float32.

    Raises:
        InputError: another shape, too short, nan, or a rate below 16 kHz or off the frames' grid.
    """
    rate = sample_rate
    if isinstance(rate, bool) or not isinstance(rate, int) or rate < LOWEST_RATE or rate % 50:
        raise InputError(
            f"reward models hear audio of 16000 Hz or more, in multiples of 50 Hz, got {rate!r}: "
            "resample it to 32000 Hz"
        )
    if samples.dim() != 2 or samples.shape[0] == 0:
        raise InputError(
            f"reward models hear samples [clips, samples] of at least one clip, got shape "
            f"{list(samples.shape)}"
        )
    if samples.shape[1] < MIN_SECONDS * rate:
        raise InputError(
            f"reward models need clips of {MIN_SECONDS:g} s or more, got "
            f"{samples.shape[1] / rate:.2f} s"
        )
    finite = torch.isfinite(samples).all(dim=1)
    if not bool(finite.all()):
        raise InputError(
            f"clip {int((~finite).nonzero()[0, 0])} holds nan or infinite samples: look at what "
            "made it"
        )
    return samples.float()


def mel_levels(samples: Tensor, sample_rate: int) -> Tensor:
    """Measure the level of each mel band in each frame.

    Args:
        samples: [B, M], as `check_audio` returns them.
        sample_rate: Hz, a multiple of 50.

    Returns:
        Decibels [B, T, N_MELS], FLOOR_DB or more; a sine of amplitude 1 has about 0.
        T = (M - window) // hop + 1.
    """
    heard = _heard.get()
    if heard is None:
        return _measure_levels(samples, sample_rate)
    key = (samples.device, samples.data_ptr(), samples.shape, samples.stride(), sample_rate)
    if key not in heard:  # the samples are kept too: their memory cannot become another clip's
        heard[key] = samples, _measure_levels(samples, sample_rate)
    return heard[key][1]


def _measure_levels(samples: Tensor, sample_rate: int) -> Tensor:
    hop, window = sample_rate // FRAME_RATE, window_length(sample_rate)
    bands = mel_bands(sample_rate).to(samples.device)
    hann = torch.hann_window(window, device=samples.device) * (4.0 / window)
    levels = []
    for part in torch.split(samples, 16):  # a spectrum is large: few clips at a time
        spectrum = torch.stft(part, window, hop, window=hann, center=False, return_complex=True)
        kept = spectrum[:, : len(bands)]  # [b, bins, T]
        power = (kept.real.square() + kept.imag.square()).mT @ bands
        levels.append(10.0 * power.clamp(min=10.0 ** (FLOOR_DB / 10.0)).log10())
    return torch.cat(levels)


def level_free(levels: Tensor) -> Tensor:
    """Bring clips to one loudness and to numbers of about unit spread.

    Args:
        levels: decibels [B, T, N_MELS].

    Returns:
        [B, T, N_MELS] in [-3, 2]: decibels above the clip's mean power, cut, over 20. A clip gives
        the same numbers played softer, until its own soft parts sink below FLOOR_DB, and whatever
        the other clips are.
    """
    power = (levels * (math.log(10.0) / 10.0)).exp().mean(dim=(1, 2), keepdim=True)
    mean = (10.0 * power.log10()).clamp(min=SILENCE_DB)
    return (levels - mean).clamp(*RANGE_DB) / SPREAD_DB


def windows(frames: Tensor, length: int) -> Tensor:
    """Cut clips into the fewest windows that cover them, evenly spread, none longer than `length`.

    Args:
        frames: [B, T, F].
        length: frames of a window at most.

    Returns:
        [B, W, min(T, length), F], W = ceil(T / length); neighbours may overlap.
    """
    T = frames.shape[1]
    if length >= T:
        return frames[:, None]
    count = -(-T // length)
    starts = [round(i * (T - length) / (count - 1)) for i in range(count)]
    return torch.stack([frames[:, s : s + length] for s in starts], dim=1)


def seconds_to_frames(seconds: float) -> int:
    """Frames that fit wholly into so many seconds.

    Raises:
        ConfigError: fewer than one.
    """
    require_number("seconds", seconds, 0.0, 1e6, unit="s")
    frames = int(seconds * FRAME_RATE + 1e-6) - WINDOW_HOPS + 1
    if frames < 1:
        raise ConfigError(f"{seconds:g} s hold no whole window of 0.1 s")
    return frames
