"""Small files on disk, whole or not at all, readable by their owner only where they unblind."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from musicgen_rl.errors import InputError, StorageError


def read_json(path: Path, what: str) -> dict[str, Any]:
    """Read a JSON object.

    Args:
        path: of the file.
        what: what it is and how it is made, for the message.

    Raises:
        InputError: the file is missing or not a JSON object.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{str(path)!r} is missing: {what}") from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(f"{str(path)!r} cannot be read ({error}): {what}") from None
    if not isinstance(content, dict):
        raise InputError(f"{str(path)!r} does not hold a JSON object: {what}")
    return content


def write_text(path: Path, text: str, *, private: bool = False) -> Path:
    """Write a file in place of what was there, at once or not at all.

    Raises:
        StorageError: it could not be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        mode = 0o600 if private else 0o666
        with open(
            os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "w", encoding="utf-8"
        ) as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise StorageError(f"cannot write {str(path)!r}: {error.strerror}") from error
    return path


def write_json(path: Path, content: Mapping[str, Any], *, private: bool = False) -> Path:
    """Write a JSON object in place of what was there, at once or not at all.

    Raises:
        StorageError: it could not be written.
    """
    text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    return write_text(path, text, private=private)
