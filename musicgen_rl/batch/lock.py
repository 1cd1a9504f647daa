"""One run a folder: a lock that the system gives back when its holder dies."""

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from musicgen_rl.errors import ConfigError, StorageError

LOCK = ".lock"


@contextlib.contextmanager
def only_run(folder: Path) -> Iterator[None]:
    """Hold the folder for as long as the block runs.

    The lock belongs to the open file, not to what is written in it: a process that dies, however
    it dies, holds it no longer, and nobody has to judge whether a process id is alive or used
    again. Worker processes do not inherit it.

    Raises:
        ConfigError: another run holds it.
        StorageError: the file cannot be made.
    """
    path = folder / LOCK
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise StorageError(f"cannot write {str(path)!r}: {error.strerror}") from error
    try:
        try:
            _take(handle)
        except OSError as error:
            holder = os.read(handle, 200).decode("utf-8", "replace").strip()
            raise ConfigError(
                f"{str(folder)!r} is being worked on by another run ({holder or 'just started'}): "
                "wait for it, or use another folder"
            ) from error
        os.ftruncate(handle, 0)
        os.lseek(handle, 0, os.SEEK_SET)
        os.write(handle, f"process {os.getpid()} on {socket.gethostname()}\n".encode())
        yield
    finally:
        os.close(handle)  # which gives the lock back


def _take(handle: int) -> None:
    try:
        import fcntl
    except ImportError:  # Windows
        import msvcrt

        # Beyond what is written, because there a locked byte cannot be read.
        os.lseek(handle, 1000, os.SEEK_SET)
        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
        os.lseek(handle, 0, os.SEEK_SET)
        return
    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
