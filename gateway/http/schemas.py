"""The gateway's JSON, in and out, and its settings."""

from decimal import Decimal
from typing import Any

from marshmallow import Schema, ValidationError, fields, post_dump, post_load, validate, validates_schema

from gateway.trading.trade import Order, Side, State
from servicekit import PassthroughSchema, ResponseSchema
from servicekit.fields import DatabaseURL, Duration, Identifier, Money, Quantity, Symbol, Whole

from .pages import PageSchema

_service_url = validate.Regexp(r"https?://[A-Za-z0-9.-]+(:[0-9]+)?\Z", error="must be http://HOST:PORT")


class GatewaySettings(Schema):
    database = DatabaseURL(load_default="sqlite:///run/gateway.db")
    # None: on this host, on the port that the same settings give to the service.
    market_data_url = fields.String(load_default=None, validate=_service_url)
    portfolio_url = fields.String(load_default=None, validate=_service_url)
    # Seconds for each read; above slow_call_duration, so that slow answers are seen as slow before they are cut off.
    market_data_timeout = Duration(load_default=3.0)
    portfolio_timeout = Duration(load_default=3.0)
    # The services in process: for each call.
    risk_timeout = Duration(load_default=3.0)
    audit_timeout = Duration(load_default=3.0)
    notification_timeout = Duration(load_default=3.0)
    # An order as a whole: refused if it has not been sent by then, else pending.
    order_timeout = Duration(load_default=8.0)
    # Between two health checks of market data, and of the portfolio.
    health_interval = Duration(load_default=5.0, validate=validate.Range(0.1, 3600, error="must be from 100ms to 1h"))
    # Reads only: how old an answer may be that stands in for a failure, and how old one that saves a request.
    stale_usable_for = Duration(load_default=None)  # 1h, or stale_fresh_for if that is longer
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
    # Between two comparisons of all trades with the portfolio's.
    compare_interval = Duration(load_default=300.0)
    # Until users are told that a trade is still pending.
    alert_after = Duration(load_default=10.0)

    @validates_schema
    def fresh_is_usable(self, values: dict[str, Any], **_: object) -> None:
        usable = values["stale_usable_for"]
        if usable is not None and values["stale_fresh_for"] > usable:
            raise ValidationError({"stale_fresh_for": ["must be at most stale_usable_for"]})

    @post_load
    def usable(self, values: dict[str, Any], **_: object) -> dict[str, Any]:
        if values["stale_usable_for"] is None:
            values["stale_usable_for"] = max(3600.0, values["stale_fresh_for"])
        return values


class OrderSchema(Schema):
    user_id = Identifier(required=True, data_key="userId")
    symbol = Symbol(required=True)
    quantity = Quantity(required=True)
    side = fields.Enum(Side, by_value=True, required=True, data_key="orderType")
    price = Money(required=True)

    @post_load
    def order(self, values: dict[str, Any], **_: object) -> Order:
        return Order(**values)


class TradeSchema(ResponseSchema):
    """An order that was taken, and what became of it."""

    trade_id = fields.String(required=True, data_key="tradeId")
    status = fields.String(
        required=True, metadata={"enum": ["PENDING", *sorted(State.__members__.keys() - {"RECEIVED", "APPLYING"})]}
    )
    user_id = Identifier(required=True, attribute="order.user_id", data_key="userId")
    symbol = Symbol(required=True, attribute="order.symbol")
    quantity = Quantity(required=True, attribute="order.quantity")
    side = fields.Enum(Side, required=True, by_value=True, attribute="order.side", data_key="orderType")
    price = Money(required=True, attribute="order.price")
    code = fields.String(metadata={"description": "Why it came to nothing, for programs."})
    detail = fields.String(metadata={"description": "Why it came to nothing, for people."})
    created_at = fields.AwareDateTime(required=True, data_key="createdAt")
    updated_at = fields.AwareDateTime(required=True, data_key="updatedAt")

    @post_dump
    def without_nothing(self, members: dict[str, Any], **_: object) -> dict[str, Any]:
        return {name: value for name, value in members.items() if value is not None}


class TradesSchema(PageSchema):
    trades = fields.List(fields.Nested(TradeSchema), required=True)


class ReadingSchema(ResponseSchema):
    """What a read that may be stale says of it."""

    stale = fields.Boolean(required=True, metadata={"description": "Whether it stands in for an answer that failed."})
    age = fields.Function(
        lambda reading: reading.age and round(reading.age, 3),
        required=True,
        data_key="ageSeconds",
        metadata={"type": ["number", "null"], "minimum": 0, "description": "Since it was said; none if it is new."},
    )


class QuoteReadingSchema(ReadingSchema):
    """What a share costs."""

    symbol = Symbol(required=True, attribute="value.symbol")
    price = Money(required=True, attribute="value.price")
    time = fields.String(required=True, attribute="value.time", metadata={"description": "When it was the price."})


class PositionReadingSchema(ResponseSchema):
    symbol = Symbol(required=True)
    quantity = Whole(1, 2**63 - 1, required=True)


class HoldingsReadingSchema(ReadingSchema):
    """What a user owns."""

    user_id = Identifier(required=True, attribute="value.user_id", data_key="userId")
    cash = Money(required=True, digits=15, min_exclusive=None, attribute="value.cash")
    positions = fields.List(fields.Nested(PositionReadingSchema), required=True, attribute="value.positions")


class AuditEntrySchema(PassthroughSchema):
    """A move of a trade, with the hash of the entry before. What was hashed is in docs/trades.md.

    Of an entry that cannot be read, everything but `n`, `previous`, `hash` and `damage` is null.
    """

    n = fields.Integer(required=True, metadata={"minimum": 1})
    trade_id = fields.String(required=True, allow_none=True, data_key="tradeId")
    seq = fields.Integer(
        required=True, allow_none=True, strict=True, metadata={"description": "Number of the move within its trade."}
    )
    user_id = fields.String(required=True, allow_none=True, data_key="userId")
    symbol = fields.String(required=True, allow_none=True)
    quantity = fields.Integer(required=True, allow_none=True, strict=True)
    side = fields.String(required=True, allow_none=True, data_key="orderType")
    price = fields.String(required=True, allow_none=True)
    state = fields.String(required=True, allow_none=True, metadata={"enum": [*State, None]})
    code = fields.String(required=True, allow_none=True)
    detail = fields.String(required=True, allow_none=True)
    at = fields.String(required=True, allow_none=True, metadata={"format": "date-time"})
    previous = fields.String(required=True)
    hash = fields.String(required=True)
    damage = fields.String(
        required=True, allow_none=True, metadata={"description": "Why the entry cannot be read; null if it can."}
    )


class AuditPageSchema(PageSchema):
    entries = fields.List(fields.Nested(AuditEntrySchema), required=True)


class VerificationSchema(ResponseSchema):
    """Whether the chain of hashes holds, and where it breaks."""

    valid = fields.Function(lambda seen: seen.broken_at is None, required=True, metadata={"type": "boolean"})
    entries = fields.Integer(required=True, attribute="head.n")
    head = fields.String(required=True, attribute="head.hash")
    broken_at = fields.Integer(required=True, allow_none=True, data_key="brokenAt")
    fault = fields.String(required=True, allow_none=True)


class DifferenceSchema(ResponseSchema):
    """A trade that is not the same at both services."""

    trade_id = fields.String(required=True, data_key="tradeId")
    gateway = fields.String(required=True, metadata={"description": "Its state at the gateway, or `unknown`."})
    portfolio = fields.String(required=True, metadata={"description": "Its outcome at the portfolio, or `unknown`."})


class ComparisonSchema(ResponseSchema):
    """The latest comparison of all settled trades with the portfolio's."""

    at = fields.AwareDateTime(required=True, allow_none=True, metadata={"description": "When it ended; null: never."})
    trades = fields.Integer(required=True)
    differences = fields.Integer(required=True)
    examples = fields.List(
        fields.Nested(DifferenceSchema), required=True, metadata={"description": "The first 20 of them."}
    )


class NotificationSchema(ResponseSchema):
    """What a user or the operators were told."""

    id = fields.Integer(required=True)
    kind = fields.String(required=True, attribute="message.kind", metadata={"enum": ["trade", "alert"]})
    text = fields.String(required=True, attribute="message.text")
    trade_id = fields.String(required=True, allow_none=True, attribute="message.trade_id", data_key="tradeId")
    at = fields.AwareDateTime(required=True, attribute="message.at")


class NotificationsSchema(PageSchema):
    notifications = fields.List(fields.Nested(NotificationSchema), required=True)
