"""Outcomes of a guarded engine on a PostgreSQL server that is killed or frozen."""

import threading
import time
from collections.abc import Iterator

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.engine import Engine
from sqlalchemy.exc import DBAPIError

from cb import Bulkhead, BulkheadFullError, CircuitBreaker, CircuitOpenError, State
from cb.integrations.sqlalchemy import guard_engine
from tests.integrations.test_sqlalchemy import ask, breaker, counted
from tests.support.databases import PostgreSQL
from tests.support.waiting import until

pytestmark = pytest.mark.quiet

__all__ = ["breaker"]  # a fixture


@pytest.fixture
def server(postgresql: PostgreSQL) -> Iterator[Engine]:
    """Yield an engine on a server, with one connection for each thread of a test."""
    engine = create_engine(postgresql.url, pool_size=8, pool_timeout=5, connect_args={"connect_timeout": 2})
    yield engine
    postgresql.resume()
    engine.dispose()


def test_server_lost_during_a_statement_is_a_failure(server: Engine, breaker: CircuitBreaker) -> None:
    guard_engine(server, breaker)
    with server.connect() as connection:
        number = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
        with server.connect() as other:
            other.execute(text("SELECT pg_terminate_backend(:number)"), {"number": number})
        with pytest.raises(DBAPIError):
            connection.execute(text("SELECT 1"))
    assert counted(breaker) == (1, 1)


def test_errors_of_the_server_are_successes(server: Engine, breaker: CircuitBreaker) -> None:
    guard_engine(server, breaker)
    for statement in ("SELECT nothing", "SELECT 1 / 0", "SET statement_timeout = 1; SELECT pg_sleep(5)"):
        with pytest.raises(DBAPIError), server.begin() as connection:
            connection.exec_driver_sql(statement)
    assert counted(breaker) == (3, 0)


class Load:
    """Threads that query a database repeatedly, and record how long each rejection took."""

    def __init__(self, engine: Engine) -> None:
        self.refused: list[float] = []
        self._engine = engine
        self._done = threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(8)]
        for thread in self._threads:
            thread.start()

    def _run(self) -> None:
        while not self._done.wait(0.005):
            begin = time.perf_counter()
            try:
                ask(self._engine)
            except CircuitOpenError:
                self.refused.append(time.perf_counter() - begin)
            except (DBAPIError, BulkheadFullError):
                pass

    def end(self) -> None:
        self._done.set()
        for thread in self._threads:
            thread.join()


def test_killed_server_opens_the_circuit_and_its_return_closes_it(
    server: Engine, postgresql: PostgreSQL, breaker: CircuitBreaker
) -> None:
    guard_engine(server, breaker)
    load = Load(server)
    try:
        until(lambda: breaker.snapshot().totals.successes > 50, seconds=10)
        postgresql.kill()
        until(lambda: len(load.refused) > 50, seconds=10)
        assert sorted(load.refused)[len(load.refused) // 2] < 0.01
        postgresql.start()
        until(lambda: breaker.state is State.CLOSED, seconds=10)
    finally:
        load.end()
    assert breaker.snapshot().in_flight == 0


def test_frozen_server_opens_the_circuit_while_statements_hang(
    server: Engine, postgresql: PostgreSQL, breaker: CircuitBreaker
) -> None:
    guard_engine(server, Bulkhead(breaker, 6, wait=5))
    load = Load(server)
    try:
        until(lambda: breaker.snapshot().totals.successes > 50, seconds=10)
        postgresql.stop()
        until(lambda: len(load.refused) > 20, seconds=10)  # two threads have no permit, and the others hang
        assert sorted(load.refused)[len(load.refused) // 2] < 0.01
        postgresql.resume()
        until(lambda: breaker.state is State.CLOSED, seconds=10)
    finally:
        load.end()
    assert breaker.snapshot().in_flight == 0
