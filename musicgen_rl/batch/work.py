"""What goes to a worker and what comes back: plain values that survive a pipe or a network."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from musicgen_rl.batch.item import Item
from musicgen_rl.batch.plan import PlannedClip
from musicgen_rl.pipeline.work import Batch

Stop = Callable[[], bool]


class Works(Protocol):
    """What does jobs."""

    def make(self, job: "Job", stop: Stop | None = None) -> "Done":
        """Do one; two threads may call it."""
        ...


@dataclass(frozen=True, kw_only=True)
class Job:
    """One batch of the plan, whole: its shape is part of what is asked for."""

    number: int
    """Of the batch in the plan."""
    clips: tuple[PlannedClip, ...]
    """Its rows."""
    wanted: frozenset[str]
    """Ids that are still missing; the others only make the shape."""
    attempt: int = 0
    """How many workers it has outlived; from the second on it is decoded in halves."""


@dataclass(frozen=True, kw_only=True)
class Made:
    """One finished clip as the bytes of its file."""

    id: str
    """Of the clip."""
    data: bytes
    """The whole file."""
    sha256: str
    """Of the data."""
    codes_sha256: str
    """Of its codes, as in its tags."""
    num_frames: int
    """T."""
    duration_s: float
    """Length of the sound."""
    settings: dict[str, Any]
    """As in its tags, without the check bytes."""


@dataclass(frozen=True, kw_only=True)
class Done:
    """What came of a job."""

    number: int
    """Of the job."""
    made: tuple[Made, ...] = ()
    """Its wanted clips."""
    failed: Mapping[str, str] = field(default_factory=dict)
    """Id -> why not."""
    rows: int = 0
    """Most clips that were decoded side by side; fewer than the batch where memory was short."""


def side_by_side(items: Sequence[Item]) -> Batch:
    """Lay out items of one group as the pipeline decodes them: the takes of each together."""
    rows = [(item, take) for item in items for take in range(item.takes)]
    return Batch(
        [item.prompt for item, _ in rows],
        [item.index * item.takes + take for item, take in rows],
        seeds=[item.seed for item, _ in rows],
    )


def jobs_of(clips: Iterable[PlannedClip], missing: frozenset[str]) -> Iterator[Job]:
    """Yield the batches of a plan that still lack a clip, in its order.

    Args:
        clips: all of the plan, in order.
        missing: ids that are not made yet.
    """
    rows: list[PlannedClip] = []
    for clip in clips:
        if rows and clip.batch != rows[0].batch:
            yield from _job(rows, missing)
            rows = []
        rows.append(clip)
    yield from _job(rows, missing)


def _job(rows: list[PlannedClip], missing: frozenset[str]) -> Iterator[Job]:
    wanted = missing.intersection(clip.id for clip in rows)
    if wanted:
        yield Job(number=rows[0].batch, clips=tuple(rows), wanted=wanted)
