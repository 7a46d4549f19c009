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
    """A monotonic clock in seconds that the test advances."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


class Desk:
    """Places orders; market data and risk take a given number of seconds of the timer."""

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


def test_order_checked_after_the_deadline_is_refused_and_not_stored(desk: Desk, store: TradeStore) -> None:
    desk.risk_takes = TIMEOUT

    with pytest.raises(OrderTimeoutError):
        desk.trading.place(order(), "k1")

    assert store.of_user("ann", 10) == []
    assert desk.portfolio.requests == []


def test_risk_is_not_called_after_the_deadline(desk: Desk, market_data: Server) -> None:
    market_data.act = takes(desk, TIMEOUT, QUOTE)

    with pytest.raises(OrderTimeoutError):
        desk.trading.place(order())

    assert desk.risk_was_given == []


def test_risk_gets_the_time_left_by_the_quote(desk: Desk, market_data: Server) -> None:
    market_data.act = takes(desk, 6, QUOTE)

    desk.trading.place(order())

    assert desk.risk_was_given == [TIMEOUT - 6]


def test_order_stored_after_the_deadline_is_refused_and_not_sent(
    desk: Desk, store: TradeStore, database: Database
) -> None:
    def commit(connection: Connection) -> None:  # the deadline passes while the order is stored
        if not connection.get_execution_options().get("reads_only"):
            desk.timer.now += TIMEOUT

    event.listen(database._engine, "commit", commit)  # noqa: SLF001 - only there a commit can be made slow

    with pytest.raises(OrderTimeoutError):
        desk.trading.place(order(), "k1")

    assert desk.portfolio.requests == []
    (trade,) = store.of_user("ann", 10)
    assert trade.state is TradeState.REFUSED


def test_order_refused_at_the_deadline_is_retried_with_its_key(desk: Desk, store: TradeStore) -> None:
    desk.risk_takes = TIMEOUT
    with pytest.raises(OrderTimeoutError):
        desk.trading.place(order(), "k1")
    desk.risk_takes = 0

    assert desk.trading.place(order(), "k1").trade.state is TradeState.FILLED


def test_order_is_pending_if_the_portfolio_does_not_respond_before_the_deadline(
    store: TradeStore, market_data: Server, portfolio: Server
) -> None:
    portfolio.act = stay_silent
    desk = Desk(store, market_data, portfolio)
    desk.risk_takes = TIMEOUT - 0.2  # 0.2 of the client's three seconds are left
    begun = time.monotonic()

    placed = desk.trading.place(order())

    assert placed.trade.status == "PENDING"
    assert time.monotonic() - begun < 2


def test_order_waits_for_a_lock_at_most_until_its_deadline(
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
