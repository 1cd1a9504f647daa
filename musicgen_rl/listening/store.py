"""Where answers live: stored once, never overwritten, and known to be there when acknowledged."""

import hashlib
import hmac
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select, text, update
from sqlalchemy.exc import IntegrityError, OperationalError

from musicgen_rl.errors import InputError, StorageError
from musicgen_rl.listening.tables import (
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


@dataclass(frozen=True)
class Rater:
    """Someone who agreed to take part."""

    id: int
    slot: int
    code: str
    """To ask for deletion by; opens nothing."""
    headphones: str | None


@dataclass(frozen=True)
class Answer:
    """One stored row."""

    rater: int
    position: int
    revision: int
    submission: str
    values: dict[str, Any]
    plays: list[dict[str, Any]]
    shown_order: list[list[str]]
    shown_at: float
    received_at: float


class Store:
    """The database of one study; one object serves all threads of a process.

    Args:
        url: SQLAlchemy's; see `store_url`.
        plan: hash of the frozen plan.
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
        simulated: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.clock = clock
        self._engine = open_engine(url)
        try:
            metadata.create_all(self._engine)
            with self._engine.begin() as connection:
                self._open(connection, plan, simulated)
                row = connection.execute(select(studies)).one()
        except OperationalError as error:
            raise StorageError(f"the database cannot be opened: {error.orig}") from error
        self.simulated = bool(row.simulated)
        self._secret = bytes.fromhex(row.secret)

    def _open(self, connection: Connection, plan: str, simulated: bool) -> None:
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
        connection.execute(delete(invitations))  # their slots may not exist any more

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    def mac(self, *parts: object) -> str:
        """Derive an unguessable name, the same for the same parts in the same study."""
        text = "\x00".join(map(str, parts))
        return hmac.new(self._secret, text.encode(), "sha256").hexdigest()[:32]

    # Invitations and raters

    def invite(self, slots: Sequence[int]) -> list[str]:
        """Make single-use tokens, one a slot; only their hashes are kept.

        Returns:
            The tokens, in order: shown once.
        """
        tokens = [secrets.token_urlsafe(18) for _ in slots]
        rows = [
            {"token": _hash(token), "slot": slot, "made_at": self.clock()}
            for token, slot in zip(tokens, slots, strict=True)
        ]
        if rows:
            with self._engine.begin() as connection:
                connection.execute(insert(invitations), rows)
                self._log(connection, "invited", f"{len(rows)} invitations")
        return tokens

    def next_slots(self, count: int, slots: int) -> list[int]:
        """Choose slots for new invitations: those with the fewest invitations so far."""
        with self._engine.begin() as connection:
            taken = [row.slot for row in connection.execute(select(invitations.c.slot))]
        load = {slot: taken.count(slot) for slot in range(slots)}
        chosen = []
        for _ in range(count):
            slot = min(load, key=lambda s: (load[s], s))
            load[slot] += 1
            chosen.append(slot)
        return chosen

    def invitation(self, token: str) -> str:
        """Tell whether a token is "open", "used" or "unknown"."""
        with self._engine.begin() as connection:
            row = connection.execute(
                select(invitations).where(invitations.c.token == _hash(token))
            ).one_or_none()
        return "unknown" if row is None else "used" if row.used_at is not None else "open"

    def agree(self, token: str, nonce: str) -> str:
        """Use an invitation.

        Args:
            token: single-use.
            nonce: one-time value of the page; the same one again, after a lost reply, gets the
                same personal key.

        Returns:
            The personal key, which is kept as a hash only.

        Raises:
            InputError: the token is unknown, or used by somebody else; the study has ended.
        """
        key = self.mac("rater", token, nonce)
        with self._engine.begin() as connection:
            self._require_open(connection)
            row = connection.execute(
                select(invitations).where(invitations.c.token == _hash(token)).with_for_update()
            ).one_or_none()
            if row is None:
                raise InputError("this invitation is not known: please check the link")
            if row.used_at is not None:
                if hmac.compare_digest(str(row.used_by), _hash(nonce)):
                    return key
                raise InputError(
                    "this invitation was used already: go on with your personal link, or ask for "
                    "a new invitation"
                )
            now = self.clock()
            connection.execute(
                update(invitations)
                .where(invitations.c.token == _hash(token))
                .values(used_at=now, used_by=_hash(nonce))
            )
            connection.execute(
                insert(raters).values(
                    key=_hash(key), code=secrets.token_hex(4), slot=row.slot, agreed_at=now
                )
            )
        return key

    def rater(self, key: str) -> Rater:
        """Find who a personal key belongs to.

        Raises:
            InputError: nobody.
        """
        with self._engine.begin() as connection:
            row = connection.execute(select(raters).where(raters.c.key == _hash(key))).one_or_none()
        if row is None:
            raise InputError("this personal link is not known: please check it")
        return Rater(row.id, row.slot, row.code, row.headphones)

    def raters(self) -> list[Rater]:
        """List everybody who agreed."""
        with self._engine.begin() as connection:
            rows = connection.execute(select(raters).order_by(raters.c.id)).all()
        return [Rater(row.id, row.slot, row.code, row.headphones) for row in rows]

    def set_headphones(self, rater: Rater, result: str) -> None:
        """Store the headphone check's result: passed, failed or skipped."""
        with self._engine.begin() as connection:
            self._require_open(connection)
            connection.execute(
                update(raters).where(raters.c.id == rater.id).values(headphones=result)
            )

    # Answers

    def show(self, rater: Rater, position: int) -> float:
        """Note when a page was first shown.

        Returns:
            That time, seconds since 1970.
        """
        where = (shown.c.rater == rater.id) & (shown.c.position == position)
        try:
            with self._engine.begin() as connection:
                row = connection.execute(select(shown).where(where)).one_or_none()
                if row is not None:
                    return float(row.at)
                now = self.clock()
                connection.execute(insert(shown).values(rater=rater.id, position=position, at=now))
                return now
        except IntegrityError:  # another request of the same rater was faster
            with self._engine.begin() as connection:
                return float(connection.execute(select(shown.c.at).where(where)).scalar_one())

    def shown_at(self, rater: Rater, position: int) -> float | None:
        """Look up when a page was first shown; None if it never was."""
        where = (shown.c.rater == rater.id) & (shown.c.position == position)
        with self._engine.begin() as connection:
            return connection.execute(select(shown.c.at).where(where)).scalar_one_or_none()

    def add(
        self,
        rater: Rater,
        position: int,
        submission: str,
        values: Mapping[str, Any],
        plays: Sequence[Mapping[str, Any]],
        shown_order: Sequence[Sequence[str]],
        *,
        corrects: int | None = None,
    ) -> Answer:
        """Store an answer; when this returns, it is on the disk.

        Args:
            rater: who.
            position: of the trial in the session.
            submission: one-time value of the sender; the same one again returns the stored row.
            values: checked.
            plays: checked.
            shown_order: hashes of the clips, player by player.
            corrects: revision that this one corrects; it becomes a row of its own.

        Returns:
            The stored row.

        Raises:
            InputError: the trial has an answer already and this is no correction of its last
                revision; the page was never shown; the study has ended.
        """
        for _ in range(3):  # two equal posts at once: the later one finds the earlier one's row
            try:
                with self._engine.begin() as connection:
                    return self._add(connection, rater, position, submission, values, plays,
                                     shown_order, corrects)  # fmt: skip
            except IntegrityError:
                continue
        raise StorageError("the answer could not be stored: please send it again")

    def _add(
        self,
        connection: Connection,
        rater: Rater,
        position: int,
        submission: str,
        values: Mapping[str, Any],
        plays: Sequence[Mapping[str, Any]],
        shown_order: Sequence[Sequence[str]],
        corrects: int | None,
    ) -> Answer:
        mine = answers.c.rater == rater.id
        same = connection.execute(
            select(answers).where(mine & (answers.c.submission == submission))
        ).one_or_none()
        if same is not None:
            if same.position != position or same.answer_values != dict(values):
                raise InputError("another answer was sent under the same number: reload the page")
            return _answer(same)
        self._require_open(connection)
        last = connection.execute(
            select(func.max(answers.c.revision)).where(mine & (answers.c.position == position))
        ).scalar_one()
        if last != corrects:
            raise InputError(
                "this trial has no such answer to correct: reload the page"
                if last is None
                else "this trial is answered already: reload the page to go on"
            )
        at = connection.execute(
            select(shown.c.at).where((shown.c.rater == rater.id) & (shown.c.position == position))
        ).scalar_one_or_none()
        if at is None:
            raise InputError("this trial was not shown yet: reload the page")
        row = {
            "rater": rater.id, "position": position, "revision": 0 if last is None else last + 1,
            "submission": submission, "answer_values": dict(values),
            "plays": [dict(play) for play in plays],
            "shown_order": [list(player) for player in shown_order], "shown_at": at,
            "received_at": self.clock(),
        }  # fmt: skip
        connection.execute(insert(answers).values(row))
        return Answer(values=row.pop("answer_values"), **row)

    def answers(self, rater: Rater | None = None) -> list[Answer]:
        """Read all rows, corrections included, in the order they came."""
        query = select(answers).order_by(answers.c.id)
        if rater is not None:
            query = query.where(answers.c.rater == rater.id)
        with self._engine.begin() as connection:
            return [_answer(row) for row in connection.execute(query)]

    def last_revisions(self, rater: Rater) -> dict[int, int]:
        """Tell which trials a rater has answered: position -> last revision."""
        query = (
            select(answers.c.position, func.max(answers.c.revision))
            .where(answers.c.rater == rater.id)
            .group_by(answers.c.position)
        )
        with self._engine.begin() as connection:
            return {row[0]: row[1] for row in connection.execute(query)}

    # The owner's side

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
            invited, agreed, answers (corrections not counted), last_answer_at, per_rater: id,
            slot, answered trials and hours since the last one.
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

    def delete_rater(self, code: str) -> int:
        """Delete all of one rater, on request.

        Args:
            code: the one shown on the rater's page.

        Returns:
            How many answers went.

        Raises:
            InputError: there is no such rater.
        """
        with self._engine.begin() as connection:
            row = connection.execute(
                select(raters.c.id).where(raters.c.code == code.strip().lower())
            ).one_or_none()
            if row is None:
                raise InputError(f"there is no rater with the code {code!r}: ask for the right one")
            gone = connection.execute(delete(answers).where(answers.c.rater == row.id)).rowcount
            connection.execute(delete(shown).where(shown.c.rater == row.id))
            connection.execute(delete(raters).where(raters.c.id == row.id))
            self._log(connection, "rater deleted", "on request")
        self._wipe()
        return int(gone)

    def forget(self) -> int:
        """Delete everything about all raters, when the retention time is over.

        Returns:
            How many raters went.
        """
        with self._engine.begin() as connection:
            gone = connection.execute(select(func.count()).select_from(raters)).scalar_one()
            for table in (answers, shown, raters, invitations):
                connection.execute(delete(table))
            self._log(connection, "all raters deleted", f"{gone} raters")
        self._wipe()
        return int(gone)

    def _wipe(self) -> None:
        """Take what was deleted out of SQLite's log and file too."""
        if self._engine.dialect.name != "sqlite":
            return
        raw = self._engine.raw_connection()
        try:
            cursor = raw.cursor()
            cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            cursor.execute("VACUUM")
            cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            cursor.close()
        finally:
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

    def _require_open(self, connection: Connection) -> None:
        if connection.execute(select(studies.c.stopped_at)).scalar_one() is not None:
            raise InputError("this study has ended: thank you for your interest")


def store_url(folder: Path, url: str | None = None) -> str:
    """Choose the database: the study folder's own file unless a URL is given."""
    return url or f"sqlite:///{(folder / DATABASE).resolve()}"


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _answer(row: Any) -> Answer:
    return Answer(
        row.rater, row.position, row.revision, row.submission, row.answer_values, row.plays,
        row.shown_order, row.shown_at, row.received_at,
    )  # fmt: skip
