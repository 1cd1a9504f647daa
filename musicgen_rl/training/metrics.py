"""What a training run writes while it runs: one file of JSON lines and one live line.

Every row of `metrics.jsonl` has `kind` (train, valid, ...), `step`, and numbers; docs/training.md
explains each. The live line is redrawn in place on a terminal and printed now and then in a log.
"""

import json
import math
import os
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from musicgen_rl.errors import StorageError


class MetricsLog:
    """Appends rows to a JSON-lines file and keeps a live line."""

    def __init__(
        self,
        path: str | Path,
        *,
        resume_step: int = 0,
        live: TextIO | None = None,
        log_every_s: float = 30.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Open the file; rows after `resume_step`, left by a killed run, are dropped.

        Args:
            path: the JSON-lines file; its folder is created.
            resume_step: the run goes on from here; 0 starts the file anew.
            live: where the live line goes, for example sys.stderr; None for none.
            log_every_s: seconds between live lines where `live` is not a terminal.
            clock: seconds, for tests.

        Raises:
            StorageError: the file cannot be written.
        """
        self._path = Path(path)
        self._live = live
        self._log_every_s = log_every_s
        self._clock = clock
        self._last_line = -math.inf
        kept = [row for row in read_metrics(self._path) if row.get("step", 0) <= resume_step]
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            temporary = self._path.with_suffix(".tmp")
            temporary.write_text("".join(_line(row) for row in kept if resume_step > 0))
            os.replace(temporary, self._path)
            self._file = self._path.open("a")
        except OSError as error:
            raise StorageError(f"cannot write {self._path}: {error}") from error

    def write(self, kind: str, step: int, **values: Any) -> None:
        """Append one row.

        Args:
            kind: what the numbers are of, for example "train".
            step: optimiser steps done.
            values: JSON values; nan and inf become null, which JSON has no other word for.

        Raises:
            StorageError: the disk is full.
        """
        try:
            self._file.write(_line({"kind": kind, "step": step, **values}))
            self._file.flush()
        except OSError as error:
            raise StorageError(f"cannot write {self._path}: {error}; free some space") from error

    def show(self, text: str, *, force: bool = False) -> None:
        """Redraw the live line (on a terminal), or print it every `log_every_s` seconds.

        Args:
            text: one line.
            force: print it now and keep it.
        """
        if self._live is None:
            return
        terminal = self._live.isatty()
        if not (terminal or force) and self._clock() - self._last_line < self._log_every_s:
            return
        self._last_line = self._clock()
        self._live.write(f"\r\x1b[K{text}" if terminal else f"{text}\n")
        if terminal and force:
            self._live.write("\n")
        self._live.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> "MetricsLog":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def read_metrics(path: str | Path) -> list[dict[str, Any]]:
    """Read a JSON-lines file; a last line cut short by a kill is left out.

    Args:
        path: the file; one that is missing has no rows.

    Returns:
        The rows, in order.
    """
    path = Path(path)
    rows: list[dict[str, Any]] = []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return rows


def format_seconds(seconds: float) -> str:
    """Write a duration for people: 42 s, 3 min 05 s, 2 h 07 min."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def _line(row: dict[str, Any]) -> str:
    plain = {
        k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()
    }
    return json.dumps(plain) + "\n"
