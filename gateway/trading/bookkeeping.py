"""The gateway's trades as their rows have them, for who compares them: a damaged one must not hide the others."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, select, true

from servicekit.database import Database, stored_amount, stored_bytes, stored_text
from servicekit.ids import ID

from .tables import trades
from .trade import PENDING, Order, Side, State


@dataclass(frozen=True, slots=True)
class Kept:
    """A trade as it is stored."""

    trade_id: str
    #: changes with each move and each lease
    version: str
    #: None, as the order, if the row makes no sense
    state: State | None
    code: str
    order: Order | None


class Bookkeeping:
    """Reads the trades. Each method is one transaction, and raises DatabaseUnavailableError."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def settled(self, after: str | None, limit: int) -> list[Kept]:
        """Return trades that are not pending, in the order of their ids, those behind one, at most so many."""
        behind = trades.c.trade_id > after if after is not None else true()
        return self._read(trades.c.state.not_in(PENDING) & behind, limit)

    def find(self, trade_ids: list[str]) -> dict[str, Kept]:
        """Return those of some trades that exist, by id."""
        possible = [trade_id for trade_id in trade_ids if ID.fullmatch(trade_id)]  # a database does not take any text
        return {each.trade_id: each for each in self._read(trades.c.trade_id.in_(possible), len(possible))}

    def _read(self, those: ColumnElement[bool], limit: int) -> list[Kept]:
        with self._database.read() as connection:
            query = select(*(stored_bytes(connection, column) for column in _COLUMNS)).where(those)
            rows = connection.execute(query.order_by(trades.c.trade_id).limit(limit)).mappings().all()
        return [_kept({name: stored_text(value or b"") for name, value in row.items()}) for row in rows]


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


def _kept(row: dict[str, Any]) -> Kept:
    state, order = None, None
    try:
        if ID.fullmatch(row["trade_id"]):
            quantity, price = int(row["quantity"]), stored_amount(row["price"])
            order = Order(row["user_id"], row["symbol"], quantity, Side(row["side"]), price)
            state = State(row["state"])
    except (ValueError, ArithmeticError):
        order = None
    trade_id = row["trade_id"].encode(errors="surrogateescape").decode(errors="replace")
    return Kept(trade_id, row["version"], state, row["code"], order)
