"""The one place where errors become a line on stderr and an exit status."""

import os
import sys
import traceback
from collections.abc import Callable

from musicgen_rl.cli.show import listed_lines, note, one_line
from musicgen_rl.errors import MusicgenRLError

DEBUG_VARIABLE = "MUSICGEN_RL_DEBUG"
MISTAKE, BUG, INTERRUPTED, PIPE_CLOSED = 2, 70, 130, 141

_EXTRAS = {
    "gradio": "app",
    **dict.fromkeys(("accelerate", "peft", "midirenderer", "music21", "mido"), "train"),
    **dict.fromkeys(
        ("matplotlib", "sklearn", "pandas", "pyarrow", "statsmodels", "sqlalchemy"), "eval"
    ),
    "ray": "ray",
}
"""Top-level module -> the extra of this package that brings it."""


def debug_wanted() -> bool:
    """Tell whether the environment asks for tracebacks."""
    return os.environ.get(DEBUG_VARIABLE, "0") not in ("", "0")


def guarded(run: Callable[[], int], *, debug: bool = False) -> int:
    """Run a command; whatever it raises becomes at most one line and an exit status.

    Args:
        run: the command; returns its status.
        debug: show the traceback above the line.

    Returns:
        The status for the shell.
    """
    try:
        code = run()
        _flush()
    except BaseException as error:  # SystemExit and KeyboardInterrupt have a status too
        if debug and not isinstance(error, SystemExit):
            traceback.print_exc()
        code, message = describe(error)
        if message:
            note(message)
        _drop_unwritable_output()
    return code


def describe(error: BaseException) -> tuple[int, str]:
    """Choose the exit status and the line for an error; the line may be empty.

    A mistake that is a list (a manifest's problems) keeps a line for each of its items.
    """
    if isinstance(error, SystemExit):
        return (error.code if isinstance(error.code, int) else MISTAKE), ""
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED, "stopped"
    if type(error).__name__ == "Abort":  # Typer's, or click's own: a question without a yes
        return MISTAKE, "stopped: nothing was done (where nobody can answer, add --yes)"
    if isinstance(error, BrokenPipeError):
        return PIPE_CLOSED, ""
    if isinstance(error, MusicgenRLError):
        return MISTAKE, f"error: {listed_lines(str(error))}"
    if type(error).__name__ == "NoArgsIsHelpError":
        return MISTAKE, str(getattr(error, "message", ""))
    if hasattr(error, "format_message"):  # Typer's usage errors, of Typer's or click's own class
        usage = one_line(error.format_message()).rstrip(".")
        return MISTAKE, f"error: {usage}; --help lists what can be given"
    if isinstance(error, ModuleNotFoundError) and (name := (error.name or "").split(".")[0]):
        if name in _EXTRAS:
            extra = f"pip install 'musicgen-rl[{_EXTRAS[name]}]'"
            return MISTAKE, f"error: this command needs the package {name!r}: {extra}"
        if name != "musicgen_rl":
            again = "pip install musicgen-rl"
            return MISTAKE, f"error: the package {name!r} is not installed: {again} again"
    if isinstance(error, MemoryError):
        return MISTAKE, (
            "error: not enough memory: close other programs, or ask for shorter or fewer clips"
        )
    if isinstance(error, OSError):
        return MISTAKE, f"error: {_system_error(error)}"
    what = one_line(f"{type(error).__name__}: {error}")
    return BUG, (
        f"error: unexpected {what}: this is a bug, please report it with what "
        "`musicgen-rl --debug ...` prints"
    )


def _system_error(error: OSError) -> str:
    reason = error.strerror or str(error) or type(error).__name__
    if error.filename is None:
        return one_line(f"{reason}: check the disk and the output")
    return one_line(f"{reason}: {error.filename!r}: check the path, its permissions and the disk")


def _drop_unwritable_output() -> None:
    """Flush stdout; where it cannot be written, keep Python from failing again at its exit."""
    try:
        _flush()
    except (OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def _flush() -> None:
    if sys.stdout is not None:  # a process may be started without one
        sys.stdout.flush()
