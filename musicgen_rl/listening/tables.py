"""The database's tables, and how it is opened: an acknowledged answer is on the disk."""

from typing import Any

from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    Engine,
    Float,
    Integer,
    MetaData,
    String,
    Table,
    UniqueConstraint,
    create_engine,
    event,
)
from sqlalchemy.exc import ArgumentError, NoSuchModuleError

from musicgen_rl.errors import ConfigError

BUSY_TIMEOUT_MS = 30_000
"""How long a transaction of SQLite waits for the one before it."""
metadata = MetaData()

studies = Table(
    "study",
    metadata,
    Column("id", Integer, primary_key=True),  # always 1
    Column("plan", String(64), nullable=False),
    Column("secret", String(64), nullable=False),
    Column("simulated", Boolean, nullable=False),
    Column("opened_at", Float, nullable=False),
    Column("stopped_at", Float),
)
invitations = Table(
    "invitations",
    metadata,
    Column("token", String(64), primary_key=True),  # its hash
    Column("slot", Integer, nullable=False),
    Column("made_at", Float, nullable=False),
    Column("expires_at", Float, nullable=False),
    Column("used_at", Float),
    Column("used_by", String(64)),  # hash of the one-time value of the page that used it
)
raters = Table(
    "raters",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("key", String(64), nullable=False, unique=True),  # hash of the personal link
    Column("code", String(16), nullable=False, unique=True),  # to ask for deletion by
    Column("slot", Integer, nullable=False),
    Column("agreed_at", Float, nullable=False),
    Column("headphones", String(16)),
)
shown = Table(
    "shown",
    metadata,
    Column("rater", Integer, primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("at", Float, nullable=False),
)
answers = Table(
    "answers",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("rater", Integer, nullable=False),
    Column("position", Integer, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("submission", String(64), nullable=False),
    Column("answer_values", JSON, nullable=False),
    Column("plays", JSON, nullable=False),
    Column("shown_order", JSON, nullable=False),  # hashes of the clips, player by player
    Column("shown_at", Float, nullable=False),
    Column("received_at", Float, nullable=False),
    UniqueConstraint("rater", "position", "revision"),
    UniqueConstraint("rater", "submission"),
)
events = Table(
    "events",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("at", Float, nullable=False),
    Column("what", String(40), nullable=False),
    Column("detail", String(400), nullable=False),
)


def open_engine(url: str) -> Engine:
    """Connect to a database.

    Args:
        url: SQLAlchemy's, for example sqlite:////path/answers.sqlite or
            postgresql+psycopg://user@host/name.

    Raises:
        ConfigError: the URL or the driver is not usable.
    """
    try:
        engine = create_engine(url, pool_pre_ping=not url.startswith("sqlite"))
    except (ArgumentError, NoSuchModuleError, ValueError):
        raise ConfigError(
            "the database URL cannot be read: give one such as postgresql+psycopg://user@host/name"
        ) from None
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"this database needs the package {error.name!r}: pip install it"
        ) from None
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _set_up_sqlite)
        event.listen(engine, "begin", _begin_writing)
    return engine


def _set_up_sqlite(connection: Any, _record: Any) -> None:
    """Write ahead, wait for the disk at every commit, and wipe what is deleted."""
    connection.isolation_level = None  # SQLAlchemy begins, below
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=FULL", f"busy_timeout={BUSY_TIMEOUT_MS}",
                   "secure_delete=ON", "foreign_keys=ON"):  # fmt: skip
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_writing(connection: Any) -> None:
    """Take the write lock at once: two writers wait for each other instead of failing midway."""
    connection.exec_driver_sql("BEGIN IMMEDIATE")
