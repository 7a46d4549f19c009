"""The gateway's resources: trades, and reads that survive the loss of a dependency."""

from dataclasses import dataclass
from typing import Any

from flask import Blueprint, current_app, url_for

from cb.resilience import StaleCache
from cb.web import Problem, check_id, check_symbol, read_json

from .market_data import MarketData, Quote
from .portfolio import Holdings, Portfolio
from .schemas import HoldingsReadingSchema, OrderSchema, QuoteReadingSchema, TradeSchema
from .trade import State
from .trading import Trading

bp = Blueprint("gateway", __name__, url_prefix="/api/v1")

_order, _trade = OrderSchema(), TradeSchema()
_quote, _holdings = QuoteReadingSchema(), HoldingsReadingSchema()


@dataclass(frozen=True, slots=True)
class Parts:
    """What the views work with, in `app.extensions["gateway"]`."""

    trading: Trading
    market_data: MarketData
    portfolio: Portfolio
    #: for reads only: a trade never uses a stale value
    quotes: StaleCache[Quote]
    holdings: StaleCache[Holdings]


@bp.post("/trades")
def place_trade() -> Any:
    trade = _parts().trading.place(read_json(_order))
    if trade.state is State.REJECTED:
        raise Problem(409, str(trade.code), str(trade.detail), tradeId=trade.trade_id, tradeStatus=trade.status)
    place = {"Location": url_for("gateway.show_trade", trade_id=trade.trade_id)}
    return _trade.dump(trade), 201 if trade.state is State.FILLED else 202, place


@bp.get("/trades/<trade_id>")
def show_trade(trade_id: str) -> Any:
    return _trade.dump(_parts().trading.find(check_id("tradeId", trade_id)))


@bp.get("/portfolio/<user_id>")
def show_portfolio(user_id: str) -> Any:
    parts = _parts()
    user_id = check_id("userId", user_id)
    return _holdings.dump(parts.holdings.read(user_id, parts.portfolio.find, user_id))


@bp.get("/market-data/<symbol>")
def show_market_data(symbol: str) -> Any:
    parts = _parts()
    symbol = check_symbol("symbol", symbol)
    return _quote.dump(parts.quotes.read(symbol, parts.market_data.quote, symbol))


def _parts() -> Parts:
    parts: Parts = current_app.extensions["gateway"]
    return parts
