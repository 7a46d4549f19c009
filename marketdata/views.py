"""Resources of the prices."""

import time
from typing import Any

from flask import Blueprint, current_app
from werkzeug.routing import BaseConverter

from servicekit import Problem, ResponseSpec, operation
from servicekit.access import require_service
from servicekit.fields import Symbol

from .market import Market, Quote
from .schemas import BatchSchema, QuoteSchema, QuotesSchema

bp = Blueprint("prices", __name__, url_prefix="/api/v1/prices")


class _SymbolConverter(BaseConverter):
    """A path segment other than `batch`, which is a resource of its own without GET."""

    regex = "(?!batch$)[^/]+"
    part_isolating = True


bp.record_once(lambda state: state.app.url_map.converters.update(symbol=_SymbolConverter))

_QUOTE = {"symbol": "AAPL", "price": "150.37", "currency": "USD", "time": "2026-01-05T14:30:00.000Z"}
_FAILS = {503: "`simulated-failure`."}

bp.before_request(require_service)


@bp.before_request
def simulate() -> None:
    current_app.extensions["faults"].apply()


@bp.get("/<symbol:symbol>")
@operation(
    "readPrice",
    tag="prices",
    access="services",
    path={"symbol": Symbol(metadata={"examples": ["AAPL"]})},
    responses={200: ResponseSpec("The current price.", QuoteSchema(), example=_QUOTE)},
    problems={404: "`unknown-symbol`: the symbol is not traded.", **_FAILS},
)
def show(symbol: str) -> Any:
    """Read the price of a share."""
    quote = _market().quote(symbol, time.time())
    if quote is None:
        raise Problem(404, "unknown-symbol", f"{symbol} is not traded here", symbol=symbol)
    return quote


@bp.post("/batch")
@operation(
    "readPrices",
    tag="prices",
    access="services",
    body=BatchSchema(),
    example={"symbols": ["AAPL", "NOPE"]},
    responses={
        200: ResponseSpec("The current prices.", QuotesSchema(), example={"prices": [_QUOTE], "unknown": ["NOPE"]})
    },
    problems=_FAILS,
)
def batch(body: dict[str, list[str]]) -> Any:
    """Read the prices of several shares.

    Unknown symbols are listed in `unknown`.
    """
    now, market = time.time(), _market()
    quotes: dict[str, Quote | None] = {symbol: market.quote(symbol, now) for symbol in body["symbols"]}
    return {
        "prices": [quote for quote in quotes.values() if quote],
        "unknown_symbols": [symbol for symbol, quote in quotes.items() if quote is None],
    }


def _market() -> Market:
    found: Market = current_app.extensions["market"]
    return found
