"""Options that are numbers: read here, not by Typer, whose message leaves out what was given."""

from typing import Any

from musicgen_rl.errors import ConfigError

WHOLE, NUMBER = "WHOLE", "NUMBER"
"""Shown in `--help` for what an option takes."""


def number(option: str, text: str | None) -> float | None:
    """Read a number; None where the option was not given.

    Raises:
        ConfigError: it is none.
    """
    try:
        return None if text is None else float(text)
    except ValueError:
        raise ConfigError(f"{option} takes a number, got {text!r:.60}") from None


def whole(option: str, text: str | None) -> int | None:
    """Read a whole number; None where the option was not given.

    Raises:
        ConfigError: it is none.
    """
    try:
        return None if text is None else int(text)
    except ValueError:
        raise ConfigError(f"{option} takes a whole number, got {text!r:.60}") from None


def given(**values: Any) -> dict[str, Any]:
    """Keep what was given."""
    return {name: value for name, value in values.items() if value is not None}
