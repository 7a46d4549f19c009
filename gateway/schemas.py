"""The gateway's JSON, in and out, and its settings."""

from decimal import Decimal
from typing import Any

from marshmallow import Schema, ValidationError, fields, post_dump, post_load, validate, validates_schema

from cb.web.fields import DatabaseURL, Duration, Identifier, Money, Quantity, Symbol, Whole

from .portfolio import PositionSchema
from .trade import Order, Side

_service_url = validate.Regexp(r"https?://[A-Za-z0-9.-]+(:[0-9]+)?\Z", error="must be http://HOST:PORT")


class GatewaySettings(Schema):
    database = DatabaseURL(load_default="sqlite:///run/gateway.db")
    # None: on this host, on the port that the same settings give to the service.
    market_data_url = fields.String(load_default=None, validate=_service_url)
    portfolio_url = fields.String(load_default=None, validate=_service_url)
    # Seconds for each read; above slow_call_duration, so that slow answers are seen as slow before they are cut off.
    market_data_timeout = Duration(load_default=3.0)
    portfolio_timeout = Duration(load_default=3.0)
    # Between two health checks of market data, and of the portfolio.
    health_interval = Duration(load_default=5.0, validate=validate.Range(0.1, 3600, error="must be from 100ms to 1h"))
    # Reads only: how old an answer may be that stands in for a failure, and how old one that saves a request.
    stale_usable_for = Duration(load_default=3600.0)
    stale_fresh_for = Duration(zero=True, load_default=0.0)
    # Calls at once, of all workers together; None: an even share of their threads. One more waits so many seconds.
    market_data_limit = Whole(1, 10_000, load_default=None, allow_none=True)
    portfolio_limit = Whole(1, 10_000, load_default=None, allow_none=True)
    database_limit = Whole(1, 10_000, load_default=None, allow_none=True)
    limit_wait = Duration(load_default=1.0)
    # How far an order's price may be from the market's, as a share of it.
    price_band = fields.Decimal(load_default=Decimal("0.05"), validate=validate.Range(0, 1, max_inclusive=False))
    # Cash that one order may move, shares of a symbol that a user may come to hold, cash moved by a user in a day.
    order_value_limit = Money(load_default=Decimal(10_000_000), digits=12)
    position_limit = Whole(1, 10**9, load_default=1_000_000)
    daily_volume_limit = Money(load_default=Decimal(100_000_000), digits=12)
    # Until a trade without an outcome is given up, unless the portfolio says that it has been booked.
    pending_deadline = Duration(load_default=30.0)
    # Until users are told that a trade is still pending.
    alert_after = Duration(load_default=10.0)

    @validates_schema
    def fresh_is_usable(self, values: dict[str, Any], **_: object) -> None:
        if values["stale_fresh_for"] > values["stale_usable_for"]:
            raise ValidationError({"stale_fresh_for": ["must be at most stale_usable_for"]})


class OrderSchema(Schema):
    user_id = Identifier(required=True, data_key="userId")
    symbol = Symbol(required=True)
    quantity = Quantity(required=True)
    side = fields.Enum(Side, by_value=True, required=True, data_key="orderType")
    price = Money(required=True)

    @post_load
    def order(self, values: dict[str, Any], **_: object) -> Order:
        return Order(**values)


class TradeSchema(Schema):
    trade_id = fields.String(data_key="tradeId")
    status = fields.String()
    user_id = fields.String(attribute="order.user_id", data_key="userId")
    symbol = fields.String(attribute="order.symbol")
    quantity = fields.Integer(attribute="order.quantity")
    side = fields.String(attribute="order.side", data_key="orderType")
    price = Money(attribute="order.price")
    code = fields.String()
    detail = fields.String()
    created_at = fields.AwareDateTime(data_key="createdAt")
    updated_at = fields.AwareDateTime(data_key="updatedAt")

    @post_dump
    def without_nothing(self, members: dict[str, Any], **_: object) -> dict[str, Any]:
        return {name: value for name, value in members.items() if value is not None}


class ReadingSchema(Schema):
    """What a read that may be stale says of it."""

    stale = fields.Boolean()
    age = fields.Function(lambda reading: reading.age and round(reading.age, 3), data_key="ageSeconds")


class QuoteReadingSchema(ReadingSchema):
    symbol = fields.String(attribute="value.symbol")
    price = Money(attribute="value.price")
    time = fields.String(attribute="value.time")


class HoldingsReadingSchema(ReadingSchema):
    user_id = fields.String(attribute="value.user_id", data_key="userId")
    cash = Money(attribute="value.cash")
    positions = fields.List(fields.Nested(PositionSchema), attribute="value.positions")
