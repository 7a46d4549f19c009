"""The gateway's resources: trades, and reads that survive the loss of a dependency."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from flask import Blueprint, current_app, request, url_for

from cb.resilience import StaleCache
from cb.web import Problem, check_id, check_symbol, read_json
from cb.web.ids import ID
from cb.web.parameters import invalid_parameter

from .idempotency import read_key
from .market_data import MarketData, Quote
from .pages import only, page, read_cursor, read_limit
from .portfolio import Holdings, Portfolio
from .schemas import HoldingsReadingSchema, OrderSchema, QuoteReadingSchema, TradeSchema
from .store import Store
from .trade import State, Trade
from .trading import Trading

bp = Blueprint("gateway", __name__, url_prefix="/api/v1")

_order, _trade = OrderSchema(), TradeSchema()
_quote, _holdings = QuoteReadingSchema(), HoldingsReadingSchema()


@dataclass(frozen=True, slots=True)
class Parts:
    """What the views work with, in `app.extensions["gateway"]`."""

    trading: Trading
    store: Store
    market_data: MarketData
    portfolio: Portfolio
    #: for reads only: a trade never uses a stale value
    quotes: StaleCache[Quote]
    holdings: StaleCache[Holdings]


@bp.post("/trades")
def place_trade() -> Any:
    trade, replayed = _parts().trading.place(read_json(_order), read_key(request.headers.get("Idempotency-Key")))
    headers = {"Location": url_for("gateway.show_trade", trade_id=trade.trade_id)}
    if replayed:
        headers["Idempotency-Replayed"] = "true"
    if trade.state in (State.REJECTED, State.CANCELLED):
        facts = {"tradeId": trade.trade_id, "tradeStatus": trade.status}
        raise Problem(409, str(trade.code), str(trade.detail), headers=headers, **facts)
    return _trade.dump(trade), 201 if trade.state is State.FILLED else 202, headers


@bp.get("/trades")
def list_trades() -> Any:
    only("userId", "limit", "after")
    if "userId" not in request.args:
        raise invalid_parameter("query", "userId", "must be given")
    user_id, limit = check_id("userId", request.args["userId"], where="query"), read_limit()
    found = _parts().store.of_user(user_id, limit + 1, read_cursor(_moment_and_id))
    return page("trades", found, limit, _trade.dump, _cursor)


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


def _cursor(trade: Trade) -> list[str]:
    return [trade.created_at.isoformat(), trade.trade_id]


def _moment_and_id(cursor: Any) -> tuple[datetime, str]:
    moment, trade_id = cursor
    found = datetime.fromisoformat(moment)
    if found.tzinfo is None or not ID.fullmatch(trade_id):
        raise ValueError(cursor)
    return found, trade_id


def _parts() -> Parts:
    parts: Parts = current_app.extensions["gateway"]
    return parts
