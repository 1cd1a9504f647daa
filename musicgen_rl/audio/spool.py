"""Write long clips without ever holding them: samples to disk first, levelled into the file last.

A clip's gain is known when its last sample is. Until then the samples wait in a hidden file beside
the one to come, while loudness and peak are measured on the way.
"""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from musicgen_rl.audio.encoding import encode
from musicgen_rl.audio.files import scratch_file, whole_file
from musicgen_rl.audio.loudness import (
    LoudnessConfig,
    gain_to_target,
    integrated_loudness,
    true_peak,
)
from musicgen_rl.audio.stream_level import RunningLoudness

_CONTEXT = 64  # samples before a chunk, for the peak of the waveform across the seam
_BLOCK = 1 << 16


class Spool:
    """One clip on its way to a file; use as a context manager.

    Args:
        folder: where the file will lie.
        sample_rate: Hz.
        num_channels: C.
        loudness: how loud it comes out.

    Raises:
        StorageError: the folder cannot be written.
    """

    def __init__(
        self, folder: Path, sample_rate: int, num_channels: int, loudness: LoudnessConfig
    ) -> None:
        self.sample_rate, self.num_channels, self._config = sample_rate, num_channels, loudness
        self.num_samples = 0
        self._folder = folder
        self._meter = RunningLoudness(sample_rate, num_channels)
        self._peak = 0.0
        self._tail = np.zeros((num_channels, 0), dtype=np.float32)
        self._stack = ExitStack()
        self._file: BinaryIO | None = None

    def __enter__(self) -> "Spool":
        """Open the hidden file."""
        self._file = self._stack.enter_context(scratch_file(self._folder))
        return self

    def __exit__(self, *exception: object) -> None:
        """Remove the hidden file, whatever happened."""
        self._file = None
        self._stack.close()

    def push(self, samples: NDArray[np.float32]) -> None:
        """Add samples [C, m]; m may be 0, as a decoder's first part is that waits for more codes.

        Raises:
            OSError: the disk is full.
        """
        assert self._file is not None
        if not samples.shape[1]:
            return
        self._file.write(np.ascontiguousarray(samples.T, dtype=np.float32).tobytes())
        self.num_samples += samples.shape[1]
        self._meter.push(samples)
        joined = np.concatenate([self._tail, samples], axis=1)
        self._peak = max(self._peak, true_peak(joined))
        self._tail = joined[:, -_CONTEXT:]

    def finish(
        self, path: Path, format: str, settings: dict[str, Any], *, overwrite: bool = False
    ) -> Path:
        """Level and write the clip.

        Args:
            path: wanted name; a free one beside it is taken where it exists.
            format: wav, flac, ogg or mp3.
            settings: written into the file's tags.
            overwrite: replace an existing file.

        Returns:
            The path written.

        Raises:
            StorageError: the disk is full.
        """
        gain = np.float32(self.gain())
        with whole_file(path, overwrite=overwrite) as pending:
            blocks = (block * gain for block in self._blocks())
            encode(blocks, pending.file, self.sample_rate, self.num_channels, format, 16, settings)
        return pending.path

    def gain(self) -> float:
        """Choose the one gain for all samples so far, as `loudness.loudness_gain` does."""
        gain = 1.0
        if self._config.enabled:
            loudness = self._meter.loudness()
            if not np.isfinite(loudness):  # silence, or shorter than the meter's first block
                short = next(self._blocks(), np.zeros((self.num_channels, 0), np.float32))
                loudness = integrated_loudness(short, self.sample_rate)
            gain = gain_to_target(loudness, self._config)
        return min(gain, self._config.ceiling / self._peak) if self._peak > 0 else gain

    def _blocks(self) -> Iterator[NDArray[np.float32]]:
        """Read the samples again, [C, m] at a time."""
        assert self._file is not None
        self._file.flush()
        self._file.seek(0)
        frame = 4 * self.num_channels
        while data := self._file.read(_BLOCK * frame):
            yield np.frombuffer(data, dtype=np.float32).reshape(-1, self.num_channels).T
