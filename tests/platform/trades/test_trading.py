"""Responses to orders under failures: an order that may still be booked is never refused."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal

import pytest
from sqlalchemy import Connection, event
from sqlalchemy.exc import OperationalError

from cb import CircuitBreaker, CircuitOpenError
from cb.http import HTTPClient
from gateway.services.market_data import MarketDataClient
from gateway.services.portfolio import PortfolioClient
from gateway.services.risk import RiskLimits, RiskService
from gateway.trading.reconciler import Reconciler
from gateway.trading.store import TradeStore
from gateway.trading.trade import TradeState
from gateway.trading.trading import Trading
from servicekit.database import Database, DatabaseUnavailableError
from tests.platform.trades.conftest import DEADLINE, LEASE, Clock, order, says
from tests.support.misbehaving import Server, answer

LIMITS = RiskLimits(Decimal("0.05"), Decimal(10_000_000), Decimal(1_000_000), Decimal(100_000_000))
#: the write transactions of placing an order
RECEIVE, MARK, CLOSE = 1, 2, 3


@pytest.fixture
def market_data() -> Iterator[Server]:
    server = Server()
    server.act = answer(200, '{"symbol": "AAPL", "price": "150", "time": "now"}')
    yield server
    server.close()


@pytest.fixture
def portfolio() -> Iterator[Server]:
    server = Server()
    server.act = says(server, 201, status="FILLED")
    yield server
    server.close()


@dataclass
class Gateway:
    """Places and reconciles orders."""

    database: Database
    store: TradeStore
    clock: Clock
    market_data: Server
    portfolio: Server
    #: headers of the request to the portfolio
    headers: dict[str, str] = field(default_factory=dict)
    commits: int = 0

    def __post_init__(self) -> None:
        self.guard = CircuitBreaker("database")
        self.database.guard(self.guard)
        self.circuit = CircuitBreaker("portfolio")
        client = PortfolioClient(HTTPClient(self.portfolio.url, 1, self.circuit, headers=lambda: self.headers))
        self.trading = Trading(
            self.store,
            market_data=MarketDataClient(HTTPClient(self.market_data.url, 1, CircuitBreaker("market-data"))),
            risk=RiskService(CircuitBreaker("risk"), lambda _: None, LIMITS),
            portfolio=client,
            lease=LEASE,
            timeout=8,
        )
        self.reconciler = Reconciler(self.store, client, lease=LEASE, deadline=DEADLINE, clock=self.clock)

    def lose_connection(self, number: int, *, kept: bool) -> None:
        """Lose the connection at a commit, before or after the server has committed, and then the database."""

        def lose(connection: Connection) -> None:
            if connection.get_execution_options().get("reads_only"):
                return
            self.commits += 1
            if self.commits == number:
                if kept:
                    connection.connection.commit()
                self.guard.control.force_open(reason="it is gone")
                raise OperationalError("COMMIT", None, Exception("connection lost"))

        event.listen(self.database._engine, "commit", lose)  # noqa: SLF001 - only there a commit can be lost

    def heal(self) -> None:
        for breaker in (self.guard, self.circuit):
            breaker.control.reset(reason="it is back")

    def later(self) -> TradeState:
        """Reconcile, and return the state of the only trade."""
        self.clock.pass_(LEASE.total_seconds())
        while self.reconciler.run_once():
            pass
        (trade,) = self.store.of_user("ann", 10)
        return trade.state


@pytest.fixture
def gateway(database: Database, store: TradeStore, clock: Clock, market_data: Server, portfolio: Server) -> Gateway:
    return Gateway(database, store, clock, market_data, portfolio)


@pytest.mark.parametrize(("kept", "end"), [(True, TradeState.FILLED), (False, TradeState.CANCELLED)])
def test_order_is_pending_if_the_commit_of_its_mark_was_lost(gateway: Gateway, *, kept: bool, end: TradeState) -> None:
    gateway.lose_connection(MARK, kept=kept)

    placed = gateway.trading.place(order())

    assert placed.trade.status == "PENDING"
    assert gateway.portfolio.requests == []
    gateway.heal()
    assert gateway.later() is end


@pytest.mark.parametrize("kept", [True, False])
def test_order_is_never_booked_if_its_first_commit_was_lost(gateway: Gateway, *, kept: bool) -> None:
    gateway.lose_connection(RECEIVE, kept=kept)

    with pytest.raises(DatabaseUnavailableError):
        gateway.trading.place(order())

    gateway.heal()
    gateway.clock.pass_(60)
    gateway.reconciler.run_once()
    assert gateway.portfolio.requests == []


@pytest.mark.parametrize(("kept", "end"), [(True, TradeState.REFUSED), (False, TradeState.FILLED)])
def test_refusal_that_could_not_be_stored_is_not_returned(gateway: Gateway, *, kept: bool, end: TradeState) -> None:
    gateway.circuit.control.force_open(reason="for the test")
    gateway.lose_connection(CLOSE, kept=kept)

    placed = gateway.trading.place(order())

    assert placed.trade.status == "PENDING", "the reconciler would book what the client was refused"
    gateway.heal()
    assert gateway.later() is end


def test_stored_refusal_is_returned(gateway: Gateway) -> None:
    gateway.circuit.control.force_open(reason="for the test")

    with pytest.raises(CircuitOpenError):
        gateway.trading.place(order())

    gateway.heal()
    assert gateway.later() is TradeState.REFUSED


def test_marked_order_is_pending_after_an_internal_error(gateway: Gateway) -> None:
    gateway.headers = {"X-Request-ID": "of two\nlines"}

    placed = gateway.trading.place(order())

    assert placed.trade.status == "PENDING"
    gateway.headers = {}
    assert gateway.later() is TradeState.FILLED
