"""Samples to the bytes of an audio file, block by block, settings included."""

import io
import struct
from collections.abc import Iterable
from typing import Any, BinaryIO

import numpy as np
import soundfile
from numpy.typing import NDArray

from musicgen_rl.audio.tags import id3, make_tags, riff_info
from musicgen_rl.errors import ConfigError

FORMATS = ("wav", "flac", "ogg", "mp3")
"""What can be written, by file ending."""

# Of soundfile's 0 (largest, best) to 1: Vorbis quality 6, and LAME's VBR near its best, because
# codec artefacts on top of a neural codec's are what a listener would blame on the model.
_LOSSY_LEVEL = {"ogg": 0.4, "mp3": 0.1}
_BLOCK = 65536  # frames a write; libvorbis keeps a whole write on the stack and dies of long ones


def encode(
    blocks: Iterable[NDArray[np.float32]],
    file: BinaryIO,
    sample_rate: int,
    num_channels: int,
    format: str,
    bits: int,
    settings: dict[str, Any],
) -> None:
    """Encode audio that comes in blocks into an open file.

    Args:
        blocks: samples [C, m] within [-1, 1], any m.
        file: empty, open for writing and reading.
        sample_rate: Hz.
        num_channels: C.
        format: wav, flac, ogg or mp3.
        bits: 16 or 24, for wav and flac.
        settings: written into the file's tags.

    Raises:
        ConfigError: the format is unknown or cannot hold this sample rate.
        InputError: settings that are not JSON.
        OSError: the file cannot take more, for example on a full disk.
    """
    if format not in FORMATS:
        raise ConfigError(f"unknown format {format!r}: use {', '.join(FORMATS)}")
    if bits not in (16, 24):
        raise ConfigError(f"bits must be 16 or 24, got {bits!r}")
    tags = make_tags(settings)
    if format == "mp3":
        file.write(id3(tags))
    subtype = {"ogg": "VORBIS", "mp3": "MPEG_LAYER_III"}.get(format, f"PCM_{bits}")
    target = _Target(file)
    try:
        with soundfile.SoundFile(
            target, "w", sample_rate, num_channels, subtype, format=format.upper(),
            compression_level=_LOSSY_LEVEL.get(format),
        ) as sound:  # fmt: skip
            for field, text in vars(tags).items() if format in ("flac", "ogg") else ():
                if text:
                    setattr(sound, field, text)
            for block in blocks:
                frames = np.ascontiguousarray(block.T)  # [m, C]
                for start in range(0, len(frames), _BLOCK):
                    sound.write(frames[start : start + _BLOCK])
                    target.check()
    except (soundfile.SoundFileError, AssertionError) as error:  # asserts that all was written
        target.check()
        if isinstance(error, AssertionError):
            raise
        raise ConfigError(f"{format} cannot hold {sample_rate} Hz: choose wav or flac") from error
    target.check()
    if format == "wav":
        append_chunk(file, riff_info(tags))


class _Target:
    """What libsndfile writes to: the file from where it stands, with errors kept.

    libsndfile swallows the errors of writing, so the first is kept here and raised by `check`.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._start = file.tell()
        self._error: OSError | None = None

    def check(self) -> None:
        """Raise the first error there was."""
        if self._error is not None:
            raise self._error

    def write(self, data: Any) -> int:
        try:
            return self._file.write(bytes(data))
        except OSError as error:
            self._error = self._error or error
            return 0

    def read(self, size: int = -1) -> bytes:
        return self._file.read(size)

    def tell(self) -> int:
        return self._file.tell() - self._start

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if whence == io.SEEK_SET:
            offset += self._start
        try:
            return self._file.seek(offset, whence) - self._start
        except OSError as error:  # seeking writes what was buffered
            self._error = self._error or error
            return 0

    def flush(self) -> None:
        try:
            self._file.flush()
        except OSError as error:
            self._error = self._error or error


def append_chunk(file: BinaryIO, chunk: bytes) -> None:
    """Append a chunk to a finished RIFF file, and count it in the file's header."""
    size = file.seek(0, io.SEEK_END)
    file.write(b"\0" * (size % 2) + chunk)
    whole = file.tell()
    file.seek(4)
    file.write(struct.pack("<I", whole - 8))
    file.seek(0, io.SEEK_END)
