"""An order is answered within `order_timeout`: refused if it was not sent by then, else pending."""

import socket
import time
from collections.abc import Iterator

import pytest
from sqlalchemy import Connection, event

from cb import CircuitBreaker
from cb.http import HTTPClient
from gateway.services.market_data import MarketDataClient
from gateway.services.portfolio import PortfolioClient
from gateway.services.risk import RiskService
from gateway.trading.errors import OrderTimeoutError
from gateway.trading.store import TradeStore
from gateway.trading.trade import TradeState
from gateway.trading.trading import Trading
from servicekit.database import Database, DatabaseUnavailableError
from tests.platform.trades.conftest import LEASE, Clock, order, received, says
from tests.platform.trades.test_trading import LIMITS
from tests.support.misbehaving import Act, Server, answer, stay_silent

QUOTE = answer(200, '{"symbol": "AAPL", "price": "150", "time": "now"}')
TIMEOUT = 8.0


class Timer:
    """A monotonic clock in seconds that stands still until it is told."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


class Desk:
    """Orders are placed here; market data and risk take as many seconds of the timer as they are told."""

    def __init__(self, store: TradeStore, market_data: Server, portfolio: Server, *, timeout: float = TIMEOUT) -> None:
        self.timer = Timer()
        self.risk_takes = 0.0
        self.risk_was_given: list[float] = []
        self.portfolio = portfolio
        self.trading = Trading(
            store,
            market_data=MarketDataClient(HTTPClient(market_data.url, 3, CircuitBreaker("market-data"))),
            risk=RiskService(CircuitBreaker("risk"), self._examine, LIMITS),
            portfolio=PortfolioClient(HTTPClient(portfolio.url, 3, CircuitBreaker("portfolio"))),
            lease=LEASE,
            timeout=timeout,
            clock=self.timer,
        )

    def _examine(self, seconds: float) -> None:
        self.risk_was_given.append(seconds)
        self.timer.now += self.risk_takes


@pytest.fixture
def market_data() -> Iterator[Server]:
    server = Server()
    server.act = QUOTE
    yield server
    server.close()


@pytest.fixture
def desk(store: TradeStore, market_data: Server, portfolio: Server) -> Desk:
    portfolio.act = says(portfolio, 201, status="FILLED")
    return Desk(store, market_data, portfolio)


def takes(desk: Desk, seconds: float, then: Act) -> Act:
    def act(connection: socket.socket) -> None:
        desk.timer.now += seconds
        then(connection)

    return act


def test_order_that_is_checked_too_late_is_refused_and_not_stored(desk: Desk, store: TradeStore) -> None:
    desk.risk_takes = TIMEOUT

    with pytest.raises(OrderTimeoutError):
        desk.trading.place(order(), "k1")

    assert store.of_user("ann", 10) == []
    assert desk.portfolio.requests == []


def test_quote_that_takes_all_the_time_leaves_risk_unasked(desk: Desk, market_data: Server) -> None:
    market_data.act = takes(desk, TIMEOUT, QUOTE)

    with pytest.raises(OrderTimeoutError):
        desk.trading.place(order())

    assert desk.risk_was_given == []


def test_risk_is_given_what_the_quote_has_left(desk: Desk, market_data: Server) -> None:
    market_data.act = takes(desk, 6, QUOTE)

    desk.trading.place(order())

    assert desk.risk_was_given == [TIMEOUT - 6]


def test_order_that_is_stored_too_late_is_refused_and_surely_not_sent(
    desk: Desk, store: TradeStore, database: Database
) -> None:
    def commit(connection: Connection) -> None:  # storing the order took all the time
        if not connection.get_execution_options().get("reads_only"):
            desk.timer.now += TIMEOUT

    event.listen(database._engine, "commit", commit)  # noqa: SLF001 - only there a commit can be made slow

    with pytest.raises(OrderTimeoutError):
        desk.trading.place(order(), "k1")

    assert desk.portfolio.requests == []
    (trade,) = store.of_user("ann", 10)
    assert trade.state is TradeState.REFUSED


def test_order_that_was_refused_for_its_time_may_be_tried_again_with_its_key(desk: Desk, store: TradeStore) -> None:
    desk.risk_takes = TIMEOUT
    with pytest.raises(OrderTimeoutError):
        desk.trading.place(order(), "k1")
    desk.risk_takes = 0

    assert desk.trading.place(order(), "k1").trade.state is TradeState.FILLED


def test_portfolio_that_is_silent_for_the_rest_of_the_time_leaves_the_order_pending(
    store: TradeStore, market_data: Server, portfolio: Server
) -> None:
    portfolio.act = stay_silent
    desk = Desk(store, market_data, portfolio)
    desk.risk_takes = TIMEOUT - 0.2  # of the three seconds that the client allows, 0.2 are left
    begun = time.monotonic()

    placed = desk.trading.place(order())

    assert placed.trade.status == "PENDING"
    assert time.monotonic() - begun < 2


def test_order_does_not_wait_longer_for_another_writer_than_its_time(
    database: Database, clock: Clock, market_data: Server, portfolio: Server
) -> None:
    store = TradeStore(database, clock)
    known = received(store)
    desk = Desk(store, market_data, portfolio)
    desk.risk_takes = TIMEOUT - 0.3
    writer = Database(database._engine.url.render_as_string(hide_password=False))  # noqa: SLF001 - another process
    with writer.write() as connection:
        for table in ("trades", "exposure"):
            if connection.dialect.name == "postgresql":
                connection.exec_driver_sql(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
        begun = time.monotonic()
        with pytest.raises((DatabaseUnavailableError, OrderTimeoutError)):
            desk.trading.place(order(user_id="bob"))
        waited = time.monotonic() - begun
    writer.close()

    assert waited < 2
    assert store.find(known.trade_id) == known
