"""The transactional outbox of the trades: the table `journal` holds each move of each trade until all readers have it.

A move is written by the transaction that makes it, so the two cannot differ. Undelivered entries are found by a flag
per reader, never by `id > last`: ids are assigned before their transactions commit.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from sqlalchemy import Connection, func, insert, select, update

from servicekit.database import Database

from .tables import NOT_AUDITED, NOT_NOTIFIED, journal, trades
from .trade import FINAL, Order, Side, Trade, TradeState


class Reader(StrEnum):
    """The readers of the outbox; the value is the reader's column."""

    AUDIT = "audited"
    NOTIFICATION = "notified"


_UNSENT = {Reader.AUDIT: NOT_AUDITED, Reader.NOTIFICATION: NOT_NOTIFIED}


@dataclass(frozen=True, slots=True)
class OutboxEntry:
    """A move of a trade."""

    id: int
    trade_id: str
    #: number of the move within the trade, from 1
    seq: int
    order: Order
    state: TradeState
    code: str | None
    detail: str | None
    at: datetime

    @property
    def event_id(self) -> str:
        return f"{self.trade_id}:{self.seq}"


@dataclass(frozen=True, slots=True)
class Backlog:
    """Number of entries, and the time of the oldest (None if there is none)."""

    size: int
    oldest: datetime | None


_RECORD = insert(journal)


def record_move(connection: Connection, trade: Trade) -> None:
    """Insert the latest move of a trade, in the transaction that makes it."""
    row = {
        "trade_id": trade.trade_id,
        "seq": trade.seq,
        "state": trade.state,
        "code": trade.code,
        "detail": trade.detail,
        "at": trade.updated_at,
        "audited": False,
        "notified": trade.state not in FINAL,  # users are notified of final states only
    }
    connection.execute(_RECORD, row)


class Outbox:
    """Reads and marks entries. Each method is one transaction and raises DatabaseUnavailableError."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def unsent(self, reader: Reader, limit: int) -> list[OutboxEntry]:
        """Return at most `limit` undelivered entries of a reader; those of a trade are in order and without a gap."""
        order = (trades.c.user_id, trades.c.symbol, trades.c.quantity, trades.c.side, trades.c.price)
        query = select(journal, *order).join(trades, journal.c.trade_id == trades.c.trade_id)
        with self._database.read() as connection:
            rows = connection.execute(query.where(_UNSENT[reader]).order_by(journal.c.id).limit(limit)).all()
        return [
            OutboxEntry(
                id=row.id,
                trade_id=row.trade_id,
                seq=row.seq,
                order=Order(row.user_id, row.symbol, row.quantity, Side(row.side), row.price),
                state=TradeState(row.state),
                code=row.code,
                detail=row.detail,
                at=row.at,
            )
            for row in rows
        ]

    def mark(self, reader: Reader, entries: list[OutboxEntry]) -> None:
        """Mark entries as delivered to a reader."""
        delivered = update(journal).where(journal.c.id.in_([entry.id for entry in entries]))
        with self._database.write() as connection:
            connection.execute(delivered.values({reader.value: True}))

    def backlog(self, reader: Reader) -> Backlog:
        """Return the size of a reader's backlog and the time of its oldest entry."""
        query = select(func.count(), func.min(journal.c.at)).where(_UNSENT[reader])
        with self._database.read() as connection:
            size, oldest = connection.execute(query).one()
        return Backlog(size, oldest)
