"""Where answers live: stored once, never overwritten, and known to be there when acknowledged."""

import hashlib
import hmac
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from musicgen_rl.errors import InputError, StorageError
from musicgen_rl.listening.database import DATABASE, Database, store_url, withdrawal
from musicgen_rl.listening.tables import answers, invitations, raters, shown

INVITATION_DAYS = 30.0
"""How long an invitation may wait; whoever has begun goes on by the personal link."""

__all__ = ["DATABASE", "Answer", "Rater", "Store", "store_url", "withdrawal"]

_UNKNOWN = "this invitation is not known: please check the link"
_USED = (
    "this invitation was used already: go on with your personal link, or ask for a new invitation"
)
_EXPIRED = "this invitation has expired: ask for a new one"


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


class Store(Database):
    """The raters' side: invitations, people and their answers; made and opened as `Database`."""

    # Invitations and raters

    def invite(self, slots: Sequence[int], days: float = INVITATION_DAYS) -> list[str]:
        """Make single-use tokens, one a slot; only their hashes are kept.

        Args:
            slots: the sessions they lead to.
            days: after which an unused one expires.

        Returns:
            The tokens, in order: shown once.

        Raises:
            InputError: the study has ended, or was planned anew.
        """
        if self.stopped_at is not None:
            raise InputError("the study has ended: an invitation would open nothing")
        now = self.clock()
        tokens = [secrets.token_urlsafe(18) for _ in slots]
        rows = [
            {"token": _hash(token), "slot": slot, "made_at": now, "expires_at": now + 86400 * days}
            for token, slot in zip(tokens, slots, strict=True)
        ]
        if rows:
            with self._engine.begin() as connection:
                self._require_plan(connection)
                connection.execute(insert(invitations), rows)
                self._log(connection, "invited", f"{len(rows)} invitations")
        return tokens

    def next_slots(self, count: int, slots: int) -> list[int]:
        """Choose slots for new invitations: those with the fewest so far.

        Invitations that expired unused, and those of raters who were deleted, count no more: their
        sessions are given to somebody else.
        """
        in_use = invitations.c.used_by.is_not(None)
        waiting = invitations.c.used_at.is_(None) & (invitations.c.expires_at > self.clock())
        query = select(invitations.c.slot).where(in_use | waiting)
        with self._engine.begin() as connection:
            taken = [row.slot for row in connection.execute(query)]
        load = {slot: taken.count(slot) for slot in range(slots)}
        chosen = []
        for _ in range(count):
            slot = min(load, key=lambda s: (load[s], s))
            load[slot] += 1
            chosen.append(slot)
        return chosen

    def require_invitation(self, token: str) -> None:
        """Hold that a token can be used; looking uses nothing up.

        Raises:
            InputError: it is unknown, used, or expired, or the study has ended.
        """
        with self._engine.begin() as connection:
            self._require_open(connection)
            row = connection.execute(
                select(invitations).where(invitations.c.token == _hash(token))
            ).one_or_none()
        if row is None:
            raise InputError(_UNKNOWN)
        if row.used_at is not None:
            raise InputError(_USED)
        if row.expires_at <= self.clock():
            raise InputError(_EXPIRED)

    def agree(self, token: str, nonce: str) -> str:
        """Use an invitation.

        Args:
            token: single-use.
            nonce: one-time value of the page; the same one again, after a lost reply, gets the
                same personal key.

        Returns:
            The personal key, which is kept as a hash only.

        Raises:
            InputError: the token is unknown, expired, or used by somebody else; the study has
                ended.
        """
        key = self.mac("rater", token, nonce)
        with self._engine.begin() as connection:
            self._require_open(connection)
            row = connection.execute(
                select(invitations).where(invitations.c.token == _hash(token)).with_for_update()
            ).one_or_none()
            if row is None:
                raise InputError(_UNKNOWN)
            if row.used_at is not None:
                if hmac.compare_digest(str(row.used_by), _hash(nonce)):
                    return key
                raise InputError(_USED)
            now = self.clock()
            if row.expires_at <= now:
                raise InputError(_EXPIRED)
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


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _answer(row: Any) -> Answer:
    return Answer(
        row.rater, row.position, row.revision, row.submission, row.answer_values, row.plays,
        row.shown_order, row.shown_at, row.received_at,
    )  # fmt: skip
