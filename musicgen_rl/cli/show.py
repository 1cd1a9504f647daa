"""What is shown: paths on stdout and nothing else there; all the rest on stderr."""

import contextlib
import json
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

_LONGEST_LINE = 600
_MOST_ITEMS = 50


def print_path(path: Path) -> None:
    """Print a path on a line of its own, at once, in the file system's own bytes.

    Nothing where the process was started without a stdout.
    """
    if sys.stdout is None:
        return
    line = os.fsencode(path) + os.linesep.encode()
    sys.stdout.flush()
    sys.stdout.buffer.write(line)
    sys.stdout.buffer.flush()


def print_json(content: Any) -> None:
    """Print JSON for programs, on stdout."""
    print(json.dumps(content, indent=2, ensure_ascii=True))


def note(text: str) -> None:
    """Say something to the person, on stderr; a closed stderr is no reason to fail."""
    with contextlib.suppress(OSError, ValueError):
        print(text, file=sys.stderr, flush=True)


def one_line(text: str) -> str:
    """Bring a message to one printable line, its middle left out where it is very long."""
    line = " ".join(text[:100_000].split())
    line = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)
    if len(line) > _LONGEST_LINE:
        line = f"{line[:400]} [...] {line[-150:]}"
    return line


def listed_lines(text: str) -> str:
    """Bring a message to one line, or to a line for each item, where it lists some.

    Items begin on a line of their own with two spaces; so many are shown, the others counted.
    """
    head, *items = text.split("\n  ")
    shown = [one_line(head), *(f"  {one_line(item)}" for item in items[:_MOST_ITEMS])]
    if len(items) > _MOST_ITEMS:
        shown.append(f"  and {len(items) - _MOST_ITEMS} more")
    return "\n".join(shown)


def rows(content: Mapping[str, object]) -> str:
    """Lay out names and values in two columns, one pair a line."""
    width = max(map(len, content), default=0) + 2
    return "\n".join(f"{name:<{width}}{one_line(str(value))}" for name, value in content.items())


class Bar:
    """A progress bar with seconds left on a terminal; nothing at all in a pipe.

    Use it as a context; it disappears at the end.
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._progress: Progress | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> "Bar":
        """Show it, if stderr is a terminal."""
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
            from rich.text import Text

            class SecondsLeft(ProgressColumn):
                def render(self, task: Task) -> Text:
                    left = task.time_remaining
                    return Text("" if left is None else f"{left:.0f} s left")

            self._progress = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.percentage:>3.0f} %"),
                SecondsLeft(),
                console=Console(stderr=True),
                transient=True,
                redirect_stdout=False,  # would send the paths to stderr
                redirect_stderr=False,
                refresh_per_second=5,
            )
            self._task = self._progress.add_task(self._what, total=None)
            self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Take it away."""
        if self._progress is not None:
            self._progress.stop()

    def update(self, done: int, total: int) -> None:
        """Show `done` of `total`."""
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, completed=done, total=total)

    @contextlib.contextmanager
    def hidden(self) -> Iterator[None]:
        """Take it away while something else is printed."""
        if self._progress is None:
            yield
            return
        self._progress.stop()
        yield
        self._progress.start()
