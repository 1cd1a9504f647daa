"""The one that writes: files into place, then the record that they are there.

Order is all of the guarantee. A clip's bytes go to a hidden name, to the disk, to their own name,
and only then is the clip recorded as done. A kill before the record leaves a file that nobody
counts and that the next run writes over with the same bytes; a kill after it leaves a whole clip.
"""

import queue
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Literal

from musicgen_rl.audio.files import write_whole
from musicgen_rl.batch.plan import Plan, PlannedClip
from musicgen_rl.batch.shards import Sample, read_shard, shard_path, write_shard
from musicgen_rl.batch.store import FAILED, MISSING, Record, Store
from musicgen_rl.batch.work import Done
from musicgen_rl.errors import StorageError

CLIPS = "clips"
Container = Literal["folder", "tar"]
_WAITING = 4  # batches; when the disk is slower than decoding, decoding waits


class Writer:
    """Writes what workers made, in a thread of its own, and records it.

    Use it as a context: leaving it writes what is still waiting, or after an error does not.

    Args:
        folder: of the run.
        plan: whose clips come.
        store: used by this thread alone until the writer is left.
        format: wav, flac, ogg or mp3.
        container: folder, or tar for WebDataset shards.
        shard_size: clips of one folder or shard.
    """

    def __init__(
        self,
        folder: Path,
        plan: Plan,
        store: Store,
        *,
        format: str,
        container: Container,
        shard_size: int,
    ) -> None:
        self._folder, self._plan, self._store = folder, plan, store
        self._format, self._container, self._shard_size = format, container, shard_size
        self._clips = {clip.id: clip for clip in plan.clips}
        states = store.states()
        # Of each shard: the clips that nothing has come of yet. At zero it is packed.
        self._open = Counter(self._shard(c) for c in plan.clips if states[c.id] == MISSING)
        self._queue: queue.Queue[Done | None] = queue.Queue(_WAITING)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="batch-writer", daemon=True)

    def __enter__(self) -> "Writer":
        """Start."""
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Write what is waiting, and raise what went wrong in the thread."""
        self._queue.put(None)
        self._thread.join()
        if kind is None:
            self.check()

    def put(self, done: Done) -> None:
        """Hand over what came of a batch; waits where writing is behind.

        Raises:
            StorageError: an earlier one could not be written.
        """
        self.check()
        self._queue.put(done)

    def check(self) -> None:
        """Raise the error that stopped the writing, if there was one."""
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        while (done := self._queue.get()) is not None:
            if self._error is None:  # after an error only take, so that `put` never hangs
                try:
                    self._write(done)
                except BaseException as error:
                    self._error = error

    def _write(self, done: Done) -> None:
        records: list[Record] = []
        try:
            for made in done.made:
                path = self._path(self._clips[made.id])
                write_whole(self._folder / path, made.data, overwrite=True)
                records.append(
                    Record(
                        id=made.id, path=path, member=None, size=len(made.data),
                        file_sha256=made.sha256, codes_sha256=made.codes_sha256,
                        num_frames=made.num_frames, duration_s=made.duration_s,
                        settings=made.settings,
                    )
                )  # fmt: skip
        finally:
            # On a disk that is full there may still be room for the records of what fitted.
            self._store.record(records, done.failed)
        touched = {self._shard(self._clips[i]) for i in (*(m.id for m in done.made), *done.failed)}
        for id in (*(m.id for m in done.made), *done.failed):
            self._open[self._shard(self._clips[id])] -= 1
        for number in sorted(touched):
            if self._container == "tar" and not self._open[number]:
                self.pack(number)

    def pack_what_is_whole(self) -> None:
        """Pack the shards that an earlier run had made all clips of, but not packed yet."""
        if self._container != "tar":
            return
        loose = {
            self._shard(self._clips[r.id])
            for r in self._store.records(settings=False)
            if r.member is None
        }
        for number in sorted(loose):
            if not self._open[number]:
                self.pack(number)

    def pack_again(self, ids: Iterable[str]) -> None:
        """Write the shards anew that hold some of these clips: what is known of them changed."""
        packed = {r.id for r in self._store.records(ids, settings=False) if r.member is not None}
        for number in sorted({self._shard(self._clips[id]) for id in packed}):
            self.pack(number)

    def pack(self, number: int) -> None:
        """Put the finished clips of a shard into its tar file, and take their own files away."""
        first = number * self._shard_size
        clips = self._plan.clips[first : first + self._shard_size]
        records = {r.id: r for r in self._store.records(c.id for c in clips)}
        if not records:
            return
        path = shard_path(number)
        ending = f".{self._format}"
        packed: Mapping[str, bytes] = {}
        if any(r.member is not None for r in records.values()):  # some were added to it later
            packed = read_shard(self._folder / path, (ending,))
            gone = [r.id for r in records.values() if r.member and r.member not in packed]
            self._store.forget(gone)  # the shard is damaged: they are made again
            self._open[number] += len(gone)
            records = {id: r for id, r in records.items() if id not in gone}
        write_shard(self._folder / path, self._samples(clips, records, packed), self._plan.date)
        members = {id: f"{id}{ending}" for id in records}
        self._store.move(records, path, members)
        remove_loose(self._folder, [r.path for r in records.values() if r.member is None])

    def _samples(
        self,
        clips: tuple[PlannedClip, ...],
        records: Mapping[str, Record],
        packed: Mapping[str, bytes],
    ) -> Iterator[Sample]:
        for clip in clips:
            record = records.get(clip.id)
            if record is None:
                continue
            if record.member is None:
                try:
                    sound = (self._folder / record.path).read_bytes()
                except OSError as error:
                    raise StorageError(
                        f"{record.path} was taken away while the run was going on: run it again"
                    ) from error
            else:
                sound = packed[record.member]
            about = dict(record.settings) | {
                "name": clip.item.name,
                "attributes": dict(clip.item.attributes),
            }
            yield Sample(
                key=clip.id, extension=self._format, sound=sound, caption=clip.item.prompt,
                about=about,
            )  # fmt: skip

    def _shard(self, clip: PlannedClip) -> int:
        return clip.position // self._shard_size

    def _path(self, clip: PlannedClip) -> str:
        return f"{CLIPS}/{self._shard(clip):05d}/{clip.id}.{self._format}"


def remove_loose(folder: Path, paths: list[str]) -> None:
    """Remove files that are in a shard now, and folders that are empty then."""
    for path in paths:
        (folder / path).unlink(missing_ok=True)
    for parent in (*{(folder / path).parent for path in paths}, folder / CLIPS):
        with suppress(OSError):  # not empty
            parent.rmdir()


def sweep(folder: Path, plan: Plan, store: Store) -> tuple[int, int]:
    """Bring a folder and its records together again after a run that died.

    Hidden files that it was writing go; records whose file is missing or has another size become
    missing; files that were packed already but not yet taken away go. Contents are not read: that
    is the work of `verify` in check.py.

    Args:
        folder: of the run, whose lock is held.
        plan: of the run.
        store: of the run.

    Returns:
        How many clips had lost their file, and how many half-written files were removed.
    """
    halves = [p for d in (CLIPS, "shards") for p in (folder / d).glob("**/.musicgen-rl-*.part")]
    for half in halves:
        half.unlink(missing_ok=True)
    lost: list[str] = []
    sizes: dict[str, int] = {}
    loose: list[str] = []
    shards: dict[str, bool] = {}
    for record in store.records(settings=False):
        path = folder / record.path
        if record.member is None:
            try:
                sizes[record.path] = path.stat().st_size
            except OSError:
                sizes[record.path] = -1
            if sizes[record.path] != record.size:
                lost.append(record.id)
            continue
        if record.path not in shards:
            shards[record.path] = path.is_file()
        if not shards[record.path]:
            lost.append(record.id)
        else:
            number = int(path.stem.split("-")[-1])
            loose.append(f"{CLIPS}/{number:05d}/{record.member}")
    store.forget([*lost, *(id for id, state in store.states().items() if state == FAILED)])
    if loose:
        remove_loose(folder, loose)  # all of them: a kill may have left only their empty folder
    return len(lost), len(halves)
