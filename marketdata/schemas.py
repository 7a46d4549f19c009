"""The market's JSON, in and out, and the service's settings."""

from datetime import UTC, datetime

from marshmallow import Schema, fields, validate

from cb.web.fields import Money, Symbol, Whole

from .market import Quote


class MarketDataSettings(Schema):
    #: another seed is another market
    seed = Whole(0, 2**31, load_default=1)


class BatchSchema(Schema):
    symbols = fields.List(Symbol(), required=True, validate=validate.Length(1, 100, error="must hold 1 to 100 symbols"))


class QuoteSchema(Schema):
    symbol = Symbol()
    price = Money()
    currency = fields.Constant("USD")
    time = fields.Method("moment")

    def moment(self, quote: Quote) -> str:
        """Return when the price was made, in ISO 8601."""
        return datetime.fromtimestamp(quote.time, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
