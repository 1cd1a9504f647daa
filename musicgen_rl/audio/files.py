"""File names and safe writing: whole files or none, and never over somebody's work."""

import errno
import itertools
import os
import re
import secrets
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from musicgen_rl.errors import MusicgenRLError, StorageError

MAX_SLUG_BYTES = 60
"""Room for the prompt in a file name; with seed, index and ending it stays far below 255 bytes."""

_BENT_NOTE = re.compile(r"(?<![^\W_])([A-Ga-g])([#♯♭])")
_NO_HARD_LINKS = {
    getattr(errno, name)
    for name in ("EPERM", "ENOTSUP", "EOPNOTSUPP", "ENOSYS", "EMLINK", "EINVAL", "EACCES")
    if hasattr(errno, name)
}


def slug(text: str) -> str:
    """Turn a prompt into the readable part of a file name.

    Letters, their accents, and digits of any script stay, in lower case; everything else,
    separators and control characters among it, becomes one hyphen. That leaves no character
    that Windows, macOS or a network share refuses. Sharps and flats are written out: F# minor is
    another key than F minor.

    Args:
        text: any string.

    Returns:
        At most MAX_SLUG_BYTES bytes of UTF-8, cut at a word where there is one; "clip" if
        nothing is left.
    """
    # The cut below looks at 60 bytes, so a prompt of a megabyte need not be normalised whole.
    spelt = _BENT_NOTE.sub(lambda n: n[1] + ("b" if n[2] == "♭" else " sharp "), text[:1000])
    folded = unicodedata.normalize("NFKC", spelt).lower()
    kept = "".join(c if unicodedata.category(c)[0] in "LMN" else " " for c in folded)
    out = ""
    for word in kept.split():
        longer = f"{out}-{word}" if out else word
        if len(longer.encode("utf-8")) > MAX_SLUG_BYTES:
            break
        out = longer
    if not out:  # one word, longer than the room: cut it between characters
        out = "".join(kept.split()[:1]).encode("utf-8")[:MAX_SLUG_BYTES].decode("utf-8", "ignore")
    return unicodedata.normalize("NFC", out) or "clip"


def file_name(prompt: str, seed: int, index: int, extension: str) -> str:
    """Name a clip after its prompt, seed and index.

    The number after the prompt also keeps the reserved names of Windows away: `con-s7-0.wav`
    is a plain file there, `con.wav` is not.

    Args:
        prompt: what it was made from.
        seed: the seed of the request.
        index: which clip of the request, from 0.
        extension: without the dot, for example "wav".

    Returns:
        For example "slow-sad-piano-s7-0.wav".
    """
    return f"{slug(prompt)}-s{seed}-{index}.{extension.lstrip('.')}"


def free_names(path: Path) -> Iterator[Path]:
    """Yield `path`, then the same name with -2, -3, ... before the ending."""
    yield path
    for number in itertools.count(2):
        yield path.with_name(f"{path.stem}-{number}{path.suffix}")


def prepare_folder(folder: str | Path) -> Path:
    """Make a folder and prove, by writing a file there, that it can be used.

    Meant for the moment before the work starts, so that an hour of it is not lost at the end.

    Args:
        folder: made with its parents where missing.

    Returns:
        The folder.

    Raises:
        StorageError: it cannot be made or written to.
    """
    folder = Path(folder)
    probe = None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = _temporary_name(folder)
        with _create(probe) as file:
            file.write(b"musicgen-rl")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise _storage_error(folder, error) from error
    finally:
        if probe is not None:
            _remove(probe)
    return folder


class WholeFile:
    """A file being written under a hidden name; see `whole_file`."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self.path = path
        """The wanted path; after the writing, the path that was taken."""
        self.file = file
        """Open for writing and reading."""


@contextmanager
def whole_file(path: str | Path, *, overwrite: bool = False) -> Iterator[WholeFile]:
    """Write a file so that its name only ever stands for all of it.

    The bytes go to a hidden temporary name in the same folder and to the disk, and then get
    the real name. Without `overwrite` that last step is a hard link, which fails where the name
    exists, so two writers cannot take the same one. File systems without hard links (FAT, some
    network shares) get an exclusively created empty file that is then replaced. An exception
    inside leaves nothing behind.

    Args:
        path: the wanted name; missing folders are made.
        overwrite: replace what is there instead of taking a free name.

    Returns:
        What to write to. On leaving, its `path` is the path written: the wanted one, or with
        -2, -3, ... before the ending where that was taken.

    Raises:
        StorageError: no space, no permission, no such place.
    """
    path = Path(path)
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = _temporary_name(path.parent)
        with _create(temporary) as file:
            pending = WholeFile(path, file)
            yield pending
            file.flush()
            os.fsync(file.fileno())
        if overwrite:
            os.replace(temporary, path)
        else:
            pending.path = next(name for name in free_names(path) if _claim(temporary, name))
        _sync_folder(path.parent)
    except OSError as error:
        if isinstance(error, MusicgenRLError):
            raise
        raise _storage_error(path, error) from error
    finally:
        if temporary is not None:
            _remove(temporary)


def write_whole(path: str | Path, data: bytes, *, overwrite: bool = False) -> Path:
    """Write bytes as `whole_file` does, and return the path written."""
    with whole_file(path, overwrite=overwrite) as pending:
        pending.file.write(data)
    return pending.path


@contextmanager
def scratch_file(folder: str | Path) -> Iterator[BinaryIO]:
    """Open a hidden file in `folder` for as long as the block runs.

    Raises:
        StorageError: no space, no permission, no such place.
    """
    folder = Path(folder)
    temporary = None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        temporary = _temporary_name(folder)
        with _create(temporary) as file:
            yield file
    except OSError as error:
        if isinstance(error, MusicgenRLError):
            raise
        raise _storage_error(folder, error) from error
    finally:
        if temporary is not None:
            _remove(temporary)


def _temporary_name(folder: Path) -> Path:
    return folder / f".musicgen-rl-{secrets.token_hex(8)}.part"


def _create(path: Path) -> BinaryIO:
    """Create `path`, which must be new, for writing and reading."""
    # os.open, not tempfile: the mode follows the user's umask as any saved file's does.
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    return cast(BinaryIO, open(os.open(path, flags, 0o666), "w+b"))


def _claim(temporary: Path, name: Path) -> bool:
    """Give the temporary file a further name; False where that name is taken."""
    try:
        os.link(temporary, name)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in _NO_HARD_LINKS:
            raise
        try:
            os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
        except FileExistsError:
            return False
        os.replace(temporary, name)
    return True


def _sync_folder(folder: Path) -> None:
    """Bring the new name to the disk too, where folders can be opened (not on Windows)."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some network file systems cannot sync a folder
            raise
    finally:
        os.close(handle)


def _remove(path: Path) -> None:
    # Gone already after os.replace; and a failed clean-up must not hide the first error.
    try:
        path.unlink(missing_ok=True)
    except OSError:
        return


def _storage_error(path: Path, error: OSError) -> StorageError:
    reason = {
        errno.ENOSPC: "the disk is full; free some space or choose another folder",
        errno.EDQUOT: "your disk quota is used up; free some space or choose another folder",
        errno.EFBIG: "it is larger than the system allows; choose a shorter clip or mp3",
        errno.EACCES: "permission denied; choose a folder you may write to",
        errno.EPERM: "permission denied; choose a folder you may write to",
        errno.EROFS: "the file system is read-only; choose another folder",
        errno.ENOTDIR: "a part of the path is a file, not a folder; choose another path",
        errno.EEXIST: "a part of the path is a file, not a folder; choose another path",
        errno.EISDIR: "this is a folder; give a file name",
        errno.ENAMETOOLONG: "the name is too long; choose a shorter one",
    }.get(error.errno or 0, f"{error.strerror or error}; choose another place")
    return StorageError(f"cannot write {str(path)!r}: {reason}")
