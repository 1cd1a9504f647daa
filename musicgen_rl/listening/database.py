"""The database of a study: opening it, its secret, and the owner's side."""

import hmac
import secrets
import sqlite3
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select, text, update
from sqlalchemy.exc import OperationalError

from musicgen_rl.errors import InputError, StorageError
from musicgen_rl.listening.tables import (
    BUSY_TIMEOUT_MS,
    answers,
    events,
    invitations,
    metadata,
    open_engine,
    raters,
    shown,
    studies,
)

DATABASE = "answers.sqlite"
WIPE_PATIENCE_S = 20.0
"""How long others may keep SQLite from taking what was deleted out of its files."""
_TRACES = "traces remain"


@dataclass(frozen=True)
class Deleted:
    """What a deletion did."""

    raters: int
    answers: int
    wiped: bool
    """Whether no trace is left in SQLite's files; False where another program kept it from that,
    and the next deletion tries again. Always True for other databases: their own VACUUM does it."""


def store_url(folder: Path, url: str | None = None) -> str:
    """Choose the database: the study folder's own file unless a URL is given."""
    return url or f"sqlite:///{(folder / DATABASE).resolve()}"


def withdrawal(count: int) -> str:
    """Say that invitations were withdrawn."""
    noun = "invitation is" if count == 1 else "invitations are"
    return (
        f"{count} unused {noun} withdrawn, because the new plan has fewer "
        "sessions: such a link is not known any more; tell whoever has one"
    )


_OF_NOBODY = invitations.c.used_at.is_not(None) & invitations.c.used_by.is_(None)
"""Invitations of raters who were deleted."""


class Database:
    """What holds one study; one object serves all threads of a process.

    Args:
        url: SQLAlchemy's; see `store_url`.
        plan: hash of the frozen plan.
        slots: how many sessions the plan has. Where nobody took part yet and the plan is another
            one, unused invitations to these stay, and all others are withdrawn.
        simulated: whether no people take part; set when the database is made.
        clock: seconds since 1970.

    Raises:
        InputError: the database holds answers to another plan.
        StorageError: it cannot be opened.
    """

    def __init__(
        self,
        url: str,
        plan: str,
        *,
        slots: int = 0,
        simulated: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.clock = clock
        self.withdrawn = 0
        """How many invitations that could still be used were withdrawn at the opening."""
        self._plan = plan
        self._engine = open_engine(url)
        try:
            metadata.create_all(self._engine)
            with self._engine.begin() as connection:
                self._open(connection, plan, slots, simulated)
                row = connection.execute(select(studies)).one()
        except OperationalError as error:
            raise StorageError(f"the database cannot be opened: {error.orig}") from error
        self.simulated = bool(row.simulated)
        self._secret = bytes.fromhex(row.secret)

    def _open(self, connection: Connection, plan: str, slots: int, simulated: bool) -> None:
        row = connection.execute(select(studies)).one_or_none()
        if row is None:
            values = {
                "id": 1, "plan": plan, "secret": secrets.token_hex(32), "simulated": simulated,
                "opened_at": self.clock(),
            }  # fmt: skip
            connection.execute(insert(studies).values(values))
            return
        if row.plan == plan:
            return
        if connection.execute(select(func.count()).select_from(raters)).scalar_one():
            raise InputError(
                "the study was changed after people took part: bring study.yaml back to what it "
                "was, or make a new study in another folder"
            )
        connection.execute(update(studies).values(plan=plan))
        gone = invitations.c.slot >= slots
        usable = invitations.c.used_at.is_(None) & (invitations.c.expires_at > self.clock())
        self.withdrawn = connection.execute(
            select(func.count()).select_from(invitations).where(gone & usable)
        ).scalar_one()
        connection.execute(delete(invitations).where(gone | invitations.c.used_at.is_not(None)))
        if self.withdrawn:
            detail = f"{self.withdrawn}, the new plan has {slots} sessions"
            self._log(connection, "invitations withdrawn", detail)

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    def mac(self, *parts: object) -> str:
        """Derive an unguessable name, the same for the same parts in the same study."""
        text = "\x00".join(map(str, parts))
        return hmac.new(self._secret, text.encode(), "sha256").hexdigest()[:32]

    def stop(self) -> None:
        """End the study: no answer is taken any more."""
        with self._engine.begin() as connection:
            query = update(studies).where(studies.c.stopped_at.is_(None))
            connection.execute(query.values(stopped_at=self.clock()))
            self._log(connection, "stopped", "")

    @property
    def stopped_at(self) -> float | None:
        """When the study ended, or None."""
        with self._engine.begin() as connection:
            at = connection.execute(select(studies.c.stopped_at)).scalar_one()
        return None if at is None else float(at)

    def progress(self, now: float | None = None) -> dict[str, Any]:
        """Count invitations, people and answers; nothing here tells what was answered.

        Args:
            now: the clock's time if None.

        Returns:
            invited, agreed (those deleted since are not counted), deleted, answers (corrections
            not counted), per_rater: id, slot, answered trials, result of the headphone check and
            hours since the last answer.
        """
        now = self.clock() if now is None else now
        per = (
            select(
                answers.c.rater,
                func.count(func.distinct(answers.c.position)).label("answered"),
                func.max(answers.c.received_at).label("last"),
            )
            .group_by(answers.c.rater)
        )  # fmt: skip
        with self._engine.begin() as connection:
            invited = connection.execute(select(func.count()).select_from(invitations)).scalar_one()
            gone = connection.execute(
                select(func.count()).select_from(invitations).where(_OF_NOBODY)
            ).scalar_one()
            people = connection.execute(select(raters).order_by(raters.c.id)).all()
            counts = {row.rater: row for row in connection.execute(per)}
        found = []
        for person in people:
            row = counts.get(person.id)
            last = row.last if row else person.agreed_at
            found.append(
                {
                    "rater": person.id,
                    "slot": person.slot,
                    "answered": row.answered if row else 0,
                    "headphones": person.headphones or "",
                    "hours_since": round(max(0.0, now - last) / 3600, 2),
                }
            )
        return {
            "invited": invited,
            "agreed": len(people),
            "deleted": gone,
            "answers": sum(entry["answered"] for entry in found),
            "per_rater": found,
        }

    def log(self, what: str, detail: str = "") -> None:
        """Note something that was done to the study."""
        with self._engine.begin() as connection:
            self._log(connection, what, detail)

    def events(self) -> list[dict[str, Any]]:
        """Read what was done to the study."""
        with self._engine.begin() as connection:
            rows = connection.execute(select(events).order_by(events.c.id)).all()
        return [{"at": row.at, "what": row.what, "detail": row.detail} for row in rows]

    def delete_rater(self, code: str) -> Deleted:
        """Delete all of one rater, on request.

        Args:
            code: the one shown on the rater's page.

        Raises:
            InputError: there is no such rater.
        """
        with self._engine.begin() as connection:
            rows = connection.execute(
                select(raters).where(raters.c.code == code.strip().lower())
            ).all()
            if not rows:
                raise InputError(f"there is no rater with the code {code!r}: ask for the right one")
            gone = self._delete(connection, rows)
            self._log(connection, "rater deleted", "on request")
        return Deleted(1, gone, self._wipe())

    def delete_expired(self, days: float) -> Deleted:
        """Delete all of the raters who began longer ago than the retention time.

        Also tries again to remove traces that an earlier deletion had to leave. Simulated raters
        are nobody's data: they stay.

        Args:
            days: the retention time, from when each rater agreed.
        """
        due = self.clock() - 86400 * days
        with self._engine.begin() as connection:
            rows = connection.execute(select(raters).where(raters.c.agreed_at <= due)).all()
            rows = [] if self.simulated else rows
            gone = self._delete(connection, rows)
            if rows:
                self._log(connection, "raters deleted", f"{len(rows)}, the retention time is over")
            traces = connection.execute(
                select(func.count()).select_from(events).where(events.c.what == _TRACES)
            ).scalar_one()
        return Deleted(len(rows), gone, self._wipe() if traces else True)

    def first_expiry(self, days: float) -> float | None:
        """Tell when the first rater's retention time is over; None if nobody's data are stored.

        Args:
            days: the retention time.

        Returns:
            Seconds since 1970.
        """
        if self.simulated:
            return None
        with self._engine.begin() as connection:
            first = connection.execute(select(func.min(raters.c.agreed_at))).scalar_one()
        return None if first is None else float(first) + 86400 * days

    def forget(self) -> Deleted:
        """Delete everything about all raters, and all invitations."""
        with self._engine.begin() as connection:
            gone = connection.execute(select(func.count()).select_from(raters)).scalar_one()
            lost = connection.execute(delete(answers)).rowcount
            for table in (shown, raters, invitations):
                connection.execute(delete(table))
            self._log(connection, "all raters deleted", f"{gone} raters")
            self._log(connection, _TRACES, "")
        return Deleted(int(gone), int(lost), self._wipe())

    def _delete(self, connection: Connection, rows: Sequence[Any]) -> int:
        """Delete raters; returns how many answers went."""
        gone = 0
        for row in rows:
            gone += connection.execute(delete(answers).where(answers.c.rater == row.id)).rowcount
            connection.execute(delete(shown).where(shown.c.rater == row.id))
            connection.execute(delete(raters).where(raters.c.id == row.id))
            connection.execute(  # it stays used, but no longer tells when, or by which page
                update(invitations)
                .where(invitations.c.slot == row.slot, invitations.c.used_at == row.agreed_at)
                .values(used_at=invitations.c.made_at, used_by=None)
            )
        if rows:  # until the wiping has worked, also if the program is killed before it
            self._log(connection, _TRACES, "")
        return gone

    def _wipe(self) -> bool:
        """Take what was deleted out of SQLite's log and file too.

        Returns:
            Whether that was done; others who read or write at the time can prevent it.
        """
        if self._engine.dialect.name == "sqlite" and not self._wipe_sqlite():
            return False
        with self._engine.begin() as connection:
            connection.execute(delete(events).where(events.c.what == _TRACES))
        return True

    def _wipe_sqlite(self) -> bool:
        end = time.monotonic() + WIPE_PATIENCE_S
        raw = self._engine.raw_connection()
        cursor = raw.cursor()
        try:
            cursor.execute("PRAGMA busy_timeout=500")
            while True:
                try:
                    cursor.execute("VACUUM")  # a file of what is left
                    # Busy, frames in the log, frames brought over: busy is no error, but a 1.
                    busy = cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
                except sqlite3.OperationalError:
                    busy = 1
                if not busy:
                    return True
                if time.monotonic() >= end:
                    return False
                time.sleep(0.05)
        finally:
            cursor.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
            cursor.close()
            raw.close()

    def check(self) -> str:
        """Ask the database whether its file is whole; "ok" if so."""
        if self._engine.dialect.name != "sqlite":
            return "ok"
        with self._engine.begin() as connection:
            return str(connection.execute(text("PRAGMA integrity_check")).scalar_one())

    def _log(self, connection: Connection, what: str, detail: str) -> None:
        connection.execute(
            insert(events).values(at=self.clock(), what=what[:40], detail=detail[:400])
        )

    def _require_plan(self, connection: Connection) -> None:
        """Hold that nobody froze another plan since the database was opened here."""
        if connection.execute(select(studies.c.plan)).scalar_one() != self._plan:
            raise InputError(
                "this study was planned anew: whoever leads it has to start the server again"
            )

    def _require_open(self, connection: Connection) -> None:
        self._require_plan(connection)
        if connection.execute(select(studies.c.stopped_at)).scalar_one() is not None:
            raise InputError("this study has ended: thank you for your interest")
