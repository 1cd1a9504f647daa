"""JSON and tensors on disk: whole files or none, and errors that name the file."""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from musicgen_rl.errors import CheckpointError


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        CheckpointError: the file is missing, or not a JSON object.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"{path.parent} lacks {path.name}") from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from None
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} does not hold a JSON object")
    return content


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON object in place of what was there, at once or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with temporary.open("w", encoding="utf-8") as file:
        json.dump(content, file, indent=2, sort_keys=False, ensure_ascii=False)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def read_tensors(
    files: Iterable[Path], prefixes: tuple[str, ...] | None = None
) -> dict[str, Tensor]:
    """Read tensors from safetensors files, of those names that start with one of `prefixes`.

    Raises:
        CheckpointError: a file is truncated or not safetensors.
    """
    found: dict[str, Tensor] = {}
    for path in files:
        try:
            with safe_open(path, framework="pt") as file:
                names = [n for n in file.keys() if prefixes is None or n.startswith(prefixes)]  # noqa: SIM118
                found |= {name: file.get_tensor(name) for name in names}
        except (SafetensorError, OSError) as error:
            raise CheckpointError(
                f"{path} cannot be read ({error}): truncated or not safetensors: copy it again"
            ) from None
    return found


def save_tensors(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Write one safetensors file in place of what was there, at once or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    save_file(dict(tensors), temporary, metadata={"format": "pt"})
    umask = os.umask(0)
    os.umask(umask)
    temporary.chmod(0o666 & ~umask)  # safetensors makes files that only their owner can read
    with temporary.open("rb") as file:
        os.fsync(file.fileno())
    temporary.replace(path)


def hash_file(path: Path) -> str:
    """Return a file's sha256, 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
