"""The journal: each move of each trade, and who has yet to hear of it.

It is written by the transaction that moves the trade, and so cannot say what is not so, nor forget what is. What one
reader has not been told yet is found by its mark, never by a number: numbers are given out before they are committed.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from sqlalchemy import Connection, func, insert, select, update

from servicekit.database import Database

from .tables import NOT_AUDITED, NOT_NOTIFIED, journal, trades
from .trade import FINAL, Order, Side, State, Trade


class Reader(StrEnum):
    """Who hears of a trade's moves; each has its column."""

    AUDIT = "audited"
    NOTIFICATION = "notified"


_UNSENT = {Reader.AUDIT: NOT_AUDITED, Reader.NOTIFICATION: NOT_NOTIFIED}


@dataclass(frozen=True, slots=True)
class Entry:
    """A move of a trade."""

    id: int
    trade_id: str
    #: counts the moves of the trade, from 1
    seq: int
    order: Order
    state: State
    code: str | None
    detail: str | None
    at: datetime

    @property
    def event_id(self) -> str:
        return f"{self.trade_id}:{self.seq}"


@dataclass(frozen=True, slots=True)
class Backlog:
    """What a reader has not been told yet."""

    entries: int
    oldest: datetime | None


_NOTE = insert(journal)


def note(connection: Connection, trade: Trade) -> None:
    """Write the latest move of a trade down, in the transaction that does it."""
    row = {
        "trade_id": trade.trade_id,
        "seq": trade.seq,
        "state": trade.state,
        "code": trade.code,
        "detail": trade.detail,
        "at": trade.updated_at,
        "audited": False,
        "notified": trade.state not in FINAL,  # of the rest, users need not hear
    }
    connection.execute(_NOTE, row)


class Journal:
    """The entries, as their readers see them. Each method is one transaction, and raises DatabaseUnavailableError."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def unsent(self, reader: Reader, limit: int) -> list[Entry]:
        """Return what a reader has not been told, at most so many; of each trade in order and without a gap."""
        order = (trades.c.user_id, trades.c.symbol, trades.c.quantity, trades.c.side, trades.c.price)
        query = select(journal, *order).join(trades, journal.c.trade_id == trades.c.trade_id)
        with self._database.read() as connection:
            rows = connection.execute(query.where(_UNSENT[reader]).order_by(journal.c.id).limit(limit)).all()
        return [
            Entry(
                id=row.id,
                trade_id=row.trade_id,
                seq=row.seq,
                order=Order(row.user_id, row.symbol, row.quantity, Side(row.side), row.price),
                state=State(row.state),
                code=row.code,
                detail=row.detail,
                at=row.at,
            )
            for row in rows
        ]

    def mark(self, reader: Reader, entries: list[Entry]) -> None:
        """Remember that a reader has been told."""
        told = update(journal).where(journal.c.id.in_([entry.id for entry in entries]))
        with self._database.write() as connection:
            connection.execute(told.values({reader.value: True}))

    def backlog(self, reader: Reader) -> Backlog:
        """Return how much a reader has not been told yet, and since when."""
        query = select(func.count(), func.min(journal.c.at)).where(_UNSENT[reader])
        with self._database.read() as connection:
            entries, oldest = connection.execute(query).one()
        return Backlog(entries, oldest)
