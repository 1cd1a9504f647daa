"""Run a plan: everything between a list of items and a folder of finished clips."""

import time
from collections.abc import Generator, Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from musicgen_rl.audio.encoding import FORMATS
from musicgen_rl.audio.files import prepare_folder
from musicgen_rl.batch.lock import only_run
from musicgen_rl.batch.plan import Plan, PlannedClip, difference
from musicgen_rl.batch.progress import Report, Status
from musicgen_rl.batch.results import Failure
from musicgen_rl.batch.store import DONE, FILE, MISSING, Store
from musicgen_rl.batch.tables import COLUMNS, MANIFEST, SUMMARY, write_summary, write_tables
from musicgen_rl.batch.work import Done, Stop, jobs_of
from musicgen_rl.batch.worker import Setup
from musicgen_rl.batch.writer import Container, Writer, sweep
from musicgen_rl.config import require
from musicgen_rl.errors import ConfigError, StorageError

if TYPE_CHECKING:
    from musicgen_rl.pipeline.core import Pipeline

Engine = Literal["local", "ray"]


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """How a plan is run; `format`, `container` and `shard_size` may not change when it goes on."""

    format: str = "flac"
    """wav, flac, ogg or mp3."""
    container: Container = "folder"
    """folder: files in numbered folders; tar: shards by WebDataset's conventions."""
    engine: Engine = "local"
    """local, or ray for a cluster."""
    workers: int = 1
    """Processes, or actors on the cluster; 1 is this process itself."""
    gpus_per_worker: float = 0.0
    """GPUs of each actor on the cluster; 0.5 puts two on one."""
    shard_size: int = 1000
    """Clips of one folder or one tar file."""
    max_failures: int = 10
    """Clips that may fail before the run stops."""

    def __post_init__(self) -> None:
        """Check every field."""
        require(self.format in FORMATS, f"unknown format {self.format!r}: use {', '.join(FORMATS)}")
        for name, kind in (("container", Container), ("engine", Engine)):
            value, known = getattr(self, name), get_args(kind)
            require(value in known, f"unknown {name} {value!r}: use {' or '.join(known)}")
        for name, low, high in (
            ("workers", 1, 10_000), ("shard_size", 1, 1_000_000), ("max_failures", 0, 10**9)
        ):  # fmt: skip
            value = getattr(self, name)
            whole = isinstance(value, int) and not isinstance(value, bool)
            require(
                whole and low <= value <= high,
                f"{name} must be a whole number from {low} to {high}, got {value!r}",
            )
        require(
            0 <= self.gpus_per_worker <= 64,
            f"gpus_per_worker must be between 0 and 64, got {self.gpus_per_worker!r}",
        )
        require(
            not self.gpus_per_worker or self.engine == "ray",
            f"gpus_per_worker {self.gpus_per_worker:g} shares out a cluster's GPUs: take engine "
            "ray, or leave it out",
        )

    def kept(self) -> dict[str, Any]:
        """Collect what may not change when a run goes on."""
        return {n: getattr(self, n) for n in ("format", "container", "shard_size")}


@dataclass(frozen=True, kw_only=True)
class BatchSummary:
    """What a run came to."""

    folder: Path
    """Of the run."""
    total: int
    """Clips of the plan."""
    made: int
    """Made by this call."""
    kept: int
    """Made by earlier ones."""
    failures: tuple[Failure, ...] = ()
    """Clips that could not be made; the next call tries them again."""
    missing: int
    """Clips that nothing has come of: the run was stopped."""
    seconds: float
    """Time of this call, loading the models included."""
    audio_s: float
    """Seconds of audio made by this call."""
    frames: int
    """Frames decoded for them."""
    halved: int = 0
    """Batches of this call that did not fit in memory whole."""
    lost: int = 0
    """Clips made by earlier calls whose file was gone."""
    renamed: int = 0
    """Clips whose name, split or facts were others in the call before."""
    stopped: str = ""
    """Why it ended before everything was tried; empty where it did not."""
    manifest: Path | None = field(default=None)
    """The manifest of all finished clips."""

    @property
    def complete(self) -> bool:
        """Whether every clip of the plan is there."""
        return not self.missing and not self.failures

    @property
    def real_time_factor(self) -> float:
        """Seconds of work a second of audio; 0 where nothing was made."""
        return self.seconds / self.audio_s if self.audio_s else 0.0

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "total": self.total,
            "made": self.made,
            "kept": self.kept,
            "failed": len(self.failures),
            "missing": self.missing,
            "seconds": round(self.seconds, 3),
            "audio_s": round(self.audio_s, 3),
            "frames": self.frames,
            "frames_per_s": round(self.frames / self.seconds, 1) if self.seconds else 0.0,
            "real_time_factor": round(self.real_time_factor, 4),
            "halved_batches": self.halved,
            "lost_and_made_again": self.lost,
            "facts_changed": self.renamed,
            "stopped": self.stopped,
            "failures": [vars(f) for f in self.failures],
        }


def run_batch(
    plan: Plan,
    folder: str | Path,
    *,
    format: str = "flac",
    container: Container = "folder",
    engine: Engine = "local",
    workers: int = 1,
    gpus_per_worker: float = 0.0,
    shard_size: int = 1000,
    max_failures: int = 10,
    stop: Stop | None = None,
    progress: Report | None = None,
    pipelines: "Mapping[str, Pipeline] | None" = None,
) -> BatchSummary:
    """Make every clip of a plan, each once; called again, go on where it ended.

    Names, splits and facts may differ between calls: the manifest and the shards get the last ones.

    Args:
        plan: from `make_plan`.
        folder: of the run; made where missing.
        format: see RunOptions, as the next six.
        container: folder or tar.
        engine: local or ray.
        workers: processes or actors.
        gpus_per_worker: on a cluster.
        shard_size: clips of a folder or tar file.
        max_failures: then it stops.
        stop: asked at every step; what is finished is kept.
        progress: told after every batch.
        pipelines: models loaded already, by the name that the items have for them; for the local
            engine with one worker.

    Returns:
        What it came to; `read_results(folder)` gives the clips.

    Raises:
        ConfigError: the folder holds another plan (the difference is said), another run works on
            it, or an option cannot work.
        StorageError: the folder cannot be written, or the disk is full; what is finished is kept.
        ModelError, MemoryLimitError: a model cannot be used.
    """
    options = RunOptions(
        format=format, container=container, engine=engine, workers=workers,
        gpus_per_worker=gpus_per_worker, shard_size=shard_size, max_failures=max_failures,
    )  # fmt: skip
    require(
        not pipelines or (engine == "local" and workers == 1),
        "loaded pipelines serve one local worker: leave them out, or take workers=1",
    )
    start = time.monotonic()
    folder = prepare_folder(folder)
    require_own_folder(folder)
    with only_run(folder), Store(folder, create=True) as store:
        plan, renamed = take_facts(adopt(plan, folder, store, options), plan)
        lost, _ = sweep(folder, plan, store)
        writer = Writer(
            folder, plan, store, format=format, container=container, shard_size=shard_size
        )
        writer.pack_again(clip.id for clip in renamed)
        store.write_items(renamed)  # after the shards: a kill between leaves a difference to see
        states = store.states()
        missing = frozenset(id for id, state in states.items() if state != DONE)
        tally = _Tally(plan, missing, progress)
        writer.pack_what_is_whole()
        results = _results(plan, missing, options, stop or (lambda: False), pipelines)
        stopped = ""
        try:
            with closing(results), writer:
                for done in results:
                    writer.put(done)
                    tally.count(done)
                    if len(tally.failed) > max_failures:
                        stopped = f"{len(tally.failed)} clips failed, at most {max_failures} may"
                        break
        except StorageError as error:
            kept = sum(state == DONE for state in store.states().values())
            raise StorageError(
                f"{error} ({kept} of {len(plan.clips)} clips are finished and kept: the same run "
                "goes on from there)"
            ) from error
        return _finish(folder, plan, store, tally, start, lost, len(renamed), stopped, stop)


def require_own_folder(folder: Path) -> None:
    """Refuse a folder without a batch that holds what a batch would write over.

    Raises:
        ConfigError: names the file.
    """
    for name in (MANIFEST, COLUMNS, SUMMARY):
        require(
            (folder / FILE).exists() or not (folder / name).exists(),
            f"{folder / name} is there already, and of no batch: name another folder",
        )


def adopt(plan: Plan, folder: Path, store: Store, options: RunOptions) -> Plan:
    """Write the plan of a new run, or take that of the folder if it is the same work.

    Returns:
        The folder's plan: its batches and its date stay what they were. Which of several GPUs it is
        made on is as asked now.

    Raises:
        ConfigError: the folder holds other work; says the difference.
    """
    found = store.read_plan()
    if found is None:
        store.write_plan(plan, options.kept())
        return plan
    require_same(found, plan, folder, options)
    return replace(found[0], device=plan.device)


def take_facts(plan: Plan, asked: Plan) -> tuple[Plan, list[PlannedClip]]:
    """Give the clips of a folder's plan the names, splits and facts that are asked for now.

    Args:
        plan: of the folder.
        asked: of the same clips.

    Returns:
        The folder's plan with them, and its clips whose facts were others before.
    """
    now = {clip.id: clip.item for clip in asked.clips}
    clips, changed = [], []
    for clip in plan.clips:
        item = clip.item.with_facts_of(now[clip.id])
        if item is not clip.item:
            clip = replace(clip, item=item)
            changed.append(clip)
        clips.append(clip)
    return (replace(plan, clips=tuple(clips)), changed) if changed else (plan, [])


def require_same(
    found: tuple[Plan, dict[str, Any]], plan: Plan, folder: Path, options: RunOptions
) -> None:
    """Refuse a plan or options other than those of the folder.

    Raises:
        ConfigError: says the difference.
    """
    before, kept = found
    said = difference(before, plan)
    said += [f"{n} {kept[n]} -> {v}" for n, v in options.kept().items() if kept[n] != v]
    if said:
        raise ConfigError(
            f"{str(folder)!r} holds another batch ({'; '.join(said)}): give the same options to go "
            "on with it, or another folder for a new one"
        )


def left_of(plan: Plan, folder: Path, options: RunOptions) -> frozenset[str]:
    """Tell what a run would make, without writing anything; the run may be going on.

    Raises:
        ConfigError: the folder holds other work; says the difference.
    """
    everything = frozenset(clip.id for clip in plan.clips)
    if not (folder / FILE).is_file():
        return everything
    with Store(folder) as store:
        found = store.read_plan()
        if found is None:
            return everything
        require_same(found, plan, folder, options)
        return everything - {id for id, state in store.states().items() if state == DONE}


def _results(
    plan: Plan,
    missing: frozenset[str],
    options: RunOptions,
    stop: Stop,
    pipelines: "Mapping[str, Pipeline] | None",
) -> Generator[Done, None, None]:
    """Let the engine make what is missing; nothing is loaded where nothing is."""
    jobs = jobs_of(plan.clips, missing)
    if not missing:
        return
    threads = share_threads(options)
    setup = Setup.of(plan, options.format, threads)
    if options.engine == "ray":
        from musicgen_rl.batch.cluster import run_cluster

        yield from run_cluster(
            jobs, setup, workers=options.workers, gpus_per_worker=options.gpus_per_worker, stop=stop
        )
    elif options.workers > 1:
        from musicgen_rl.batch.local import run_processes

        yield from run_processes(jobs, setup, workers=options.workers, stop=stop)
    else:
        from musicgen_rl.batch.local import run_here

        yield from run_here(jobs, setup, stop=stop, pipelines=pipelines)


def share_threads(options: RunOptions) -> int:
    """Share this machine's torch threads among its processes; elsewhere Ray's CPUs decide.

    Returns:
        Threads of each worker; 0 leaves them as they are.
    """
    if options.engine == "ray" or options.workers == 1:
        return 1 if options.engine == "ray" and not options.gpus_per_worker else 0
    import torch

    return max(1, torch.get_num_threads() // options.workers)


class _Tally:
    """Counts what this call has made."""

    def __init__(self, plan: Plan, missing: frozenset[str], report: Report | None) -> None:
        self.clips = {clip.id: clip for clip in plan.clips}
        self.missing, self.made, self.frames, self.halved = len(missing), 0, 0, 0
        self.failed: dict[str, str] = {}
        self.audio_s = 0.0
        self._left_s = sum(self.clips[id].item.duration_s for id in missing)
        self._before_s = plan.audio_s - self._left_s
        self._sizes: dict[int, int] = {}
        for clip in plan.clips:
            self._sizes[clip.batch] = clip.row + 1
        self._report = report
        self._start = time.monotonic()

    def count(self, done: Done) -> None:
        """Take what came of a batch."""
        self.made += len(done.made)
        self.failed |= done.failed
        self.audio_s += sum(m.duration_s for m in done.made)
        self.frames += sum(m.num_frames for m in done.made)
        for id in (*(m.id for m in done.made), *done.failed):
            self._left_s -= self.clips[id].item.duration_s
        self.halved += 0 < done.rows < self._sizes[done.number]
        if self._report is not None:
            kept = len(self.clips) - self.missing
            self._report(
                Status(
                    total=len(self.clips), done=kept + self.made, failed=len(self.failed),
                    audio_s=self._before_s + self.audio_s, made_audio_s=self.audio_s,
                    left_audio_s=max(self._left_s, 0.0), seconds=time.monotonic() - self._start,
                )
            )  # fmt: skip


def _finish(
    folder: Path,
    plan: Plan,
    store: Store,
    tally: _Tally,
    start: float,
    lost: int,
    renamed: int,
    stopped: str,
    stop: Stop | None,
) -> BatchSummary:
    """Write manifest and summary."""
    states = store.states()
    still = sum(state == MISSING for state in states.values())
    if still and not stopped:
        stopped = "asked to stop" if stop is not None and stop() else "not everything was made"
    failures = tuple(
        Failure(id=id, name=tally.clips[id].item.name or tally.clips[id].item.prompt[:60], cause=c)
        for id, c in store.failures().items()
    )
    summary = BatchSummary(
        folder=folder,
        total=len(plan.clips),
        made=tally.made,
        kept=len(plan.clips) - tally.missing,
        failures=failures,
        missing=still,
        seconds=time.monotonic() - start,
        audio_s=tally.audio_s,
        frames=tally.frames,
        halved=tally.halved,
        lost=lost,
        renamed=renamed,
        stopped=stopped,
        manifest=write_tables(folder, plan, store),
    )
    write_summary(folder, summary.to_json())
    return summary
