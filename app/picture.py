"""A clip as a picture: time to the right, pitch upwards, loudness as light."""

import numpy as np
import scipy.fft
from numpy.typing import NDArray
from PIL import Image

_WINDOW = 2048
_FLOOR_DB = 70.0
_LOWEST_HZ = 40.0
_COLOURS = np.array(  # from silence to loud; dark on both a light and a dark page
    [[12, 10, 24], [40, 27, 84], [118, 42, 122], [214, 79, 88], [250, 157, 72], [255, 240, 200]],
    dtype=np.float64,
)
_STEPS = np.linspace(0, len(_COLOURS) - 1, 1024)
_PALETTE = np.stack(
    [np.interp(_STEPS, np.arange(len(_COLOURS)), shade) for shade in _COLOURS.T], axis=-1
).round().astype(np.uint8)  # fmt: skip


def spectrogram(
    samples: NDArray[np.float32], sample_rate: int, *, width: int = 640, height: int = 128
) -> Image.Image:
    """Draw a spectrogram with a logarithmic pitch axis.

    Args:
        samples: [C, M].
        sample_rate: Hz.
        width: pixels, over all of the clip.
        height: pixels, from 40 Hz to half the sample rate.

    Returns:
        An RGB image; the loudest point is the lightest colour, 70 dB below it the darkest.
    """
    mono = samples.mean(axis=0)
    padded = np.pad(mono, _WINDOW // 2)
    starts = np.linspace(0, max(0, len(padded) - _WINDOW), width).astype(int)
    frames = np.lib.stride_tricks.sliding_window_view(padded, _WINDOW)[starts]  # [width, window]
    bins = scipy.fft.rfft(frames * np.hanning(_WINDOW).astype(np.float32), axis=1)
    power = np.square(bins.real) + np.square(bins.imag)  # [width, bins]
    edges = np.geomspace(_LOWEST_HZ, sample_rate / 2, height + 1) * _WINDOW / sample_rate
    sums = np.zeros((width, power.shape[1] + 1))
    np.cumsum(power, axis=1, out=sums[:, 1:])
    below = np.minimum(edges.astype(int), power.shape[1] - 1)
    at_edges = sums[:, below] + (edges - below) * power[:, below]  # [width, height + 1]
    bands = np.diff(at_edges, axis=1) / np.diff(edges)
    level = 10 * np.log10(np.maximum(bands, 1e-12))
    light = np.clip((level - level.max()) / _FLOOR_DB + 1, 0, 1) if power.any() else level * 0
    shades = _PALETTE[np.round(light * (len(_PALETTE) - 1)).astype(int)]  # [width, height, 3]
    return Image.fromarray(np.flipud(shades.transpose(1, 0, 2)), "RGB")
