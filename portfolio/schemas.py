"""The portfolio's JSON, in and out, and its settings."""

from decimal import Decimal
from typing import Any

from marshmallow import Schema, fields, post_dump, pre_dump

from servicekit import ResponseSchema
from servicekit.fields import DatabaseURL, Duration, Identifier, Money, Quantity, Symbol, Whole

from .order import Outcome, Side
from .store import Portfolio


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


class AppliedSchema(ResponseSchema):
    """An order, and what became of it."""

    trade_id = Identifier(attribute="order.trade_id", data_key="tradeId", required=True)
    user_id = Identifier(attribute="order.user_id", data_key="userId", required=True)
    symbol = Symbol(attribute="order.symbol", required=True)
    quantity = Quantity(attribute="order.quantity", required=True)
    side = fields.Enum(Side, attribute="order.side", data_key="orderType", by_value=True, required=True)
    price = Money(attribute="order.price", required=True)
    status = fields.Enum(Outcome, attribute="verdict.outcome", by_value=True, required=True)


class SettledSchema(AppliedSchema):
    """An order, what became of it, and why if it was not booked."""

    code = fields.String(attribute="verdict.code", metadata={"description": "Problem code."})
    detail = fields.String(attribute="verdict.detail", metadata={"description": "A sentence for people."})

    @post_dump
    def without_nothing(self, members: dict[str, Any], **_: object) -> dict[str, Any]:
        return {name: value for name, value in members.items() if value is not None}


class PositionSchema(ResponseSchema):
    symbol = Symbol(required=True)
    quantity = Whole(1, 2**63 - 1, required=True)


class PortfolioSchema(ResponseSchema):
    """What a user owns."""

    user_id = Identifier(data_key="userId", required=True)
    cash = Money(required=True, digits=15)
    positions = fields.List(fields.Nested(PositionSchema), required=True, metadata={"description": "By symbol."})

    @pre_dump
    def list_positions(self, portfolio: Portfolio, **_: object) -> dict[str, Any]:
        held = [{"symbol": symbol, "quantity": quantity} for symbol, quantity in portfolio.positions.items()]
        return {"user_id": portfolio.user_id, "cash": portfolio.cash, "positions": held}
