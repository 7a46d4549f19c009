"""Outcomes of a guarded engine on a PostgreSQL server that is killed or frozen."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.engine import Engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

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


async def ask_repeatedly(engine: AsyncEngine, refused: list[float], done: asyncio.Event) -> None:
    """Query a database in one task, and record how long each rejection took."""
    while not done.is_set():
        begin = time.perf_counter()
        try:
            async with engine.connect() as connection:
                await connection.execute(text("SELECT 1"))
        except CircuitOpenError:
            refused.append(time.perf_counter() - begin)
        except Exception:  # noqa: BLE001 - asyncpg has many errors for a server that starts or is lost
            pass
        await asyncio.sleep(0.005)


@pytest.mark.parametrize("end", ["kill", "stop"])
def test_tasks_are_refused_while_the_server_is_killed_or_frozen_and_served_when_it_is_back(
    postgresql: PostgreSQL, breaker: CircuitBreaker, end: str
) -> None:
    async def use() -> list[float]:
        engine = create_async_engine(postgresql.url.replace("psycopg", "asyncpg"), pool_size=6)
        guard_engine(engine, Bulkhead(breaker, 6, wait=5))
        refused: list[float] = []
        done, loop = asyncio.Event(), asyncio.get_running_loop()
        tasks = [asyncio.create_task(ask_repeatedly(engine, refused, done)) for _ in range(8)]

        async def wait_for(condition: Callable[[], bool]) -> None:
            await loop.run_in_executor(None, partial(until, condition, seconds=10))

        await wait_for(lambda: breaker.snapshot().totals.successes > 50)
        getattr(postgresql, end)()
        await wait_for(lambda: len(refused) > 50)
        await loop.run_in_executor(None, postgresql.start if end == "kill" else postgresql.resume)
        await wait_for(lambda: breaker.state is State.CLOSED)
        done.set()
        await asyncio.gather(*tasks)
        await engine.dispose()
        return refused

    refused = asyncio.run(use())
    assert sorted(refused)[len(refused) // 2] < 0.01
    assert breaker.snapshot().in_flight == 0
