"""What a run has made: for each id its file, its codes' hash and its settings."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from musicgen_rl.batch.item import Item
from musicgen_rl.batch.plan import Plan
from musicgen_rl.batch.store import Record, Store
from musicgen_rl.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Result:
    """One finished clip."""

    id: str
    """Of the clip, as in `Plan.ids`."""
    item: Item
    """What was asked for."""
    path: Path
    """The audio file; for tar shards the shard."""
    member: str | None
    """Name of the audio file inside the shard; None where it is a file of its own."""
    codes_sha256: str
    """Of the codes it was decoded from."""
    file_sha256: str
    """Of the audio file's bytes."""
    duration_s: float
    """Seconds."""
    num_frames: int
    """T."""
    settings: Mapping[str, Any]
    """As in the file's tags, without the check bytes of single frames."""


@dataclass(frozen=True, kw_only=True)
class Failure:
    """One clip that could not be made."""

    id: str
    """Of the clip."""
    name: str
    """Of the item, or the start of its prompt."""
    cause: str
    """Why."""


def read_results(folder: str | Path) -> dict[str, Result]:
    """Read what a run has made so far; the run may be going on.

    Args:
        folder: of the run.

    Returns:
        Id -> result, in the plan's order; clips that are missing or failed are not there.

    Raises:
        InputError: there is no run in the folder.
    """
    folder = Path(folder)
    with Store(folder) as store:
        plan, _ = require_plan(store)
        items = {clip.id: clip.item for clip in plan.clips}
        return {r.id: result_of(folder, items[r.id], r) for r in store.records()}


def require_plan(store: Store) -> tuple[Plan, dict[str, Any]]:
    """Read the plan and the options of a run that must be there.

    Raises:
        InputError: the run died before its plan was written.
    """
    found = store.read_plan()
    if found is None:
        raise InputError(f"{store.path} holds no plan: start the batch again")
    return found


def result_of(folder: Path, item: Item, record: Record) -> Result:
    """Put a record and its item together."""
    return Result(
        id=record.id,
        item=item,
        path=folder / record.path,
        member=record.member,
        codes_sha256=record.codes_sha256,
        file_sha256=record.file_sha256,
        duration_s=record.duration_s,
        num_frames=record.num_frames,
        settings=record.settings,
    )
