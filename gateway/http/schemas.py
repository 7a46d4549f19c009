"""Schemas of the gateway: settings, requests and responses."""

import re
from decimal import Decimal
from typing import Any

from marshmallow import Schema, ValidationError, fields, post_dump, post_load, validate, validates_schema

from gateway.trading.trade import Order, Side, TradeState
from servicekit import PassthroughSchema, ResponseSchema
from servicekit.fields import DatabaseURL, Duration, Identifier, Money, Quantity, Symbol, Text, Whole

from .pages import PageSchema

_service_url = validate.Regexp(r"https?://[A-Za-z0-9.-]+(:[0-9]+)?\Z", error="must be http://HOST:PORT")


#: settings, and their names in version 1.0
_FORMER = {"reads_max_age": "stale_fresh_for", "reads_max_stale_age": "stale_usable_for"}


class GatewaySettings(Schema):
    database = DatabaseURL(load_default="sqlite:///run/gateway.db")
    # None: this host, with the port of the service in the same settings.
    market_data_url = fields.String(load_default=None, validate=_service_url)
    portfolio_url = fields.String(load_default=None, validate=_service_url)
    # Total timeouts; above slow_call_duration, so that slow calls are counted as slow before they time out.
    market_data_timeout = Duration(load_default=3.0)
    portfolio_timeout = Duration(load_default=3.0)
    # Timeouts of the services in process, per call.
    risk_timeout = Duration(load_default=3.0)
    audit_timeout = Duration(load_default=3.0)
    notification_timeout = Duration(load_default=3.0)
    # Timeout of placing an order: refused if it has not been sent by then, else pending.
    order_timeout = Duration(load_default=8.0)
    # Interval of the health checks of market data and portfolio.
    health_interval = Duration(load_default=5.0, validate=validate.Range(0.1, 3600, error="must be from 100ms to 1h"))
    # Maximum age of a response that reads serve after a failure (stale-if-error in RFC 5861), and without a request.
    reads_max_stale_age = Duration(load_default=None)  # default: 1h, or reads_max_age if longer
    reads_max_age = Duration(zero=True, load_default=0.0)
    # Their names in version 1.0; one that is given counts in place of the other.
    stale_usable_for = Duration()
    stale_fresh_for = Duration(zero=True)
    # Concurrent calls of all workers together; None: an even share of their threads.
    market_data_limit = Whole(1, 10_000, load_default=None, allow_none=True)
    portfolio_limit = Whole(1, 10_000, load_default=None, allow_none=True)
    database_limit = Whole(1, 10_000, load_default=None, allow_none=True)
    # Time to wait for a free place.
    limit_wait = Duration(load_default=1.0)
    # Maximum distance of an order's price from the market price, as a share of it.
    price_band = fields.Decimal(load_default=Decimal("0.05"), validate=validate.Range(0, 1, max_inclusive=False))
    # Cash per order, shares per user and symbol, cash per user and day.
    order_value_limit = Money(load_default=Decimal(10_000_000), digits=12)
    position_limit = Whole(1, 10**9, load_default=1_000_000)
    daily_volume_limit = Money(load_default=Decimal(100_000_000), digits=12)
    # Age at which a pending trade is voided at the portfolio.
    pending_deadline = Duration(load_default=30.0)
    # Interval of the comparisons of all trades with the portfolio.
    compare_interval = Duration(load_default=300.0)
    # Age at which a user is notified that a trade is still pending.
    alert_after = Duration(load_default=10.0)

    @validates_schema
    def fresh_is_usable(self, values: dict[str, Any], **_: object) -> None:
        age, longest = (former if former in values else name for name, former in _FORMER.items())
        if values[longest] is not None and values[age] > values[longest]:
            raise ValidationError({age: [f"must be at most {longest}"]})

    @post_load
    def usable(self, values: dict[str, Any], **_: object) -> dict[str, Any]:
        for name, former in _FORMER.items():
            values[name] = values.pop(former, values[name])
        if values["reads_max_stale_age"] is None:
            values["reads_max_stale_age"] = max(3600.0, values["reads_max_age"])
        return values


class IdempotencyKey(Text):
    """The Idempotency-Key header, without its quotes.

    As in draft-ietf-httpapi-idempotency-key-header-07 a key is a quoted string; unquoted keys are accepted too. A key
    belongs to the user of the order and is kept with the trade. The stored order is the fingerprint of the request.
    """

    pattern = re.compile(r'[A-Za-z0-9_.:-]{1,255}|"[A-Za-z0-9_.:-]{1,255}"', re.ASCII)
    rule = "must be 1 to 255 letters, digits, _, ., : or -, in quotes or without"

    def check(self, value: Any) -> str:
        return super().check(value).strip('"')


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
    """An accepted order and its status."""

    trade_id = fields.String(required=True, data_key="tradeId")
    status = fields.String(
        required=True, metadata={"enum": ["PENDING", *sorted(TradeState.__members__.keys() - {"RECEIVED", "APPLYING"})]}
    )
    user_id = Identifier(required=True, attribute="order.user_id", data_key="userId")
    symbol = Symbol(required=True, attribute="order.symbol")
    quantity = Quantity(required=True, attribute="order.quantity")
    side = fields.Enum(Side, required=True, by_value=True, attribute="order.side", data_key="orderType")
    price = Money(required=True, attribute="order.price")
    code = fields.String(metadata={"description": "Why it was not booked, as a code."})
    detail = fields.String(metadata={"description": "Why it was not booked, as a sentence."})
    created_at = fields.AwareDateTime(required=True, data_key="createdAt")
    updated_at = fields.AwareDateTime(required=True, data_key="updatedAt")

    @post_dump
    def omit_null(self, members: dict[str, Any], **_: object) -> dict[str, Any]:
        return {name: value for name, value in members.items() if value is not None}


class TradesSchema(PageSchema):
    trades = fields.List(fields.Nested(TradeSchema), required=True)


class ReadSchema(ResponseSchema):
    """A response that may be stale."""

    stale = fields.Boolean(
        required=True, metadata={"description": "True if it is an earlier response, served because the service failed."}
    )
    age = fields.Function(
        lambda read: read.age and round(read.age, 3),
        required=True,
        data_key="ageSeconds",
        metadata={"type": ["number", "null"], "minimum": 0, "description": "Age of the response; null if it is new."},
    )


class QuoteReadSchema(ReadSchema):
    """The price of a share."""

    symbol = Symbol(required=True, attribute="value.symbol")
    price = Money(required=True, attribute="value.price")
    time = fields.String(required=True, attribute="value.time", metadata={"description": "Time of the price."})


class PositionReadSchema(ResponseSchema):
    symbol = Symbol(required=True)
    quantity = Whole(1, 2**63 - 1, required=True)


class HoldingsReadSchema(ReadSchema):
    """Cash and positions of a user."""

    user_id = Identifier(required=True, attribute="value.user_id", data_key="userId")
    cash = Money(required=True, digits=15, min_exclusive=None, attribute="value.cash")
    positions = fields.List(fields.Nested(PositionReadSchema), required=True, attribute="value.positions")


class AuditEntrySchema(PassthroughSchema):
    """A move of a trade, chained to the previous entry. docs/trades.md defines the hashed text.

    If an entry cannot be read, all members except `n`, `previous`, `hash` and `damage` are null.
    """

    n = fields.Integer(required=True, metadata={"minimum": 1})
    trade_id = fields.String(required=True, allow_none=True, data_key="tradeId")
    seq = fields.Integer(
        required=True,
        allow_none=True,
        strict=True,
        metadata={"description": "Number of the move within its trade, from 1."},
    )
    user_id = fields.String(required=True, allow_none=True, data_key="userId")
    symbol = fields.String(required=True, allow_none=True)
    quantity = fields.Integer(required=True, allow_none=True, strict=True)
    side = fields.String(required=True, allow_none=True, data_key="orderType")
    price = fields.String(required=True, allow_none=True)
    state = fields.String(required=True, allow_none=True, metadata={"enum": [*TradeState, None]})
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
    """The result of a verification of the chain of hashes."""

    valid = fields.Function(lambda result: result.broken_at is None, required=True, metadata={"type": "boolean"})
    entries = fields.Integer(required=True, attribute="head.n")
    head = fields.String(required=True, attribute="head.hash")
    broken_at = fields.Integer(required=True, allow_none=True, data_key="brokenAt")
    fault = fields.String(required=True, allow_none=True)


class DifferenceSchema(ResponseSchema):
    """A trade that differs between gateway and portfolio."""

    trade_id = fields.String(required=True, data_key="tradeId")
    gateway = fields.String(required=True, metadata={"description": "State at the gateway, or `unknown`."})
    portfolio = fields.String(required=True, metadata={"description": "Outcome at the portfolio, or `unknown`."})


class ComparisonSchema(ResponseSchema):
    """The latest comparison of all settled trades with the portfolio."""

    at = fields.AwareDateTime(
        required=True, allow_none=True, metadata={"description": "End of the comparison; null before the first."}
    )
    trades = fields.Integer(required=True)
    differences = fields.Integer(required=True)
    examples = fields.List(
        fields.Nested(DifferenceSchema), required=True, metadata={"description": "The first 20 differences."}
    )


class NotificationSchema(ResponseSchema):
    """A message to a user or to the operators."""

    id = fields.Integer(required=True)
    kind = fields.String(required=True, attribute="message.kind", metadata={"enum": ["trade", "alert"]})
    text = fields.String(required=True, attribute="message.text")
    trade_id = fields.String(required=True, allow_none=True, attribute="message.trade_id", data_key="tradeId")
    at = fields.AwareDateTime(required=True, attribute="message.at")


class NotificationsSchema(PageSchema):
    notifications = fields.List(fields.Nested(NotificationSchema), required=True)
