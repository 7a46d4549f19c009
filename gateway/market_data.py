"""The market data service, as the gateway knows it."""

from dataclasses import dataclass
from decimal import Decimal

from marshmallow import EXCLUDE, Schema, ValidationError, fields

from cb.http import ClientError, HTTPClient, Refused
from cb.web.fields import Money, Symbol

from .errors import Unavailable, UnknownSymbol

NAME = "market-data"


@dataclass(frozen=True, slots=True)
class Quote:
    """The price of a symbol."""

    symbol: str
    price: Decimal
    #: when it was the price, as the service says it
    time: str


class _Answer(Schema):
    symbol = Symbol(required=True)
    price = Money(required=True)
    time = fields.String(required=True)


class MarketData:
    """Asks for prices. A symbol that nobody quotes is an answer, not a failure."""

    def __init__(self, client: HTTPClient) -> None:
        self._client = client
        self._answer = _Answer(unknown=EXCLUDE)

    def quote(self, symbol: str) -> Quote:
        """Return the price of a symbol. Raises UnknownSymbol, Unavailable, CircuitOpenError, BulkheadFullError."""
        try:
            quote = Quote(**self._answer.load(self._client.get_json(f"/api/v1/prices/{symbol}")))
        except Refused as error:
            if error.status == 404:
                raise UnknownSymbol(symbol) from error
            raise Unavailable(NAME, str(error)) from error
        except (ClientError, ValidationError) as error:
            raise Unavailable(NAME, str(error)) from error
        if quote.symbol != symbol:
            raise Unavailable(NAME, "answered for another symbol")
        return quote
