"""The market data service, as the gateway knows it."""

from dataclasses import dataclass
from decimal import Decimal

from marshmallow import EXCLUDE, Schema, fields

from cb.http import ClientError, ClientErrorResponse, HTTPClient, Json
from gateway.trading.errors import Unavailable, UnknownSymbol
from servicekit.fields import Money, Symbol

NAME = "market-data"


@dataclass(frozen=True, slots=True)
class Quote:
    """The price of a symbol."""

    symbol: str
    price: Decimal
    #: when it was the price, as the service says it
    time: str


class QuoteSchema(Schema):
    symbol = Symbol(required=True)
    price = Money(required=True)
    time = fields.String(required=True)


class MarketData:
    """Asks for prices. A symbol that nobody quotes is an answer, not a failure."""

    def __init__(self, client: HTTPClient) -> None:
        self._client = client
        self._answer = QuoteSchema(unknown=EXCLUDE)

    def quote(self, symbol: str, timeout: float | None = None) -> Quote:
        """Return the price of a symbol. Raises UnknownSymbol, Unavailable, CircuitOpenError, BulkheadFullError.

        `timeout` is seconds, where fewer are left than the client allows.
        """

        def check(answer: Json) -> Quote:
            quote = Quote(**self._answer.load(answer))
            if quote.symbol != symbol:
                raise ValueError("answered for another symbol")
            return quote

        try:
            return self._client.get_json(f"/api/v1/prices/{symbol}", check=check, timeout=timeout)
        except ClientErrorResponse as error:
            if error.status == 404:
                raise UnknownSymbol(symbol) from error
            raise Unavailable(NAME, str(error)) from error
        except ClientError as error:
            raise Unavailable(NAME, str(error)) from error
