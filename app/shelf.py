"""Files the page may fetch: each under a name nobody can guess, none by its path."""

import secrets
import threading
from pathlib import Path

_MOST = 5000


class Shelf:
    """Maps secret names to files of jobs; what is gone from the disk is gone from here."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._names: dict[Path, str] = {}
        self._files: dict[str, Path] = {}

    def url(self, path: Path) -> str:
        """Put a file up and return its address, relative to the page."""
        with self._lock:
            if path not in self._names:
                while len(self._files) >= _MOST:
                    oldest = next(iter(self._files))
                    del self._names[self._files.pop(oldest)]
                name = secrets.token_urlsafe(24)
                self._names[path], self._files[name] = name, path
            return f"studio/file/{self._names[path]}"

    def find(self, name: str) -> Path | None:
        """Find the file of a name, if it is still there."""
        with self._lock:
            path = self._files.get(name)
            if path is not None and not path.is_file():
                del self._names[self._files.pop(name)]
                return None
            return path
