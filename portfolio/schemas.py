"""The portfolio's JSON, in and out, and its settings."""

from decimal import Decimal
from typing import Any

from marshmallow import Schema, fields

from cb.web.fields import DatabaseURL, Duration, Identifier, Money, Quantity, Symbol, Whole

from .order import Side


class PortfolioSettings(Schema):
    database = DatabaseURL(load_default="sqlite:///run/portfolio.db")
    # Transactions at once, of all workers together; None: most of their threads. One more waits so many seconds.
    database_limit = Whole(1, 10_000, load_default=None, allow_none=True)
    limit_wait = Duration(load_default=1.0)
    opening_cash = Money(load_default=Decimal(1_000_000))


class OrderSchema(Schema):
    trade_id = Identifier(data_key="tradeId", required=True)
    symbol = Symbol(required=True)
    quantity = Quantity(required=True)
    side = fields.Enum(Side, data_key="orderType", by_value=True, required=True)
    price = Money(required=True)


class AppliedSchema(OrderSchema):
    user_id = Identifier(data_key="userId")
    status = fields.String()


class PortfolioSchema(Schema):
    user_id = Identifier(data_key="userId")
    cash = Money()
    positions = fields.Function(lambda portfolio: _positions(portfolio.positions))


def _positions(positions: dict[str, int]) -> list[dict[str, Any]]:
    return [{"symbol": symbol, "quantity": quantity} for symbol, quantity in positions.items()]
