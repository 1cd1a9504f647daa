"""Is every clip there, whole, and what its record says?"""

import hashlib
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import soundfile

from musicgen_rl.audio.tags import parse_settings, read_riff_comment
from musicgen_rl.batch.lock import only_run
from musicgen_rl.batch.plan import PlannedClip
from musicgen_rl.batch.results import require_plan
from musicgen_rl.batch.shards import read_shard
from musicgen_rl.batch.store import DONE, Record, Store
from musicgen_rl.errors import AudioFileError

Progress = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One clip that the next run would make again."""

    id: str
    """Of the clip."""
    path: str
    """Where it is or should be, relative to the run's folder; empty where it was never made."""
    cause: str
    """What is wrong."""


def verify(
    folder: str | Path, *, repair: bool = False, progress: Progress | None = None
) -> list[Fault]:
    """Read every file of a run: it opens, has its length, its bytes, and its tags.

    Args:
        folder: of the run; no run may be going on.
        repair: mark what is wrong, so that the next run makes it again.
        progress: called with clips looked at and clips in all.

    Returns:
        What the next run would make (with `repair`) again, in the plan's order; clips that were
        never made are among them.

    Raises:
        InputError: there is no run in the folder.
        ConfigError: a run is going on.
    """
    folder = Path(folder)
    with Store(folder) as store, only_run(folder):
        plan, options = require_plan(store)
        states = store.states()
        clips = {clip.id: clip for clip in plan.clips}
        failures = store.failures()
        faults = {
            id: Fault(id=id, path="", cause=failures.get(id, "not made yet"))
            for id, state in states.items()
            if state != DONE
        }
        looked = len(faults)
        for record, data in _files(folder, store, options["format"]):
            cause = _look(clips[record.id], record, data)
            if cause:
                faults[record.id] = Fault(id=record.id, path=record.path, cause=cause)
            looked += 1
            if progress is not None:
                progress(looked, len(plan.clips))
        if repair:
            store.forget(id for id in faults if states[id] == DONE)
    return [faults[clip.id] for clip in plan.clips if clip.id in faults]


def _files(folder: Path, store: Store, format: str) -> Iterator[tuple[Record, bytes | None]]:
    """Yield records with the bytes of their files; shards are read once each."""
    shard, members = "", dict[str, bytes]()
    for record in store.records():
        if record.member is None:
            try:
                yield record, (folder / record.path).read_bytes()
            except OSError:
                yield record, None
            continue
        if record.path != shard:
            shard, members = record.path, read_shard(folder / record.path, (f".{format}",))
        yield record, members.get(record.member)


def _look(clip: PlannedClip, record: Record, data: bytes | None) -> str:
    """Say what is wrong with a file; empty where nothing is."""
    if data is None:
        return "the file is gone"
    if len(data) != record.size:
        return f"{len(data)} bytes instead of {record.size}"
    if hashlib.sha256(data).hexdigest() != record.file_sha256:
        return "its bytes have changed"
    # The hash says that these are the bytes that were written; the rest, that they were right.
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            samples, rate, comment = file.frames, file.samplerate, str(file.comment)
        settings = parse_settings(read_riff_comment(data) or comment)
    except (soundfile.SoundFileError, AudioFileError) as error:
        return f"it does not open: {error}"
    wanted = round(clip.item.duration_s * rate)
    if samples != wanted:
        return f"{samples} samples instead of {wanted}"
    return _tags(clip, record, settings or {})


def _tags(clip: PlannedClip, record: Record, settings: dict[str, Any]) -> str:
    expected = {
        "item": clip.id,
        "prompt": clip.item.prompt,
        "seed": clip.item.seed,
        "index": clip.item.index,
        "codes_sha256": record.codes_sha256,
        "complete": True,
    }
    for name, value in expected.items():
        if settings.get(name) != value:
            return f"its tags say {name} {settings.get(name)!r:.40} instead of {value!r:.40}"
    return ""
