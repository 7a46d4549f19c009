"""Responses of market data and portfolio that the breakers count as failures."""

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from cb import BreakerConfig, CircuitBreaker, State
from cb.http import HTTPClient
from gateway.services.market_data import MarketDataClient, Quote
from gateway.services.portfolio import PortfolioClient
from gateway.trading.errors import DependencyError, UnknownSymbolError
from gateway.trading.trade import Move, Order, Side, Trade, TradeState
from tests.support.misbehaving import Act, Server, answer

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ORDER = Order("ann", "AAPL", 1, Side.BUY, Decimal(150))
TRADE = Trade("t1", ORDER, TradeState.APPLYING, 2, 2, None, None, None, NOW, NOW, NOW, NOW)
REJECTION = '{"tradeId": "%s", "tradeStatus": "REJECTED", "code": "no-money", "detail": "no money"}'


@pytest.fixture
def breaker() -> CircuitBreaker:
    return CircuitBreaker("dependency", BreakerConfig(failure_threshold=2))


@pytest.fixture
def client(server: Server, breaker: CircuitBreaker) -> HTTPClient:
    return HTTPClient(server.url, 2, breaker)


def counted(breaker: CircuitBreaker) -> tuple[int, int]:
    totals = breaker.snapshot().totals
    return totals.successes, totals.failures


@pytest.mark.parametrize(
    "body",
    [
        "{}",
        '{"symbol": "AAPL", "price": "-1", "time": "now"}',
        '{"symbol": "AAPL", "price": 1e99999999, "time": "now"}',
        '{"symbol": "AAPL", "price": 150, "price": 1, "time": "now"}',
        '{"symbol": "MSFT", "price": 150, "time": "now"}',
    ],
    ids=["nothing", "negative", "bomb", "two-prices", "other-symbol"],
)
def test_invalid_quotes_open_the_circuit(
    server: Server, client: HTTPClient, breaker: CircuitBreaker, body: str
) -> None:
    server.act = answer(200, body)
    for _ in range(2):
        with pytest.raises(DependencyError):
            MarketDataClient(client).quote("AAPL")
    assert breaker.state is State.OPEN


def test_quote_and_unknown_symbol_are_successes(server: Server, client: HTTPClient, breaker: CircuitBreaker) -> None:
    server.act = answer(200, '{"symbol": "AAPL", "price": 150.1, "time": "now", "currency": "USD"}')
    assert MarketDataClient(client).quote("AAPL") == Quote("AAPL", Decimal("150.1"), "now")
    server.act = answer(404, "{}")
    with pytest.raises(UnknownSymbolError):
        MarketDataClient(client).quote("NONE")
    assert counted(breaker) == (2, 0)


@pytest.mark.parametrize(
    "body", ["{}", '{"userId": "bob", "cash": "1", "positions": []}'], ids=["nothing", "other-user"]
)
def test_invalid_holdings_are_a_failure(server: Server, client: HTTPClient, breaker: CircuitBreaker, body: str) -> None:
    server.act = answer(200, body)
    with pytest.raises(DependencyError):
        PortfolioClient(client).find("ann")
    assert counted(breaker) == (0, 1)


@pytest.mark.parametrize(
    ("act", "outcome"),
    [
        (answer(201, "{}"), (0, 1)),
        (answer(201, '{"tradeId": "t2", "status": "FILLED"}'), (0, 1)),
        (answer(201, '{"tradeId": "t1", "status": "REJECTED"}'), (0, 1)),
        (answer(302, '{"tradeId": "t1", "status": "FILLED"}'), (0, 1)),
        (answer(409, REJECTION % "t2"), (1, 0)),
        (answer(404, "{}"), (1, 0)),
    ],
    ids=["nothing", "other-trade", "odd-status", "redirect", "rejection-of-another", "not-found"],
)
def test_invalid_verdict_leaves_the_outcome_unknown(
    server: Server, client: HTTPClient, breaker: CircuitBreaker, *, act: Act, outcome: tuple[int, int]
) -> None:
    server.act = act
    with pytest.raises(DependencyError) as raised:
        PortfolioClient(client).apply(TRADE)
    assert raised.value.sent
    assert counted(breaker) == outcome


@pytest.mark.parametrize(
    ("act", "verdict"),
    [
        (answer(201, '{"tradeId": "t1", "status": "FILLED"}'), Move(TradeState.FILLED)),
        (answer(409, REJECTION % "t1"), Move(TradeState.REJECTED, "no-money", "no money")),
    ],
    ids=["filled", "rejected"],
)
def test_verdict_is_a_success(
    server: Server, client: HTTPClient, breaker: CircuitBreaker, *, act: Act, verdict: Move
) -> None:
    server.act = act
    assert PortfolioClient(client).apply(TRADE) == verdict
    assert counted(breaker) == (1, 0)
