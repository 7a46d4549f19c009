"""Settled trades read column by column for the comparison: a damaged row must not hide the others."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, select, true

from servicekit.database import Database, stored_amount, stored_bytes, stored_text
from servicekit.ids import ID

from .tables import trades
from .trade import PENDING, Order, Side, TradeState


@dataclass(frozen=True, slots=True)
class StoredTrade:
    """A trade as stored."""

    trade_id: str
    #: changes with each move and each lease
    version: str
    #: None if the row is damaged
    state: TradeState | None
    code: str
    #: None if the row is damaged
    order: Order | None


class StoredTrades:
    """Reads trades. Each method is one transaction and raises DatabaseUnavailableError."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def settled(self, after: str | None, limit: int) -> list[StoredTrade]:
        """Return at most `limit` trades that are not pending, by id, with ids above `after`."""
        behind = trades.c.trade_id > after if after is not None else true()
        return self._read(trades.c.state.not_in(PENDING) & behind, limit)

    def find(self, trade_ids: list[str]) -> dict[str, StoredTrade]:
        """Return the trades that exist, by id."""
        valid = [trade_id for trade_id in trade_ids if ID.fullmatch(trade_id)]  # a database does not accept every text
        return {each.trade_id: each for each in self._read(trades.c.trade_id.in_(valid), len(valid))}

    def _read(self, condition: ColumnElement[bool], limit: int) -> list[StoredTrade]:
        with self._database.read() as connection:
            query = select(*(stored_bytes(connection, column) for column in _COLUMNS)).where(condition)
            rows = connection.execute(query.order_by(trades.c.trade_id).limit(limit)).mappings().all()
        return [_stored({name: stored_text(value or b"") for name, value in row.items()}) for row in rows]


_COLUMNS = (
    trades.c.trade_id,
    trades.c.version,
    trades.c.state,
    trades.c.code,
    trades.c.user_id,
    trades.c.symbol,
    trades.c.quantity,
    trades.c.side,
    trades.c.price,
)


def _stored(row: dict[str, Any]) -> StoredTrade:
    state, order = None, None
    try:
        if ID.fullmatch(row["trade_id"]):
            quantity, price = int(row["quantity"]), stored_amount(row["price"])
            order = Order(row["user_id"], row["symbol"], quantity, Side(row["side"]), price)
            state = TradeState(row["state"])
    except (ValueError, ArithmeticError):
        order = None
    trade_id = row["trade_id"].encode(errors="surrogateescape").decode(errors="replace")
    return StoredTrade(trade_id, row["version"], state, row["code"], order)
