"""What the trades of a user may come to, kept up to date by the transactions that move them.

Two orders at the same time cannot both pass a limit: each adds what it is about before it asks, and the second waits
for the row until the first has committed.
"""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import cache
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.dialects import postgresql, sqlite

from gateway.trading.tables import exposure
from gateway.trading.trade import Order, Side, State, Trade


@dataclass(frozen=True, slots=True)
class Exposure:
    """What a user has with an order, if all that is pending goes through."""

    #: shares of the order's symbol
    position: Decimal
    #: cash moved today, either way
    volume: Decimal


def reserve(connection: Connection, order: Order, now: datetime) -> Exposure:
    """Add an order that is tried now."""
    position = _add(connection, order.user_id, order.symbol, Decimal(order.quantity if order.side is Side.BUY else 0))
    return Exposure(position, _add(connection, order.user_id, _day(now), order.value))


def follow(connection: Connection, trade: Trade) -> None:
    """Note what a trade's new state means: shares that were sold are gone, an order without effect was never there."""
    order, bought = trade.order, trade.order.side is Side.BUY
    if trade.state is State.FILLED and not bought:
        _add(connection, order.user_id, order.symbol, Decimal(-order.quantity))
    elif trade.state in (State.REJECTED, State.CANCELLED, State.REFUSED):
        if bought:
            _add(connection, order.user_id, order.symbol, Decimal(-order.quantity))
        _add(connection, order.user_id, _day(trade.attempted_at), -order.value)


def _day(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d}"


def _add(connection: Connection, user_id: str, what: str, amount: Decimal) -> Decimal:
    values = {"user_id": user_id, "what": what, "amount": amount}
    total: Decimal = connection.execute(_upsert(connection.dialect.name), values).scalar_one()
    return total


@cache
def _upsert(dialect: str) -> Any:
    added: Any = (postgresql if dialect == "postgresql" else sqlite).insert(exposure)
    summed = {"amount": exposure.c.amount + added.excluded.amount}
    return added.on_conflict_do_update(index_elements=["user_id", "what"], set_=summed).returning(exposure.c.amount)
