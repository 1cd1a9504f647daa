"""The plan on disk and what has become of it: one SQLite file, through SQLAlchemy.

Why not parquet: the plan is written once, but what has become of it changes clip by clip, and each
change has to be whole or not at all beside a kill at any moment. That is a database's work. SQLite
needs no server, one file can be copied, and its write-ahead log lets another process read how far
the run is. Only the one writer writes, so its one-writer limit costs nothing, and the file lies on
the disk of that process (a write-ahead log does not work on network file systems; the clips may lie
there, see docs/scaling.md). `manifest.parquet` is written at the end, for those who read columns.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import DatabaseError, OperationalError

from musicgen_rl.batch.identity import ModelIdentity
from musicgen_rl.batch.item import Item
from musicgen_rl.batch.plan import Plan, PlannedClip
from musicgen_rl.config import SamplingConfig
from musicgen_rl.errors import InputError, StorageError

FILE = "plan.sqlite"
FORMAT = 1
MISSING, DONE, FAILED = 0, 1, 2
_BLOCK = 500  # ids in one statement

_schema = sa.MetaData()
_meta = sa.Table(
    "meta", _schema, sa.Column("key", sa.String, primary_key=True), sa.Column("value", sa.Text)
)
_clips = sa.Table(
    "clips",
    _schema,
    sa.Column("position", sa.Integer, primary_key=True),
    sa.Column("id", sa.String, unique=True, nullable=False),
    sa.Column("batch", sa.Integer, nullable=False),
    sa.Column("row", sa.Integer, nullable=False),
    sa.Column("item", sa.Text, nullable=False),
    sa.Column("sampling", sa.Text, nullable=False),
    sa.Column("state", sa.Integer, nullable=False, default=MISSING),
    sa.Column("cause", sa.Text),
    sa.Column("path", sa.Text),
    sa.Column("member", sa.Text),
    sa.Column("size", sa.Integer),
    sa.Column("file_sha256", sa.String),
    sa.Column("codes_sha256", sa.String),
    sa.Column("num_frames", sa.Integer),
    sa.Column("duration_s", sa.Float),
    sa.Column("settings", sa.Text),
)
_KEPT = ("path", "member", "size", "file_sha256", "codes_sha256", "num_frames", "duration_s")


@dataclass(frozen=True, kw_only=True)
class Record:
    """What is known of one finished clip."""

    id: str
    """Of the clip."""
    path: str
    """Relative to the run's folder: the file, or the shard it is in."""
    member: str | None
    """Its name inside a shard."""
    size: int
    """Bytes of the audio file."""
    file_sha256: str
    """Of those bytes."""
    codes_sha256: str
    """Of the codes it was decoded from."""
    num_frames: int
    """T."""
    duration_s: float
    """Seconds."""
    settings: Mapping[str, Any]
    """As in its tags, without the check bytes; empty where they were not asked for."""


class Store:
    """A run's database. Use it as a context; it may be used from one thread at a time.

    Args:
        folder: of the run.
        create: make it where there is none.

    Raises:
        InputError: there is none, and `create` is False.
    """

    def __init__(self, folder: Path, *, create: bool = False) -> None:
        self.path = folder / FILE
        if not create and not self.path.is_file():
            raise InputError(f"{str(folder)!r} holds no batch: it has no {FILE}")
        url = sa.URL.create("sqlite", database=str(self.path))
        self._engine = sa.create_engine(
            url, poolclass=sa.StaticPool, connect_args={"check_same_thread": False}
        )
        sa.event.listen(self._engine, "connect", _configure)

    def __enter__(self) -> "Store":
        """Hand it out."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self._engine.dispose()

    def write_plan(self, plan: Plan, options: Mapping[str, Any]) -> None:
        """Write a plan in place of what was there, at once or not at all."""
        meta = {
            "format": FORMAT,
            "options": dict(options),
            "plan": {
                "ids": plan.ids if plan.ids != tuple(c.id for c in plan.clips) else None,
                "models": [asdict(model) for model in plan.models],
                "device": plan.device,
                "dtype": plan.dtype,
                "batch_size": plan.batch_size,
                "date": plan.date,
            },
        }
        with self._transaction() as connection:
            _schema.create_all(connection)
            connection.execute(_clips.delete())
            connection.execute(_meta.delete())
            rows = ({
                "position": c.position, "id": c.id, "batch": c.batch, "row": c.row,
                "item": json.dumps(c.item.to_json()), "sampling": json.dumps(asdict(c.sampling)),
            } for c in plan.clips)  # fmt: skip
            for block in _blocks(rows, 5000):
                connection.execute(_clips.insert(), block)
            pairs = [{"key": k, "value": json.dumps(v)} for k, v in meta.items()]
            connection.execute(_meta.insert(), pairs)

    def read_plan(self) -> tuple[Plan, dict[str, Any]] | None:
        """Read the plan and the run's options; None where none was written yet.

        Raises:
            InputError: it is of another format.
        """
        with self._transaction() as connection:
            if not sa.inspect(connection).has_table("meta"):
                return None
            meta = {k: json.loads(v) for k, v in connection.execute(sa.select(_meta))}
            if "plan" not in meta:
                return None
            if meta["format"] != FORMAT:
                raise InputError(
                    f"{self.path} is of format {meta['format']}, this version reads {FORMAT}: "
                    "update musicgen-rl, or use another folder"
                )
            columns = [_clips.c[n] for n in ("id", "item", "sampling", "batch", "row", "position")]
            found = connection.execute(sa.select(*columns).order_by(_clips.c.position))
            clips = tuple(
                PlannedClip(
                    id=id, item=Item.from_json(json.loads(item)),
                    sampling=SamplingConfig(**json.loads(sampling)), batch=batch, row=row,
                    position=position,
                )
                for id, item, sampling, batch, row, position in found
            )  # fmt: skip
        about = meta["plan"]
        ids = tuple(about.pop("ids") or (clip.id for clip in clips))
        models = tuple(ModelIdentity(**model) for model in about.pop("models"))
        return Plan(clips=clips, ids=ids, models=models, **about), meta["options"]

    def write_items(self, clips: Iterable[PlannedClip]) -> None:
        """Write some clips' items in place of what was there, at once or not at all."""
        rows = [{"of": clip.id, "item": json.dumps(clip.item.to_json())} for clip in clips]
        update = _clips.update().where(_clips.c.id == sa.bindparam("of"))
        with self._transaction() as connection:
            if rows:
                connection.execute(update.values(item=sa.bindparam("item")), rows)

    def states(self) -> dict[str, int]:
        """Return the state of every clip: MISSING, DONE or FAILED."""
        with self._transaction() as connection:
            found = connection.execute(sa.select(_clips.c.id, _clips.c.state))
            return {row.id: row.state for row in found}

    def failures(self) -> dict[str, str]:
        """Return the causes of the clips that failed, by id, in the plan's order."""
        query = sa.select(_clips.c.id, _clips.c.cause).where(_clips.c.state == FAILED)
        with self._transaction() as connection:
            found = connection.execute(query.order_by(_clips.c.position))
            return {row.id: row.cause for row in found}

    def records(
        self, ids: Iterable[str] | None = None, *, settings: bool = True
    ) -> Iterator[Record]:
        """Yield what is known of finished clips, in the plan's order.

        Args:
            ids: some of them; all where None.
            settings: whether to read these, most of the bytes.
        """
        columns = [_clips.c.id, *(_clips.c[name] for name in _KEPT)]
        columns += [_clips.c.settings] if settings else []
        query = sa.select(*columns).where(_clips.c.state == DONE).order_by(_clips.c.position)
        blocks = [None] if ids is None else _blocks(ids, _BLOCK)
        for block in blocks:
            with self._transaction() as connection:
                some = query if block is None else query.where(_clips.c.id.in_(block))
                found = [dict(row) for row in connection.execute(some).mappings()]
            for row in found:
                row["settings"] = json.loads(row.get("settings") or "{}")
                yield Record(**row)

    def record(self, records: Iterable[Record], failed: Mapping[str, str]) -> None:
        """Write down what came of some clips, at once or not at all.

        Args:
            records: of those whose files are in place.
            failed: id -> cause.
        """
        done = [
            {
                "of": r.id, "state": DONE, "cause": None,
                "settings": json.dumps(dict(r.settings), ensure_ascii=False),
                **{name: getattr(r, name) for name in _KEPT},
            }
            for r in records
        ]  # fmt: skip
        lost = [{"of": id, "state": FAILED, "cause": cause} for id, cause in failed.items()]
        with self._transaction() as connection:
            for rows in (done, lost):
                if rows:
                    update = _clips.update().where(_clips.c.id == sa.bindparam("of"))
                    names = [name for name in rows[0] if name != "of"]
                    update = update.values({name: sa.bindparam(name) for name in names})
                    connection.execute(update, rows)

    def move(self, ids: Iterable[str], path: str, members: Mapping[str, str]) -> None:
        """Say that finished clips now lie in a shard, under the names `members`."""
        rows = [{"of": id, "to": path, "as": members[id]} for id in ids]
        update = _clips.update().where(_clips.c.id == sa.bindparam("of"))
        update = update.values(path=sa.bindparam("to"), member=sa.bindparam("as"))
        with self._transaction() as connection:
            if rows:
                connection.execute(update, rows)

    def forget(self, ids: Iterable[str]) -> None:
        """Make clips missing again."""
        with self._transaction() as connection:
            for block in _blocks(ids, _BLOCK):
                update = _clips.update().where(_clips.c.id.in_(block))
                connection.execute(update.values(state=MISSING, cause=None))

    @contextmanager
    def _transaction(self) -> Iterator[sa.Connection]:
        try:
            with self._engine.begin() as connection:
                yield connection
        except OperationalError as error:
            reason = str(error.orig)
            way_out = "free some space and start again" if "full" in reason else "check the folder"
            raise StorageError(f"cannot use {str(self.path)!r}: {reason}; {way_out}") from error
        except DatabaseError as error:
            raise StorageError(
                f"{str(self.path)!r} is damaged ({error.orig}): move it away; the same command "
                "then makes the clips anew"
            ) from error


def _configure(connection: Any, _record: object) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    # NORMAL: a power cut may take the last records, never a part of one; their clips are then made
    # again, over the same files. A kill takes none.
    cursor.execute("PRAGMA synchronous=NORMAL")
    cursor.execute("PRAGMA busy_timeout=10000")
    cursor.close()


def _blocks(values: Iterable[Any], size: int) -> Iterator[list[Any]]:
    block: list[Any] = []
    for value in values:
        block.append(value)
        if len(block) == size:
            yield block
            block = []
    if block:
        yield block
