"""What commands that train or encode share: NAME=VALUE options, progress, stopping."""

import dataclasses
import signal
import sys
from typing import Any

import typer

from musicgen_rl.errors import ConfigError

OFFSETS = (
    "Encode each piece to learn from so often, each time another part of a frame later: the same "
    "music in other codes."
)
PROCESSES = "Processes on this machine's processor, the batch shared out among them."
THREADS = "CPU threads of a process; 0 lets torch choose, or shares them out among processes."


def parse_assignments(texts: list[str]) -> dict[str, str]:
    """Split NAME=VALUE texts.

    Raises:
        ConfigError: one has no `=`, or a name comes twice.
    """
    found: dict[str, str] = {}
    for text in texts:
        name, sign, value = text.partition("=")
        if not sign or not name:
            raise ConfigError(f"--set takes NAME=VALUE, got {text!r}")
        if name in found:
            raise ConfigError(f"--set {name} is given twice")
        found[name] = value
    return found


def take_fields(
    given: dict[str, str], config_class: type[Any], skip: tuple[str, ...]
) -> dict[str, Any]:
    """Take the fields of a config out of `given`, turned into their types."""
    taken: dict[str, Any] = {}
    for field in dataclasses.fields(config_class):
        if field.name in given and field.name not in skip:
            text = given.pop(field.name)
            kind = type(field.default).__name__
            try:
                taken[field.name] = {"int": int, "float": float, "str": str}[kind](text)
            except ValueError as error:
                raise ConfigError(f"--set {field.name} needs a {kind}, got {text!r}") from error
    return taken


def report_encoding(done: int, total: int) -> None:
    """Say on stderr how many files are encoded."""
    if sys.stderr.isatty():
        typer.echo(f"\rencoding {done}/{total}", err=True, nl=done == total)
    else:
        typer.echo(f"encoding {done}/{total}", err=True)


def stop_on_signal() -> list[int]:
    """Collect SIGINT and SIGTERM instead of dying; a second one ends the process at once."""
    caught: list[int] = []

    def note(number: int, _frame: object) -> None:
        if caught:
            raise KeyboardInterrupt
        caught.append(number)
        typer.echo("\nstopping after this step, then saving", err=True)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, note)
    return caught
