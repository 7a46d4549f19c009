"""The audit log: entries that are numbered from 1, each with the hash of the one before.

A changed entry, or one that is missing in the middle, breaks the chain. Missing entries at the end do not: the journal
says how many entries there must be. Nor does a chain written anew from its beginning: it differs from the head that an
earlier verification has noted. Who can write in the log can change journal and note too: the alert AuditLogRewritten
compares with what the metrics said.
"""

import hashlib
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, func, insert, select, text, update

from gateway.trading.outbox import Entry
from gateway.trading.tables import audit_checks, audit_log, journal
from servicekit.database import Database, insert_once, stored_bytes, stored_text

from .audit_facts import write_facts

#: what the first entry has for the hash of the one before
GENESIS = "0" * 64
#: entries that are verified at once
PAGE = 1000


@dataclass(frozen=True, slots=True)
class Recorded:
    """An entry of the log."""

    n: int
    #: the JSON text that was hashed
    entry: str
    previous: str
    hash: str


@dataclass(frozen=True, slots=True)
class Head:
    """The end of the chain."""

    n: int
    hash: str


@dataclass(frozen=True, slots=True)
class Verification:
    """Whether the chain holds from the first entry to the head."""

    head: Head
    #: number and fault of the first entry that does not fit; None if all do
    broken_at: int | None = None
    fault: str | None = None


@dataclass(frozen=True, slots=True)
class Verified:
    """What the latest verification that was noted has found, and when."""

    at: datetime
    found: Verification


START = Head(0, GENESIS)


class AuditLog:
    """Each method is one transaction, and raises DatabaseUnavailableError."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def append(self, entries: list[Entry]) -> None:
        """Append those entries that are not in the log yet."""
        with self._database.write() as connection:
            if connection.dialect.name == "postgresql":  # one writer at a time; readers go on
                connection.execute(text("LOCK TABLE audit_entries IN EXCLUSIVE MODE"))
            ids = [entry.event_id for entry in entries]
            known = set(connection.scalars(select(audit_log.c.event_id).where(audit_log.c.event_id.in_(ids))))
            head, rows = _head(connection), []
            for entry in entries:
                if entry.event_id not in known:
                    row = _next(head, entry)
                    head = Head(row["n"], row["hash"])
                    rows.append(row)
            if rows:
                connection.execute(insert(audit_log), rows)

    def head(self) -> Head:
        with self._database.read() as connection:
            return _head(connection)

    def page(self, after: int, limit: int, trade_id: str | None = None) -> list[Recorded]:
        """Return the entries after a number, of all trades or one, at most so many."""
        with self._database.read() as connection:
            columns = [
                stored_bytes(connection, column)
                for column in (audit_log.c.entry, audit_log.c.previous, audit_log.c.hash)
            ]
            query = select(audit_log.c.n, *columns).where(audit_log.c.n > after, *_numbered(connection))
            if trade_id is not None:
                query = query.where(audit_log.c.trade_id == trade_id)
            rows = connection.execute(query.order_by(audit_log.c.n).limit(limit)).all()
        return [Recorded(n, *map(_text, columns)) for n, *columns in rows]

    def expected(self) -> int:
        """Return how many entries the log must have: those that the journal knows to be in it."""
        with self._database.read() as connection:
            return connection.execute(select(func.count()).where(journal.c.audited)).scalar_one()

    def unnumbered(self) -> int:
        """Return how many entries have no number, which only SQLite would keep."""
        with self._database.read() as connection:
            others = [~each for each in _numbered(connection)]
            return connection.execute(select(func.count()).where(*others)).scalar_one() if others else 0

    def verify(self) -> Verification:
        """Work the whole chain out again, as long as it is now."""
        walk = Walk(self)
        while (found := walk.step()) is None:
            pass
        return found

    def note(self, found: Verification, at: datetime) -> None:
        """Keep what a verification has found. After a fault, the head of the latest one that found none stays."""
        head = {"n": found.head.n, "hash": found.head.hash}
        result = {"broken_at": found.broken_at, "fault": found.fault, "at": at}
        with self._database.write() as connection:
            if not insert_once(connection, audit_checks, {"id": 1, **head, **result}):
                connection.execute(update(audit_checks).values(result if found.fault else {**head, **result}))

    def verified(self) -> Verified | None:
        """Return what was noted, None if the log has never been verified."""
        with self._database.read() as connection:
            row = connection.execute(select(audit_checks)).first()
        return Verified(row.at, Verification(Head(row.n, row.hash), row.broken_at, row.fault)) if row else None


class Walk:
    """A verification page by page, up to the last entry that there is when it begins."""

    def __init__(self, audit: AuditLog) -> None:
        self._audit = audit
        verified = audit.verified()  # before the head, which grows meanwhile
        self._known = verified.found.head if verified else START
        self._end = max(audit.expected(), self._known.n)
        self._end = max(audit.head().n, self._end)
        self._head = START

    def step(self) -> Verification | None:
        """Verify the next page. Return what the whole walk has found, None if there is more."""
        entries = self._audit.page(self._head.n, PAGE)
        found = follow(self._head, entries, self._known)
        if found.fault:
            return found
        if found.head.n >= self._end:
            without = self._audit.unnumbered()
            return Verification(found.head, self._end + 1, f"{without} entries have no number") if without else found
        if not entries:
            return Verification(found.head, found.head.n + 1, f"entries {found.head.n + 1} to {self._end} are missing")
        self._head = found.head
        return None


def follow(head: Head, entries: list[Recorded], known: Head) -> Verification:
    """Verify the entries that come next after a head; `known` is one that was verified before."""
    for each in entries:
        if each.n != head.n + 1:
            return Verification(head, each.n, f"entry {head.n + 1} is missing")
        if each.previous != head.hash:
            return Verification(head, each.n, "it does not follow the entry before it")
        if each.hash != _hash(each.previous, each.entry):
            return Verification(head, each.n, "it is not what was recorded")
        if each.n == known.n and each.hash != known.hash:
            return Verification(head, each.n, "it is not what was verified before")
        head = Head(each.n, each.hash)
    return Verification(head)


def _head(connection: Connection) -> Head:
    query = select(audit_log.c.n, stored_bytes(connection, audit_log.c.hash)).where(*_numbered(connection))
    row = connection.execute(query.order_by(audit_log.c.n.desc()).limit(1)).first()
    return Head(row.n, _text(row.hash)) if row else START


def _numbered(connection: Connection) -> list[ColumnElement[bool]]:
    """Return the condition of an entry with a number: SQLite keeps a text in a column for numbers."""
    return [] if connection.dialect.name == "postgresql" else [func.typeof(audit_log.c.n) == "integer"]


def _text(raw: bytes | None) -> str:
    return stored_text(raw or b"")


def _next(head: Head, entry: Entry) -> dict[str, Any]:
    content = write_facts(entry)
    return {
        "n": head.n + 1,
        "event_id": entry.event_id,
        "trade_id": entry.trade_id,
        "entry": content,
        "previous": head.hash,
        "hash": _hash(head.hash, content),
    }


def _hash(previous: str, content: str) -> str:
    return hashlib.sha256(f"{previous}\n{content}".encode(errors="surrogateescape")).hexdigest()
