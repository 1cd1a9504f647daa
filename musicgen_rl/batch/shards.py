"""Clips in tar files, by the conventions of the `webdataset` library.

A shard holds samples one after another; a sample is the neighbouring members whose names are alike
up to the first dot: `<id>.flac` (the sound), `<id>.txt` (the caption), `<id>.json` (the settings of
its tags, with the item's attributes). Shards are numbered so that `shard-{000000..000041}.tar`
names them all. Their bytes depend on the clips and the plan's date alone.
"""

import io
import json
import tarfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from musicgen_rl.audio.files import whole_file
from musicgen_rl.errors import InputError, StorageError

FOLDER = "shards"


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One clip of a shard."""

    key: str
    """Its id: without a dot, or the library would cut it there."""
    extension: str
    """flac, wav, ogg or mp3."""
    sound: bytes
    """The audio file."""
    caption: str
    """The prompt."""
    about: Mapping[str, Any]
    """Settings and attributes, JSON values."""

    @property
    def member(self) -> str:
        """Name of the sound inside the shard."""
        return f"{self.key}.{self.extension}"


def shard_path(number: int) -> str:
    """Name a shard, relative to the run's folder."""
    return f"{FOLDER}/shard-{number:06d}.tar"


def write_shard(path: Path, samples: Iterable[Sample], date: str) -> int:
    """Write a shard in place of what was there, at once or not at all.

    Args:
        path: of the tar file.
        samples: in order, taken one by one.
        date: ISO 8601, the members' time.

    Returns:
        Bytes written.

    Raises:
        StorageError: it could not be written.
    """
    time = int(datetime.fromisoformat(date).timestamp())
    with whole_file(path, overwrite=True) as pending:
        with tarfile.open(fileobj=pending.file, mode="w", format=tarfile.USTAR_FORMAT) as tar:
            for sample in samples:
                about = json.dumps(sample.about, ensure_ascii=True, allow_nan=False)
                _add(tar, sample.member, sample.sound, time)
                _add(tar, f"{sample.key}.json", about.encode(), time)
                _add(tar, f"{sample.key}.txt", sample.caption.encode("utf-8", "replace"), time)
        return pending.file.tell()


def read_member(shard: Path, member: str) -> bytes:
    """Read one file of a shard.

    Raises:
        InputError: the shard or the member is not there, or damaged.
    """
    try:
        with tarfile.open(shard) as tar:
            file = tar.extractfile(member)
            if file is None:
                raise KeyError(member)
            return file.read()
    except (OSError, tarfile.TarError, KeyError, EOFError) as error:
        raise InputError(f"{member!r} cannot be read from {str(shard)!r}: {error}") from error


def read_shard(shard: Path, endings: tuple[str, ...]) -> dict[str, bytes]:
    """Read all files of a shard whose names end in one of `endings`, as far as it is whole.

    Args:
        shard: the tar file.
        endings: for example (".flac",).

    Returns:
        Member -> bytes; what lies behind damage is missing.
    """
    found: dict[str, bytes] = {}
    try:
        with tarfile.open(shard) as tar:
            for member in tar:
                if member.isfile() and member.name.endswith(endings):
                    file = tar.extractfile(member)
                    data = b"" if file is None else file.read()
                    if len(data) == member.size:
                        found[member.name] = data
    except FileNotFoundError:
        return found
    except OSError as error:
        raise StorageError(f"cannot read {str(shard)!r}: {error}") from error
    except (tarfile.TarError, EOFError):
        return found
    return found


def _add(tar: tarfile.TarFile, name: str, data: bytes, time: int) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mtime, info.mode = len(data), time, 0o644
    tar.addfile(info, io.BytesIO(data))
