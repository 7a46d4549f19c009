"""Schemas of the portfolio: settings, requests and responses."""

from decimal import Decimal
from typing import Any

from marshmallow import Schema, fields, post_dump, pre_dump

from servicekit import ResponseSchema
from servicekit.fields import DatabaseURL, Duration, Identifier, Money, Quantity, Symbol, Whole

from .booking import Settlement, Side
from .store import Portfolio


class PortfolioSettings(Schema):
    database = DatabaseURL(load_default="sqlite:///run/portfolio.db")
    # Concurrent transactions of all workers together; None: most of their threads.
    database_limit = Whole(1, 10_000, load_default=None, allow_none=True)
    # Time to wait for a free place.
    limit_wait = Duration(load_default=1.0)
    opening_cash = Money(load_default=Decimal(1_000_000))


class OrderSchema(Schema):
    trade_id = Identifier(data_key="tradeId", required=True)
    symbol = Symbol(required=True)
    quantity = Quantity(required=True)
    side = fields.Enum(Side, data_key="orderType", by_value=True, required=True)
    price = Money(required=True)


class AppliedSchema(ResponseSchema):
    """A trade and its outcome."""

    trade_id = Identifier(attribute="booking.trade_id", data_key="tradeId", required=True)
    user_id = Identifier(attribute="booking.user_id", data_key="userId", required=True)
    symbol = Symbol(attribute="booking.symbol", required=True)
    quantity = Quantity(attribute="booking.quantity", required=True)
    side = fields.Enum(Side, attribute="booking.side", data_key="orderType", by_value=True, required=True)
    price = Money(attribute="booking.price", required=True)
    status = fields.Enum(Settlement, attribute="verdict.outcome", by_value=True, required=True)


class SettledSchema(AppliedSchema):
    """A trade, its outcome, and the reason if it was not booked."""

    code = fields.String(attribute="verdict.code", metadata={"description": "Problem code."})
    detail = fields.String(attribute="verdict.detail", metadata={"description": "A sentence."})

    @post_dump
    def omit_null(self, members: dict[str, Any], **_: object) -> dict[str, Any]:
        return {name: value for name, value in members.items() if value is not None}


class PositionSchema(ResponseSchema):
    symbol = Symbol(required=True)
    quantity = Whole(1, 2**63 - 1, required=True)


class PortfolioSchema(ResponseSchema):
    """Cash and positions of a user."""

    user_id = Identifier(data_key="userId", required=True)
    cash = Money(required=True, digits=15)
    positions = fields.List(
        fields.Nested(PositionSchema), required=True, metadata={"description": "In the order of their symbols."}
    )

    @pre_dump
    def list_positions(self, portfolio: Portfolio, **_: object) -> dict[str, Any]:
        held = [{"symbol": symbol, "quantity": quantity} for symbol, quantity in portfolio.positions.items()]
        return {"user_id": portfolio.user_id, "cash": portfolio.cash, "positions": held}
