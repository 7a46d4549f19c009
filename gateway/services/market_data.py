"""The client of the market data service."""

from dataclasses import dataclass
from decimal import Decimal

from marshmallow import EXCLUDE, Schema, fields

from cb.http import ClientError, ClientErrorResponse, HTTPClient, Json
from gateway.trading.errors import DependencyError, UnknownSymbolError
from servicekit.fields import Money, Symbol

NAME = "market-data"


@dataclass(frozen=True, slots=True)
class Quote:
    """The price of a symbol."""

    symbol: str
    price: Decimal
    #: time of the price, as sent by the service
    time: str


class QuoteSchema(Schema):
    symbol = Symbol(required=True)
    price = Money(required=True)
    time = fields.String(required=True)


class MarketDataClient:
    """Requests prices. An unknown symbol is not a failure of the service."""

    def __init__(self, client: HTTPClient) -> None:
        self._client = client
        self._answer = QuoteSchema(unknown=EXCLUDE)

    def quote(self, symbol: str, timeout: float | None = None) -> Quote:
        """Return the price of a symbol. `timeout` is in seconds and shortens the timeout of the client.

        Raises UnknownSymbolError, DependencyError, CircuitOpenError, BulkheadFullError.
        """

        def check(answer: Json) -> Quote:
            quote = Quote(**self._answer.load(answer))
            if quote.symbol != symbol:
                raise ValueError("the response is for another symbol")
            return quote

        try:
            return self._client.get_json(f"/api/v1/prices/{symbol}", check=check, timeout=timeout)
        except ClientErrorResponse as error:
            if error.status == 404:
                raise UnknownSymbolError(symbol) from error
            raise DependencyError(NAME, error.reason) from error
        except ClientError as error:
            raise DependencyError(NAME, error.reason) from error
