"""Resources for trades, portfolios and prices. Reads survive the loss of a dependency."""

from dataclasses import dataclass
from typing import Any

from flask import Blueprint, current_app, url_for

from cb.resilience import StaleCache
from gateway.services.market_data import MarketDataClient, Quote
from gateway.services.portfolio import Holdings, PortfolioClient
from gateway.trading.store import TradeStore
from gateway.trading.trade import Order, TradeState
from gateway.trading.trading import Trading
from servicekit import Link, Problem, ResponseSpec, operation
from servicekit.fields import Identifier, Symbol

from . import authorization, pages
from .pages import TradeCursor, TradePosition
from .problems import DEPENDS, STORED
from .schemas import HoldingsReadSchema, IdempotencyKey, OrderSchema, QuoteReadSchema, TradeSchema, TradesSchema

bp = Blueprint("gateway", __name__, url_prefix="/api/v1")
bp.before_request(authorization.check)

_KEY = {"description": "A client-chosen name for this order.", "examples": ["order-1"]}
_PLACED = {"Location": "The trade.", "Idempotency-Replayed": "`true` if the order had been placed before."}
_SHOW = Link("readTrade", {"tradeId": "$response.body#/tradeId"})
_ORDER = {"userId": "user123", "symbol": "AAPL", "quantity": 100, "orderType": "BUY", "price": 150.00}
_MOMENT = "2026-01-05T14:30:00.000000+00:00"
_TRADE = {"tradeId": "t-1", "status": "FILLED", **_ORDER, "price": "150.00", "createdAt": _MOMENT, "updatedAt": _MOMENT}
_QUOTE = {"stale": False, "ageSeconds": None, "symbol": "AAPL", "price": "150.37", "time": _MOMENT}
_POSITIONS = [{"symbol": "AAPL", "quantity": 100}]
_HOLDINGS = {"stale": False, "ageSeconds": None, "userId": "user123", "cash": "985000.00", "positions": _POSITIONS}


def _user(**options: Any) -> Identifier:
    return Identifier(data_key="userId", metadata={"examples": ["user123"]}, **options)


@dataclass(frozen=True, slots=True)
class ViewContext:
    """Objects used by the views, in `app.extensions["gateway"]`."""

    trading: Trading
    store: TradeStore
    market_data: MarketDataClient
    portfolio: PortfolioClient
    #: for reads only: a trade never uses a stale value
    quotes: StaleCache[Quote]
    holdings: StaleCache[Holdings]


@bp.post("/trades")
@operation(
    "placeTrade",
    tag="trades",
    access="users",
    headers={"key": IdempotencyKey(data_key="Idempotency-Key", load_default=None, metadata=_KEY)},
    body=OrderSchema(),
    example=_ORDER,
    responses={
        201: ResponseSpec(
            "The trade is booked.", TradeSchema(), headers=_PLACED, example=_TRADE, links={"trade": _SHOW}
        ),
        202: ResponseSpec(
            "The outcome is not known yet and will be settled: read the trade later, or retry with the same key.",
            TradeSchema(),
            headers=_PLACED,
            example=_TRADE | {"status": "PENDING"},
            links={"trade": _SHOW},
        ),
    },
    problems={
        404: "`unknown-symbol`: the symbol is not quoted.",
        409: "The order is not booked: `price-out-of-band`, `order-value-limit`, `position-limit`, "
        "`daily-volume-limit`, `insufficient-funds`, `insufficient-position`, `balance-limit`, `voided`, or "
        "`idempotency-in-progress`.",
        **DEPENDS,
        503: f"{DEPENDS[503]} `order-timeout`: it could not be sent in time.",
    },
)
def place_trade(body: Order, key: str | None) -> Any:
    """Place an order.

    `price` is a limit and must be near the market price. Retries of the same order with the same `Idempotency-Key` are
    one trade; another order with that key is refused with 422, `idempotency-key-reused`. An order refused with 429 or
    503 is not booked.
    """
    trade, replayed = _context().trading.place(authorization.own_order(body), key)
    headers = {"Location": url_for("gateway.show_trade", trade_id=trade.trade_id)}
    if replayed:
        headers["Idempotency-Replayed"] = "true"
    if trade.state in (TradeState.REJECTED, TradeState.CANCELLED):
        facts = {"tradeId": trade.trade_id, "tradeStatus": trade.status}
        raise Problem(409, str(trade.code), str(trade.detail), headers=headers, **facts)
    return trade, 201 if trade.state is TradeState.FILLED else 202, headers


@bp.get("/trades")
@operation(
    "listTrades",
    tag="trades",
    access="users",
    query=pages.paged(TradeCursor(load_default=None, metadata=pages.AFTER), user_id=_user(required=True)),
    responses={200: pages.page_response("A page of trades.", TradesSchema())},
    problems=STORED,
)
def list_trades(user_id: str, limit: int, after: TradePosition | None) -> Any:
    """List the trades of a user, newest first."""
    return pages.page("trades", _context().store.of_user(user_id, limit + 1, after), limit, TradeCursor.text)


@bp.get("/trades/<trade_id>")
@operation(
    "readTrade",
    tag="trades",
    access="users",
    path={"trade_id": Identifier(data_key="tradeId")},
    responses={200: ResponseSpec("The trade.", TradeSchema(), example=_TRADE)},
    problems={404: "`unknown-trade`: no trade has that id.", **STORED},
)
def show_trade(trade_id: str) -> Any:
    """Read a trade."""
    return authorization.own_trade(_context().trading.find(trade_id))


@bp.get("/portfolio/<user_id>")
@operation(
    "readPortfolio",
    tag="portfolio",
    access="users",
    path={"user_id": _user()},
    responses={200: ResponseSpec("Cash and positions.", HoldingsReadSchema(), example=_HOLDINGS)},
    problems={404: "`unknown-user`: no account has that id.", **DEPENDS},
)
def show_portfolio(user_id: str) -> Any:
    """Read the cash and the positions of a user.

    While the portfolio service is down, an earlier response may be served; it is marked `stale`.
    """
    context = _context()
    return context.holdings.call(user_id, context.portfolio.find, user_id)


@bp.get("/market-data/<symbol>")
@operation(
    "readMarketData",
    tag="market data",
    access="users",
    path={"symbol": Symbol(metadata={"examples": ["AAPL"]})},
    responses={200: ResponseSpec("The price.", QuoteReadSchema(), example=_QUOTE)},
    problems={404: "`unknown-symbol`: the symbol is not quoted.", **DEPENDS},
)
def show_market_data(symbol: str) -> Any:
    """Read the price of a share.

    While the market data service is down, an earlier response may be served; it is marked `stale`.
    """
    context = _context()
    return context.quotes.call(symbol, context.market_data.quote, symbol)


def _context() -> ViewContext:
    context: ViewContext = current_app.extensions["gateway"]
    return context
