"""The prices on the wire."""

import time
from typing import Any

from flask import Blueprint, current_app

from cb.web import Problem, check_symbol, read_json

from .market import Market, Quote
from .schemas import BatchSchema, QuoteSchema

bp = Blueprint("prices", __name__, url_prefix="/api/v1/prices")

_batch, _quote = BatchSchema(), QuoteSchema()


@bp.before_request
def simulate() -> None:
    current_app.extensions["faults"].apply()


@bp.get("/<symbol>")
def show(symbol: str) -> Any:
    quote = _market().quote(check_symbol("symbol", symbol), time.time())
    if quote is None:
        raise Problem(404, "unknown-symbol", f"{symbol} is not traded here", symbol=symbol)
    return _quote.dump(quote)


@bp.post("/batch")
def batch() -> Any:
    """Answer what is known; one unknown symbol does not spoil the rest."""
    asked = dict.fromkeys(read_json(_batch)["symbols"])
    now, market = time.time(), _market()
    quotes: dict[str, Quote | None] = {symbol: market.quote(symbol, now) for symbol in asked}
    return {
        "prices": _quote.dump([quote for quote in quotes.values() if quote], many=True),
        "unknown": [symbol for symbol, quote in quotes.items() if quote is None],
    }


def _market() -> Market:
    found: Market = current_app.extensions["market"]
    return found
