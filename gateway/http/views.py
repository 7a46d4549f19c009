"""The gateway's resources: trades, and reads that survive the loss of a dependency."""

from dataclasses import dataclass
from typing import Any

from flask import Blueprint, current_app, url_for

from cb.resilience import StaleCache
from gateway.services.market_data import MarketData, Quote
from gateway.services.portfolio import Holdings, Portfolio
from gateway.trading.idempotency import IdempotencyKey
from gateway.trading.store import Store
from gateway.trading.trade import Order, State
from gateway.trading.trading import Trading
from servicekit import Link, Problem, ResponseSpec, operation
from servicekit.fields import Identifier, Symbol

from . import authorization, pages
from .cursor import Moment, TradeCursor
from .problems import DEPENDS, STORED
from .schemas import HoldingsReadingSchema, OrderSchema, QuoteReadingSchema, TradeSchema, TradesSchema

bp = Blueprint("gateway", __name__, url_prefix="/api/v1")
bp.before_request(authorization.check)

_KEY = {"description": "A name for this order, chosen by the client.", "examples": ["order-1"]}
_PLACED = {"Location": "Where the trade is.", "Idempotency-Replayed": "`true` if it had been placed before."}
_SHOW = Link("readTrade", {"tradeId": "$response.body#/tradeId"})
_ORDER = {"userId": "user123", "symbol": "AAPL", "quantity": 100, "orderType": "BUY", "price": 150.00}
_MOMENT = "2026-01-05T14:30:00.000000+00:00"
_TRADE = {"tradeId": "t-1", "status": "FILLED", **_ORDER, "price": "150.00", "createdAt": _MOMENT, "updatedAt": _MOMENT}
_QUOTE = {"stale": False, "ageSeconds": None, "symbol": "AAPL", "price": "150.37", "time": _MOMENT}
_HELD = [{"symbol": "AAPL", "quantity": 100}]
_HOLDINGS = {"stale": False, "ageSeconds": None, "userId": "user123", "cash": "985000.00", "positions": _HELD}


def _user(**options: Any) -> Identifier:
    return Identifier(data_key="userId", metadata={"examples": ["user123"]}, **options)


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
@operation(
    "placeTrade",
    tag="trades",
    access="users",
    headers={"key": IdempotencyKey(data_key="Idempotency-Key", load_default=None, metadata=_KEY)},
    body=OrderSchema(),
    example=_ORDER,
    responses={
        201: ResponseSpec("It is booked.", TradeSchema(), headers=_PLACED, example=_TRADE, links={"trade": _SHOW}),
        202: ResponseSpec(
            "Its outcome is not known yet, and will be found out: ask again, or send it again with the same key.",
            TradeSchema(),
            headers=_PLACED,
            example=_TRADE | {"status": "PENDING"},
            links={"trade": _SHOW},
        ),
    },
    problems={
        404: "`unknown-symbol`: nobody quotes it.",
        409: "It is not booked: `price-out-of-band`, `order-value-limit`, `position-limit`, `daily-volume-limit`, "
        "`insufficient-funds`, `insufficient-position`, `balance-limit`, `voided`, or `idempotency-in-progress`.",
        **DEPENDS,
        503: f"{DEPENDS[503]} `order-timeout`: it could not be sent in time.",
    },
)
def place_trade(body: Order, key: str | None) -> Any:
    """Place an order.

    `price` is a limit, which must be near the market's price. The same order with the same `Idempotency-Key` is one
    trade, however often it is sent; another order with that key is refused with 422, `idempotency-key-reused`. What is
    refused with 429 or 503 is surely not booked.
    """
    trade, replayed = _parts().trading.place(authorization.own_order(body), key)
    headers = {"Location": url_for("gateway.show_trade", trade_id=trade.trade_id)}
    if replayed:
        headers["Idempotency-Replayed"] = "true"
    if trade.state in (State.REJECTED, State.CANCELLED):
        facts = {"tradeId": trade.trade_id, "tradeStatus": trade.status}
        raise Problem(409, str(trade.code), str(trade.detail), headers=headers, **facts)
    return trade, 201 if trade.state is State.FILLED else 202, headers


@bp.get("/trades")
@operation(
    "listTrades",
    tag="trades",
    access="users",
    query=pages.paged(TradeCursor(load_default=None, metadata=pages.AFTER), user_id=_user(required=True)),
    responses={200: pages.answer("A part of them.", TradesSchema())},
    problems=STORED,
)
def list_trades(user_id: str, limit: int, after: Moment | None) -> Any:
    """List the trades of a user, the newest first."""
    return pages.page("trades", _parts().store.of_user(user_id, limit + 1, after), limit, TradeCursor.text)


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
    """Tell what became of a trade."""
    return authorization.own_trade(_parts().trading.find(trade_id))


@bp.get("/portfolio/<user_id>")
@operation(
    "readPortfolio",
    tag="portfolio",
    access="users",
    path={"user_id": _user()},
    responses={200: ResponseSpec("What the user owns.", HoldingsReadingSchema(), example=_HOLDINGS)},
    problems={404: "`unknown-user`: nobody of that id has an account.", **DEPENDS},
)
def show_portfolio(user_id: str) -> Any:
    """Tell what a user owns.

    While the portfolio service is away, this may be what it said last: then it is `stale`.
    """
    parts = _parts()
    return parts.holdings.call(user_id, parts.portfolio.find, user_id)


@bp.get("/market-data/<symbol>")
@operation(
    "readMarketData",
    tag="market data",
    access="users",
    path={"symbol": Symbol(metadata={"examples": ["AAPL"]})},
    responses={200: ResponseSpec("The price.", QuoteReadingSchema(), example=_QUOTE)},
    problems={404: "`unknown-symbol`: nobody quotes it.", **DEPENDS},
)
def show_market_data(symbol: str) -> Any:
    """Tell what a share costs.

    While the market data service is away, this may be what it said last: then it is `stale`.
    """
    parts = _parts()
    return parts.quotes.call(symbol, parts.market_data.quote, symbol)


def _parts() -> Parts:
    parts: Parts = current_app.extensions["gateway"]
    return parts
