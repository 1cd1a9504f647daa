"""Where files go: a folder, or one file's own name."""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from musicgen_rl.audio.encoding import FORMATS
from musicgen_rl.audio.files import prepare_folder
from musicgen_rl.audio.io import resolve_format
from musicgen_rl.errors import ConfigError

_NOT_WRITTEN = (".aac", ".aif", ".aiff", ".m4a", ".mid", ".mp4", ".opus", ".webm", ".wma")


@dataclass(frozen=True, kw_only=True)
class Destination:
    """Where the clips of one command go."""

    folder: Path
    """Made when the work starts."""
    format: str
    """wav, flac, ogg or mp3."""
    name: str | None = None
    """File name for a single clip; made from prompt and seed where None."""


def choose_destination(output: str | None, format: str | None, num_clips: int) -> Destination:
    """Read `-o` and `--format` together.

    Args:
        output: a folder, or a file name for a single clip; the current folder if None.
        format: wav, flac, ogg or mp3; by the file name's ending, else wav, if None.
        num_clips: how many there will be.

    Returns:
        The destination; nothing is made or written yet.

    Raises:
        ConfigError: an unknown format, or one name for several clips.
    """
    if format is not None:
        format = format.lower().removeprefix(".")
        if format not in FORMATS:
            raise ConfigError(f"unknown format {format!r}: use {', '.join(FORMATS)}")
    if output is not None and (not output or "\0" in output):
        raise ConfigError(f"the output {output!r} is empty or broken: name a folder or a file")
    path = Path(output or ".")
    ending = path.suffix.lower()
    if os.path.isdir(path) or output is None or output.endswith("/"):
        return Destination(folder=path, format=format or "wav")
    if ending in _NOT_WRITTEN:
        raise ConfigError(f"{path.name!r}: files of {ending} are not written, use wav or mp3")
    if ending.removeprefix(".") not in FORMATS:
        return Destination(folder=path, format=format or "wav")
    if num_clips > 1:
        raise ConfigError(
            f"{str(path)!r} names one file, but there are {num_clips} clips: name a folder"
        )
    path, format = resolve_format(path, format)
    return Destination(folder=path.parent, format=format, name=path.name)


@contextlib.contextmanager
def proved(folder: Path) -> Iterator[Path]:
    """Make a folder and prove it writable; if the work then fails, remove what is still empty.

    Raises:
        StorageError: it cannot be made or written to.
    """
    new = [f for f in (folder, *folder.parents) if not os.path.exists(f)]  # deepest first
    try:
        yield prepare_folder(folder)
    except BaseException:
        for made in new:
            with contextlib.suppress(OSError):
                made.rmdir()  # only ever removes an empty folder
        raise
