"""Clips to files and back: wav, flac, ogg and mp3, with all settings inside.

Every format returns exactly the samples' number it was given: mp3's encoder delay is undone from
the stream's own header and ogg's padding by its last page, which the tests hold for clips of one
sample up to several seconds.
"""

import io
import os
import stat
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from musicgen_rl.audio.clip import Clip
from musicgen_rl.audio.encoding import FORMATS, encode
from musicgen_rl.audio.files import write_whole
from musicgen_rl.audio.tags import parse_settings, read_riff_comment, riff_chunks
from musicgen_rl.errors import AudioFileError, ConfigError, InputError

LARGEST_BYTES = 2_000_000_000
"""Of a file that is read whole: three hours of stereo at 44.1 kHz."""


def encode_clip(clip: Clip, format: str, *, bits: int = 16) -> bytes:
    """Encode a clip, settings included, to the bytes of a file.

    Args:
        clip: samples within [-1, 1].
        format: wav, flac, ogg or mp3.
        bits: 16 or 24, for wav and flac.

    Returns:
        The whole file.

    Raises:
        ConfigError: the format is unknown or cannot hold this sample rate.
        InputError: samples beyond full scale, none at all, or settings that are not JSON.
    """
    if clip.num_samples == 0:
        raise InputError("a clip without samples cannot be written")
    peak = float(np.abs(clip.samples).max())
    if peak > 1.0:
        raise InputError(
            f"the clip peaks at {peak:.4g}, above full scale (1.0), and would be clipped: "
            "level it first (musicgen_rl.audio.loudness.level)"
        )
    out = io.BytesIO()
    encode([clip.samples], out, clip.sample_rate, clip.num_channels, format, bits, clip.settings)
    return out.getvalue()


def write_clip(
    clip: Clip,
    path: str | Path,
    *,
    format: str | None = None,
    overwrite: bool = False,
    bits: int = 16,
) -> Path:
    """Write a clip as a whole file or not at all.

    Args:
        clip: samples within [-1, 1].
        path: where to; its ending picks the format.
        format: wav, flac, ogg or mp3 for a path without such an ending, which is then added.
        overwrite: replace an existing file; else a free name (`-2`, `-3`, ...) is taken.
        bits: 16 or 24, for wav and flac.

    Returns:
        The path that was written.

    Raises:
        ConfigError: the format is unknown, contradicts the path, or cannot hold the sample rate.
        InputError: samples beyond full scale, none at all, or settings that are not JSON.
        StorageError: the file could not be written.
    """
    path, format = resolve_format(path, format)
    return write_whole(path, encode_clip(clip, format, bits=bits), overwrite=overwrite)


def resolve_format(path: str | Path, format: str | None = None) -> tuple[Path, str]:
    """Decide a file's format from its path and, where given, a name.

    Args:
        path: with or without one of the four endings.
        format: wav, flac, ogg or mp3, or None to go by the ending.

    Returns:
        The path with its ending, and the format.

    Raises:
        ConfigError: there is no format, an unknown one, or two different ones.
    """
    path = Path(path)
    ending = path.suffix.lower().lstrip(".")
    if format is None:
        if ending not in FORMATS:
            raise ConfigError(
                f"cannot tell the audio format of {str(path)!r}: end it in "
                + ", ".join(f".{name}" for name in FORMATS)
            )
        return path, ending
    if format not in FORMATS:
        raise ConfigError(f"unknown format {format!r}: use {', '.join(FORMATS)}")
    if ending == format:
        return path, format
    if ending in FORMATS:
        raise ConfigError(f"{str(path)!r} does not end in .{format}, the format asked for")
    return path.with_name(f"{path.name}.{format}"), format


def read_audio(path: str | Path) -> Clip:
    """Read an audio file whole.

    Args:
        path: any format libsndfile knows (wav, flac, ogg, mp3, aiff, opus, ...).

    Returns:
        The clip; `settings` is empty unless this package wrote the file.

    Raises:
        AudioFileError: the file is missing, cut off, empty, has more than two channels, or is
            not audio.
    """
    data = _read_bytes(path)
    _refuse_truncated(path, data)
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            if file.channels > 2:
                raise AudioFileError(
                    f"{str(path)!r} has {file.channels} channels: give a mono or stereo file"
                )
            declared, rate = file.frames, int(file.samplerate)
            samples = file.read(dtype="float32", always_2d=True)  # [M, C]
    except soundfile.SoundFileError as error:
        raise _not_audio(path, error) from error
    if len(samples) == 0:
        raise AudioFileError(f"{str(path)!r} holds no sound")
    if len(samples) < declared:
        raise _truncated(path)
    if not np.isfinite(samples).all():
        raise AudioFileError(f"{str(path)!r} holds nan or infinite samples and cannot be used")
    return Clip(samples.T, rate, _settings(path, data) or {})


def read_tags(path: str | Path) -> dict[str, Any]:
    """Read the settings that made a file, without decoding its sound.

    Args:
        path: a file this package wrote.

    Returns:
        The settings, equal to the `Clip.settings` that were written.

    Raises:
        AudioFileError: the file is missing, not audio, or carries no settings of ours, which may
            be because its end is missing.
    """
    data = _read_bytes(path)
    settings = _settings(path, data)
    if settings is None:
        _refuse_truncated(path, data)
        if _ends_early(data):
            raise _truncated(path)
        raise AudioFileError(
            f"{str(path)!r} carries no musicgen-rl settings: it was made by something else, or "
            "its tags were removed"
        )
    return settings


def _read_bytes(path: str | Path) -> bytes:
    if not os.fspath(path):
        raise AudioFileError("the path of the audio file is empty: name a file")
    try:
        found = Path(path).stat()
        # A device has no end, and a pipe cannot be read twice (first checked, then used).
        endless = not (stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode))
        usable = not endless and found.st_size <= LARGEST_BYTES
        data = Path(path).read_bytes() if usable else b""
    except FileNotFoundError as error:
        raise AudioFileError(f"there is no audio file {str(path)!r}: check the path") from error
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else error
        raise AudioFileError(f"cannot read the audio file {str(path)!r}: {reason}") from error
    if endless:
        raise AudioFileError(f"{str(path)!r} is a device or a pipe: give a file")
    if not usable:
        raise AudioFileError(
            f"{str(path)!r} has {found.st_size / 1e9:.1f} GB, more than {LARGEST_BYTES / 1e9:g}: "
            "cut out of it the part that is needed"
        )
    if not data:
        raise AudioFileError(f"{str(path)!r} is empty: give a wav, flac, ogg or mp3 file")
    return data


def _settings(path: str | Path, data: bytes) -> dict[str, Any] | None:
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            comment = str(file.comment)
    except soundfile.SoundFileError as error:
        raise _not_audio(path, error) from error
    try:
        return parse_settings(read_riff_comment(data) or comment)
    except AudioFileError as error:
        if _ends_early(data):
            raise _truncated(path) from error
        raise AudioFileError(f"{str(path)!r}: {error}") from error


def _ends_early(data: bytes) -> bool:
    """Tell whether a chunk of a wav lacks its end: the tags, which come last, or more."""
    return any(start + size > len(data) for _, start, size in riff_chunks(data))


def _refuse_truncated(path: str | Path, data: bytes) -> None:
    """Refuse the two formats whose cut-off files libsndfile reads as if they were shorter."""
    for chunk_id, start, size in riff_chunks(data):
        # 0xFFFFFFFF is what programs write that stream to a pipe and do not know the length.
        if chunk_id == b"data" and start + size > len(data) and size != 0xFFFFFFFF:
            raise _truncated(path)
    if data[:4] == b"OggS":
        last = data.rfind(b"OggS")
        ends_stream = last + 5 < len(data) and bool(data[last + 5] & 4)
        listed = data[last + 26] if last + 26 < len(data) else 0
        segments = data[last + 27 : last + 27 + listed]  # the sizes of the page's parts
        end = last + 27 + listed + sum(segments)
        whole = len(segments) == listed and end <= len(data)
        if not ends_stream or not whole:
            raise _truncated(path)


def _truncated(path: str | Path) -> AudioFileError:
    return AudioFileError(f"{str(path)!r} is cut off: its end is missing; get the whole file")


def _not_audio(path: str | Path, error: Exception) -> AudioFileError:
    detail = str(getattr(error, "error_string", error)).strip().rstrip(".")
    return AudioFileError(
        f"{str(path)!r} is not a readable audio file ({detail}): give wav, flac, ogg or mp3"
    )
