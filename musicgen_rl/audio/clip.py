"""A clip: samples that know their sample rate and how they were made."""

import base64
import html
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from musicgen_rl.errors import InputError


@dataclass(frozen=True, eq=False)
class Clip:
    """One waveform, generated or read from a file."""

    samples: NDArray[np.float32]
    """[C, M], full scale is [-1, 1]; [M] is taken as mono. C is 1 or 2."""
    sample_rate: int
    """Hz."""
    settings: dict[str, Any] = field(default_factory=dict)
    """Everything needed to make it again, as JSON-able values; empty for a foreign file."""
    codes: NDArray[np.int64] | None = None
    """[K, T] audio tokens it was decoded from, where they are at hand."""

    def __post_init__(self) -> None:
        """Check shapes and values, and bring samples to contiguous float32 [C, M]."""
        samples = np.ascontiguousarray(self.samples, dtype=np.float32)
        if samples.ndim == 1:
            samples = samples[None]  # [1, M]
        if samples.ndim != 2 or samples.shape[0] not in (1, 2):
            raise InputError(
                f"a clip needs samples [channels, samples] with 1 or 2 channels, "
                f"got shape {list(np.shape(self.samples))}"
            )
        rate = self.sample_rate
        if isinstance(rate, bool) or not isinstance(rate, int | np.integer) or rate < 1:
            raise InputError(f"sample_rate must be a whole number of Hz above 0, got {rate!r}")
        if not np.isfinite(samples).all():
            raise InputError("a clip's samples must be finite, but some are nan or infinite")
        if self.codes is not None and np.ndim(self.codes) != 2:
            raise InputError(f"codes must be [K, T], got shape {list(np.shape(self.codes))}")
        object.__setattr__(self, "samples", samples)
        object.__setattr__(self, "sample_rate", int(rate))
        if self.codes is not None:
            object.__setattr__(self, "codes", np.asarray(self.codes, dtype=np.int64))

    @property
    def num_channels(self) -> int:
        """C: 1 mono, 2 stereo."""
        return int(self.samples.shape[0])

    @property
    def num_samples(self) -> int:
        """M: samples of one channel."""
        return int(self.samples.shape[1])

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return self.num_samples / self.sample_rate

    def save(self, path: str | Path, *, format: str | None = None, overwrite: bool = False) -> Path:
        """Write the clip, its settings in the file's own tags, and say where it went.

        Args:
            path: where to; the ending picks the format: wav, flac, ogg or mp3.
            format: one of those, for a path without such an ending.
            overwrite: replace an existing file; else a free name (`-2`, `-3`, ...) is taken.

        Returns:
            The path that was written.

        Raises:
            ConfigError: the format is unknown or cannot hold this sample rate.
            InputError: samples beyond full scale, or settings that are not JSON.
            StorageError: the file could not be written.
        """
        from musicgen_rl.audio.io import write_clip

        return write_clip(self, path, format=format, overwrite=overwrite)

    def __eq__(self, other: object) -> bool:
        """Compare rate, settings, samples and, where both carry them, codes, bit for bit."""
        if not isinstance(other, Clip):
            return NotImplemented
        both_codes = self.codes is not None and other.codes is not None
        return (
            self.sample_rate == other.sample_rate
            and self.settings == other.settings
            and np.array_equal(self.samples, other.samples)
            and (not both_codes or np.array_equal(self.codes, other.codes))  # type: ignore[arg-type]
        )

    __hash__ = None  # type: ignore[assignment]  # holds an array, so it is no dictionary key

    def __repr__(self) -> str:
        """Say what it is in one line, without the samples."""
        channels = "stereo" if self.num_channels == 2 else "mono"
        about = f", prompt={self.settings['prompt']!r}" if "prompt" in self.settings else ""
        return f"Clip({self.duration_s:.2f} s, {self.sample_rate} Hz, {channels}{about})"

    def _repr_html_(self) -> str:
        """Play in a notebook: an audio element with the sound inside it, and what made it."""
        from musicgen_rl.audio.io import encode_clip

        # FLAC: lossless, plays in every browser, and half the size of a wav in the saved notebook.
        data = base64.b64encode(encode_clip(self, "flac")).decode("ascii")
        shown = [str(self.settings[key]) for key in ("prompt",) if key in self.settings]
        shown += [
            f"{key} {self.settings[key]}" for key in ("seed", "index") if key in self.settings
        ]
        shown.append(f"{self.duration_s:.1f} s")
        return (
            f'<figure><audio controls src="data:audio/flac;base64,{data}"></audio>'
            f"<figcaption>{html.escape(' · '.join(shown))}</figcaption></figure>"
        )
