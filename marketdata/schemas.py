"""Schemas of the market data service: settings, requests and responses."""

from datetime import UTC, datetime

from marshmallow import Schema, fields, validate

from servicekit import ResponseSchema
from servicekit.fields import Money, Symbol, Whole

from .market import Quote


class MarketDataSettings(Schema):
    #: each seed is a different market
    seed = Whole(0, 2**31, load_default=1)


class BatchSchema(Schema):
    symbols = fields.List(Symbol(), required=True, validate=validate.Length(1, 100, error="must hold 1 to 100 symbols"))


class QuoteSchema(ResponseSchema):
    """The price of a share at one moment."""

    symbol = Symbol(required=True)
    price = Money(required=True)
    currency = fields.Constant("USD", required=True, metadata={"enum": ["USD"]})
    time = fields.Method("moment", required=True, metadata={"type": "string", "format": "date-time"})

    def moment(self, quote: Quote) -> str:
        """Return the time of the price, in ISO 8601."""
        return datetime.fromtimestamp(quote.time, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class QuotesSchema(ResponseSchema):
    prices = fields.List(fields.Nested(QuoteSchema), required=True)
    unknown_symbols = fields.List(
        Symbol(), required=True, data_key="unknown", metadata={"description": "Symbols that are not traded."}
    )
