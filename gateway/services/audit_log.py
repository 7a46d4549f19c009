"""The audit log: entries numbered from 1, each with the hash of the previous entry.

A changed entry, or one missing in the middle, breaks the chain. Entries missing at the end are detected by the number
of audited entries in the outbox; a chain rewritten from its beginning, by the head that the latest verification stored.
An attacker who can write to the log can change those too: the alert AuditLogRewritten compares with earlier metrics.
"""

import hashlib
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, func, insert, select, text, update

from gateway.trading.outbox import OutboxEntry
from gateway.trading.tables import audit_checks, audit_log, journal
from servicekit.database import Database, insert_once, stored_bytes, stored_text

from .audit_facts import write_facts

#: the previous hash of the first entry
GENESIS = "0" * 64
#: entries verified at once
PAGE = 1000


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """An entry of the log."""

    n: int
    #: the JSON text that was hashed
    facts: str
    previous: str
    hash: str


@dataclass(frozen=True, slots=True)
class Head:
    """The end of the chain."""

    n: int
    hash: str


@dataclass(frozen=True, slots=True)
class Verification:
    """The result of verifying the chain from the first entry to the head."""

    head: Head
    #: number of the first broken entry and the fault; None if the chain is valid
    broken_at: int | None = None
    fault: str | None = None


@dataclass(frozen=True, slots=True)
class LastVerification:
    """The latest stored verification."""

    at: datetime
    result: Verification


START = Head(0, GENESIS)


class AuditLog:
    """Stores and verifies entries. Each method is one transaction and raises DatabaseUnavailableError."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def append(self, entries: list[OutboxEntry]) -> None:
        """Append the entries that are not in the log yet."""
        with self._database.write() as connection:
            if connection.dialect.name == "postgresql":  # one writer at a time; readers continue
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

    def page(self, after: int, limit: int, trade_id: str | None = None) -> list[AuditEntry]:
        """Return at most `limit` entries with numbers above `after`, of all trades or of one."""
        with self._database.read() as connection:
            columns = [
                stored_bytes(connection, column)
                for column in (audit_log.c.entry, audit_log.c.previous, audit_log.c.hash)
            ]
            query = select(audit_log.c.n, *columns).where(audit_log.c.n > after, *_numbered(connection))
            if trade_id is not None:
                query = query.where(audit_log.c.trade_id == trade_id)
            rows = connection.execute(query.order_by(audit_log.c.n).limit(limit)).all()
        return [AuditEntry(n, *map(_text, columns)) for n, *columns in rows]

    def expected(self) -> int:
        """Return the number of entries that the outbox has marked as audited."""
        with self._database.read() as connection:
            return connection.execute(select(func.count()).where(journal.c.audited)).scalar_one()

    def unnumbered(self) -> int:
        """Return the number of entries without a number. Only SQLite can store them."""
        with self._database.read() as connection:
            others = [~each for each in _numbered(connection)]
            return connection.execute(select(func.count()).where(*others)).scalar_one() if others else 0

    def verify(self) -> Verification:
        """Verify the whole chain up to its current end."""
        run = VerificationRun(self)
        while (result := run.step()) is None:
            pass
        return result

    def save_verification(self, result: Verification, at: datetime) -> None:
        """Store a result. After a fault, the head of the latest valid result stays."""
        head = {"n": result.head.n, "hash": result.head.hash}
        outcome = {"broken_at": result.broken_at, "fault": result.fault, "at": at}
        with self._database.write() as connection:
            if not insert_once(connection, audit_checks, {"id": 1, **head, **outcome}):
                connection.execute(update(audit_checks).values(outcome if result.fault else {**head, **outcome}))

    def last_verification(self) -> LastVerification | None:
        """Return the stored result, None before the first verification."""
        with self._database.read() as connection:
            row = connection.execute(select(audit_checks)).first()
        return LastVerification(row.at, Verification(Head(row.n, row.hash), row.broken_at, row.fault)) if row else None


class VerificationRun:
    """A verification page by page, up to the entry that is the last when it starts."""

    def __init__(self, audit: AuditLog) -> None:
        self._audit = audit
        verified = audit.last_verification()  # before the head, which grows meanwhile
        self._known = verified.result.head if verified else START
        self._end = max(audit.expected(), self._known.n)
        self._end = max(audit.head().n, self._end)
        self._head = START

    def step(self) -> Verification | None:
        """Verify the next page. Return the result of the whole run, None if there is more."""
        entries = self._audit.page(self._head.n, PAGE)
        result = verify_page(self._head, entries, self._known)
        head = result.head
        if result.fault:
            return result
        if head.n >= self._end:
            without = self._audit.unnumbered()
            return Verification(head, self._end + 1, f"{without} entries have no number") if without else result
        if not entries:
            return Verification(head, head.n + 1, f"entries {head.n + 1} to {self._end} are missing")
        self._head = head
        return None


def verify_page(head: Head, entries: list[AuditEntry], known: Head) -> Verification:
    """Verify the entries that follow `head`. `known` is the head of an earlier verification."""
    for each in entries:
        if each.n != head.n + 1:
            return Verification(head, each.n, f"entry {head.n + 1} is missing")
        if each.previous != head.hash:
            return Verification(head, each.n, "it does not follow the previous entry")
        if each.hash != _hash(each.previous, each.facts):
            return Verification(head, each.n, "its hash does not match")
        if each.n == known.n and each.hash != known.hash:
            return Verification(head, each.n, "it differs from the entry that was verified before")
        head = Head(each.n, each.hash)
    return Verification(head)


def _head(connection: Connection) -> Head:
    query = select(audit_log.c.n, stored_bytes(connection, audit_log.c.hash)).where(*_numbered(connection))
    row = connection.execute(query.order_by(audit_log.c.n.desc()).limit(1)).first()
    return Head(row.n, _text(row.hash)) if row else START


def _numbered(connection: Connection) -> list[ColumnElement[bool]]:
    """Return the condition that an entry has a number: SQLite can store text in a numeric column."""
    return [] if connection.dialect.name == "postgresql" else [func.typeof(audit_log.c.n) == "integer"]


def _text(raw: bytes | None) -> str:
    return stored_text(raw or b"")


def _next(head: Head, entry: OutboxEntry) -> dict[str, Any]:
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
