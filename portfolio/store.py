"""Stored accounts and the transactions that change them."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import bindparam, insert, select, true, update
from sqlalchemy.engine import Connection

from servicekit.database import (
    Database,
    DatabaseBusyError,
    DatabaseUnavailableError,
    insert_once,
    stored_bytes,
    stored_text,
)

from .booking import Booking, Settlement, Side, Verdict
from .tables import CASH, MARKET, accounts, entries, positions, trades

#: a settled trade as text by column, so that a damaged row does not fail the query
StoredRow = dict[str, str]
_FACTS = (
    trades.c.trade_id,
    trades.c.user_id,
    trades.c.symbol,
    trades.c.quantity,
    trades.c.side,
    trades.c.price,
    trades.c.outcome,
)


@dataclass(frozen=True, slots=True)
class Portfolio:
    """Cash and positions of a user."""

    user_id: str
    cash: Decimal
    #: shares by symbol, zero positions left out
    positions: dict[str, int]


class AccountStore:
    """Reads portfolios, and opens a `Session` to change them."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @contextmanager
    def session(self) -> Iterator["Session"]:
        """Run a transaction that commits at the end of the block. Raises DatabaseUnavailableError."""
        with self._database.write() as connection:
            yield Session(connection)

    def portfolio(self, user_id: str) -> Portfolio | None:
        with self._database.read() as connection:
            cash = connection.scalar(select(accounts.c.cash).where(accounts.c.user_id == user_id))
            if cash is None:
                return None
            held = select(positions.c.symbol, positions.c.quantity).where(
                positions.c.user_id == user_id, positions.c.quantity > 0
            )
            rows = connection.execute(held.order_by(positions.c.symbol))
            return Portfolio(user_id, cash, {row.symbol: row.quantity for row in rows})

    def settled(self, trade_ids: list[str] | None, after: str | None, limit: int) -> list[StoredRow]:
        """Return settled trades by id: those of some ids, or at most `limit` with ids above `after`."""
        with self._database.read() as connection:
            query = select(*(stored_bytes(connection, column) for column in _FACTS)).order_by(trades.c.trade_id)
            if trade_ids is not None:
                query = query.where(trades.c.trade_id.in_(trade_ids))
            else:
                query = query.where(trades.c.trade_id > after if after is not None else true()).limit(limit)
            rows = connection.execute(query).mappings().all()
        return [{name: stored_text(value or b"") for name, value in row.items()} for row in rows]

    def health(self) -> dict[str, str]:
        """Return the health of the database: UP, DEGRADED at its limit, or DOWN."""
        try:
            with self._database.read() as connection:
                connection.execute(select(accounts.c.user_id).limit(1))
        except DatabaseBusyError as error:
            return {"status": "DEGRADED", "reason": str(error)}
        except DatabaseUnavailableError as error:
            return {"status": "DOWN", "reason": str(error)}
        return {"status": "UP"}


def _settled(row: Any) -> tuple[Booking, Verdict]:
    booking = Booking(row.trade_id, row.user_id, row.symbol, row.quantity, Side(row.side), row.price)
    return booking, Verdict(Settlement(row.outcome), row.code, row.detail)


# Built once: SQLAlchemy takes longer to build a statement than a database to execute it.
_LOCK = select(accounts.c.cash).where(accounts.c.user_id == bindparam("user")).with_for_update()
_HELD = (positions.c.user_id == bindparam("user")) & (positions.c.symbol == bindparam("of"))
_SHARES = select(positions.c.quantity).where(_HELD)
_SET_CASH = update(accounts).where(accounts.c.user_id == bindparam("user"))
_SET_SHARES = update(positions).where(_HELD)
_ENTER = insert(entries)


class Session:
    """Changes to accounts within one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def open_account(self, user_id: str, cash: Decimal) -> None:
        """Open an account, unless the user has one."""
        row = {"user_id": user_id, "opening_cash": cash, "cash": cash, "opened_at": datetime.now(UTC)}
        insert_once(self._connection, accounts, row)

    def lock(self, user_id: str) -> Decimal:
        """Lock an account until the transaction ends, and return its cash."""
        cash: Decimal = self._connection.execute(_LOCK, {"user": user_id}).scalar_one()
        return cash

    def shares(self, user_id: str, symbol: str) -> int:
        return self._connection.scalar(_SHARES, {"user": user_id, "of": symbol}) or 0

    def claim(self, booking: Booking, verdict: Verdict) -> bool:
        """Insert a trade and its verdict. Return False, and change nothing, if the trade id exists."""
        row = {
            "trade_id": booking.trade_id,
            "user_id": booking.user_id,
            "symbol": booking.symbol,
            "quantity": booking.quantity,
            "side": booking.side,
            "price": booking.price,
            "outcome": verdict.outcome,
            "code": verdict.code,
            "detail": verdict.detail,
            "applied_at": datetime.now(UTC),
        }
        return insert_once(self._connection, trades, row)

    def applied(self, trade_id: str) -> tuple[Booking, Verdict]:
        """Return a claimed trade and its verdict."""
        return _settled(self._connection.execute(select(trades).where(trades.c.trade_id == trade_id)).one())

    def book(self, booking: Booking, cash: Decimal, shares: int) -> None:
        """Set the new balances of a claimed trade and insert its entries."""
        user, symbol = booking.user_id, booking.symbol
        self._connection.execute(_SET_CASH, {"user": user, "cash": cash})
        position = {"user_id": user, "symbol": symbol, "quantity": shares}
        if not insert_once(self._connection, positions, position):
            self._connection.execute(_SET_SHARES, {"user": user, "of": symbol, "quantity": shares})
        changes = ((CASH, booking.cash_change), (symbol, Decimal(booking.share_change)))
        rows = [
            {"trade_id": booking.trade_id, "holder": holder, "asset": asset, "amount": sign * amount}
            for asset, amount in changes
            for holder, sign in ((user, 1), (MARKET, -1))
        ]
        self._connection.execute(_ENTER, rows)
