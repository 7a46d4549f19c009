"""Fixtures: the gateway's objects on a database of their own with a manual clock."""

import json
import shutil
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import count
from pathlib import Path

import pytest
from sqlalchemy import text

import gateway
from cb import BreakerConfig, CircuitBreaker
from cb.http import HTTPClient
from gateway.services.portfolio import PortfolioClient
from gateway.trading.exposure import Exposure
from gateway.trading.reconciler import Reconciler
from gateway.trading.store import TradeStore
from gateway.trading.trade import Move, Order, Side, Trade, TradeState
from servicekit.database import Database
from servicekit.migrations import migrate
from tests.support.databases import PostgreSQL
from tests.support.misbehaving import Act, Server, answer

LEASE = timedelta(seconds=5)
DEADLINE = timedelta(seconds=30)
_numbers = count()


@dataclass
class Clock:
    """A clock that the test advances."""

    now: datetime = datetime(2026, 1, 5, 12, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def pass_(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """Yield the gateway's empty database, on SQLite and on PostgreSQL."""
    if request.param == "sqlite":
        database = Database(
            f"sqlite:///{shutil.copy(request.getfixturevalue('migrated_file'), tmp_path / 'gateway.db')}"
        )
        yield database
        database.close()
        return
    server: PostgreSQL = request.getfixturevalue("postgresql")
    template = request.getfixturevalue("migrated_template")
    name = f"trades-{next(_numbers)}"
    database = Database(server.create(name, template))
    yield database
    database.close()
    server.drop(name)


@pytest.fixture(scope="session")
def migrated_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a migrated SQLite file to copy."""
    file = tmp_path_factory.mktemp("migrated") / "gateway.db"
    migrate(Database(f"sqlite:///{file}"), gateway)
    return file


@pytest.fixture(scope="session")
def migrated_template(postgresql_server: PostgreSQL) -> str:
    """Return the name of a migrated PostgreSQL database to use as a template."""
    postgresql_server.start()
    migrate(Database(postgresql_server.create("gateway-template")), gateway)
    return "gateway-template"


@pytest.fixture
def store(database: Database, clock: Clock) -> TradeStore:
    return TradeStore(database, clock)


@pytest.fixture
def portfolio() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


@pytest.fixture
def breaker() -> CircuitBreaker:
    return CircuitBreaker("portfolio", BreakerConfig(failure_threshold=3))


@pytest.fixture
def reconciler(store: TradeStore, clock: Clock, portfolio: Server, breaker: CircuitBreaker) -> Reconciler:
    client = HTTPClient(portfolio.url, 0.5, breaker)
    return Reconciler(store, PortfolioClient(client), lease=LEASE, deadline=DEADLINE, clock=clock)


def spoil(database: Database, statement: str) -> None:
    """Drop the triggers of the audit log and run a statement, as the owner of the database can."""
    with database.write() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text("ALTER TABLE audit_entries DISABLE TRIGGER audit_only_grows"))
        else:
            for trigger in ("audit_no_update", "audit_no_delete", "audit_at_end"):
                connection.execute(text(f"DROP TRIGGER IF EXISTS {trigger}"))
        connection.execute(text(statement))


def order(quantity: int = 10, side: Side = Side.BUY, *, user_id: str = "ann", price: str = "150") -> Order:
    return Order(user_id, "AAPL", quantity, side, Decimal(price))


def welcome(exposure: Exposure) -> None:
    """Admit every order."""


def received(store: TradeStore, an_order: Order | None = None, key: str | None = None) -> Trade:
    return store.receive(an_order or order(), LEASE, welcome, key)


def moved(store: TradeStore, trade: Trade, state: TradeState, code: str | None = None) -> Trade:
    after = store.move(trade, Move(state, code, code and f"because of {code}"))
    assert after
    return after


def applying(store: TradeStore, an_order: Order | None = None, key: str | None = None) -> Trade:
    return moved(store, received(store, an_order, key), TradeState.APPLYING)


def filled(store: TradeStore, an_order: Order | None = None) -> Trade:
    return moved(store, applying(store, an_order), TradeState.FILLED)


def says(portfolio: Server, http: int, **members: object) -> Act:
    """Respond with these members and the trade id of the request."""

    def act(connection: socket.socket) -> None:
        asked = json.loads(portfolio.requests[-1].partition("\r\n\r\n")[2])
        answer(http, json.dumps({"tradeId": asked["tradeId"], **members}))(connection)

    return act
