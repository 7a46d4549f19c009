"""Exposure of a user: position and daily volume, assuming that all pending trades fill.

The transactions that move trades update it. Concurrent orders cannot both pass a limit: each adds its share before the
check, and the second waits for the row lock until the first has committed.
"""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import cache
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.dialects import postgresql, sqlite

from .tables import exposure
from .trade import Order, Side, Trade, TradeState


@dataclass(frozen=True, slots=True)
class Exposure:
    """Exposure of a user including an order, if all pending trades fill."""

    #: shares of the order's symbol
    position: Decimal
    #: cash moved today (UTC), bought and sold
    volume: Decimal


def reserve(connection: Connection, order: Order, now: datetime) -> Exposure:
    """Add an order, and return the exposure that includes it."""
    position = _add(connection, order.user_id, order.symbol, Decimal(order.quantity if order.side is Side.BUY else 0))
    return Exposure(position, _add(connection, order.user_id, _day(now), order.value))


def update_exposure(connection: Connection, trade: Trade) -> None:
    """Apply a trade's new state: subtract sold shares, and remove an order that was not booked."""
    order, bought = trade.order, trade.order.side is Side.BUY
    if trade.state is TradeState.FILLED and not bought:
        _add(connection, order.user_id, order.symbol, Decimal(-order.quantity))
    elif trade.state in (TradeState.REJECTED, TradeState.CANCELLED, TradeState.REFUSED):
        if bought:
            _add(connection, order.user_id, order.symbol, Decimal(-order.quantity))
        _add(connection, order.user_id, _day(trade.attempted_at), -order.value)


def _day(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d}"


def _add(connection: Connection, user_id: str, item: str, amount: Decimal) -> Decimal:
    values = {"user_id": user_id, "what": item, "amount": amount}
    total: Decimal = connection.execute(_upsert(connection.dialect.name), values).scalar_one()
    return total


@cache
def _upsert(dialect: str) -> Any:
    added: Any = (postgresql if dialect == "postgresql" else sqlite).insert(exposure)
    summed = {"amount": exposure.c.amount + added.excluded.amount}
    return added.on_conflict_do_update(index_elements=["user_id", "what"], set_=summed).returning(exposure.c.amount)
