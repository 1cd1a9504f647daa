"""A clip as a picture: time to the right, pitch upwards, loudness as light."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_WINDOW = 2048
_FLOOR_DB = 70.0
_LOWEST_HZ = 40.0
_COLOURS = np.array(  # from silence to loud; dark on both a light and a dark page
    [[12, 10, 24], [40, 27, 84], [118, 42, 122], [214, 79, 88], [250, 157, 72], [255, 240, 200]],
    dtype=np.float64,
)


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
    frames = padded[starts[:, None] + np.arange(_WINDOW)]  # [width, window]
    power = np.abs(np.fft.rfft(frames * np.hanning(_WINDOW), axis=1)) ** 2  # [width, bins]
    edges = np.geomspace(_LOWEST_HZ, sample_rate / 2, height + 1) * _WINDOW / sample_rate
    sums = np.concatenate([np.zeros((width, 1)), power.cumsum(axis=1)], axis=1)
    bins = np.arange(sums.shape[1])
    at_edges = np.stack([np.interp(edges, bins, row) for row in sums])  # [width, height + 1]
    bands = np.diff(at_edges, axis=1) / np.diff(edges)
    level = 10 * np.log10(np.maximum(bands, 1e-12))
    light = np.clip((level - level.max()) / _FLOOR_DB + 1, 0, 1) if power.any() else level * 0
    steps = np.linspace(0, 1, len(_COLOURS))
    rgb = np.stack([np.interp(light, steps, _COLOURS[:, c]) for c in range(3)], axis=-1)
    return Image.fromarray(np.flipud(rgb.transpose(1, 0, 2)).round().astype(np.uint8), "RGB")
