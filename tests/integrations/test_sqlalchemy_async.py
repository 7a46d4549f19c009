"""Outcomes of guarded asynchronous engines: the same table, the cancellation of tasks, and the event loop."""

import asyncio
import gc
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlalchemy.exc import TimeoutError as NoConnection
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool

from cb import BreakerConfig, Bulkhead, BulkheadFullError, CircuitBreaker, CircuitOpenError, ConfigError, Ledger
from cb.integrations.sqlalchemy import guard_engine
from tests.integrations.test_sqlalchemy import breaker, counted

__all__ = ["breaker"]  # a fixture

#: counts for minutes, if nothing interrupts it
ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {}) SELECT count(*) FROM n"


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite+aiosqlite:///{tmp_path}/d.db"


@asynccontextmanager
async def engine_of(url: str, guard: Any, **options: Any) -> AsyncIterator[AsyncEngine]:
    """Yield a guarded engine with a pool of one connection."""
    pool = {"poolclass": AsyncAdaptedQueuePool, "pool_size": 1, "max_overflow": 0, "pool_timeout": 0.05}
    engine = create_async_engine(url, **{**pool, **options})
    guard_engine(engine, guard)
    try:
        yield engine
    finally:
        await engine.dispose()
        async with asyncio.timeout(10):
            while any("_connection_worker" in thread.name for thread in threading.enumerate()):
                await asyncio.sleep(0.001)  # the driver's threads tell the loop when they end


async def ask(engine: AsyncEngine) -> None:
    async with engine.connect() as connection:
        await connection.execute(text("SELECT 1"))


def test_use_of_a_connection_is_a_call_in_flight(url: str, breaker: CircuitBreaker) -> None:
    async def use() -> None:
        async with engine_of(url, breaker) as engine:
            async with engine.connect() as connection:
                await connection.execute(text("SELECT 1"))
                assert breaker.snapshot().in_flight == 1
            async with AsyncSession(engine) as session:
                await session.execute(text("SELECT 1"))

    asyncio.run(use())
    assert counted(breaker) == (2, 0)


def test_open_circuit_rejects_before_the_pool_is_used(url: str, breaker: CircuitBreaker) -> None:
    async def use() -> None:
        async with engine_of(url, breaker) as engine:
            breaker.control.force_open(reason="test")
            for each in (engine, engine.execution_options(isolation_level="SERIALIZABLE")):
                with pytest.raises(CircuitOpenError):
                    await ask(each)
            assert engine.pool.status().startswith("Pool size: 1  Connections in pool: 0 ")

    asyncio.run(use())


def test_failures_are_those_of_connections(url: str, breaker: CircuitBreaker, tmp_path: Path) -> None:
    async def use() -> None:
        async with engine_of(url, breaker) as engine:
            async with engine.begin() as connection:
                await connection.execute(text("CREATE TABLE t (a INTEGER PRIMARY KEY)"))
            for statement, error in (("INSERT INTO t VALUES (1), (1)", IntegrityError), ("SELECT b", OperationalError)):
                with pytest.raises(error):
                    async with engine.begin() as connection:
                        await connection.execute(text(statement))
            async with engine.connect():
                with pytest.raises(NoConnection):
                    await ask(engine)
        async with engine_of(f"sqlite+aiosqlite:///{tmp_path}/missing/d.db", breaker) as engine:
            for _ in range(2):
                with pytest.raises(OperationalError):
                    await ask(engine)

    asyncio.run(use())
    assert counted(breaker) == (4, 3)


def test_invalidated_or_disposed_engine_frees_permits_and_stays_guarded(url: str, breaker: CircuitBreaker) -> None:
    async def use() -> None:
        async with engine_of(url, Bulkhead(breaker, 1)) as engine:
            async with engine.connect() as connection:
                await connection.invalidate()
            async with engine.connect():
                with pytest.raises(BulkheadFullError):
                    await ask(engine)
            await engine.dispose()
            await ask(engine)
            async with engine.connect():
                with pytest.raises(BulkheadFullError):
                    await ask(engine)

    asyncio.run(use())
    assert counted(breaker) == (4, 0)


@pytest.mark.filterwarnings("ignore:The garbage collector")
def test_collected_connection_frees_its_permit(url: str, breaker: CircuitBreaker) -> None:
    async def use() -> None:
        async with engine_of(url, Bulkhead(breaker, 1)) as engine:
            connection = await engine.connect()
            del connection
            gc.collect()
            await ask(engine)

    asyncio.run(use())
    assert counted(breaker) == (2, 0)


@pytest.mark.quiet
def test_early_cancellation_is_no_outcome_and_a_late_one_a_slow_failure(url: str) -> None:
    breaker = CircuitBreaker("database", BreakerConfig(slow_call_duration=0.1), ledger=Ledger.in_memory())

    async def use(seconds: float, rows: int) -> None:
        async with engine_of(url, breaker) as engine:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(seconds), engine.connect() as connection:
                    await connection.execute(text(ENDLESS.format(rows)))
            await ask(engine)

    # The driver lets the statement end before it gives the connection back: that is no longer the call.
    asyncio.run(use(0.02, 3_000_000))
    assert (breaker.snapshot().totals.neutral, *counted(breaker)) == (1, 1, 0)
    asyncio.run(use(0.15, 3_000_000))
    assert (breaker.snapshot().totals.neutral, *counted(breaker)) == (1, 2, 1)
    assert breaker.snapshot().totals.slow == 1


@pytest.mark.quiet
def test_tasks_wait_for_the_bulkhead_without_holding_the_loop(url: str, breaker: CircuitBreaker) -> None:
    async def use() -> float:
        longest, loop, done = 0.0, asyncio.get_running_loop(), False

        async def watch() -> None:
            nonlocal longest
            while not done:
                begun = loop.time()
                await asyncio.sleep(0)
                longest = max(longest, loop.time() - begun)

        async with engine_of(url, Bulkhead(breaker, 1, wait=20)) as engine:
            await ask(engine)
            async with engine.connect() as connection:
                watcher = asyncio.create_task(watch())
                tasks = [asyncio.create_task(ask(engine)) for _ in range(50)]
                await asyncio.sleep(0.3)
                tasks.pop().cancel()
                await connection.execute(text("SELECT 1"))
            await asyncio.gather(*tasks)
            done = True
            await watcher
        return longest

    assert asyncio.run(use()) < 0.15
    assert counted(breaker) == (51, 0)


def test_engine_has_one_guard(url: str, breaker: CircuitBreaker) -> None:
    async def use() -> None:
        async with engine_of(url, breaker) as engine:
            guard_engine(engine, breaker)
            guard_engine(engine.sync_engine, breaker)
            with pytest.raises(ConfigError, match="one guard"):
                guard_engine(engine, Bulkhead(breaker, 1))
            await ask(engine)
            await engine.dispose()
            guard_engine(engine, breaker)
            await ask(engine)

    asyncio.run(use())
    assert counted(breaker) == (2, 0)


def test_what_is_no_engine_or_no_guard_is_refused(breaker: CircuitBreaker) -> None:
    engine = create_engine("sqlite://")
    others: tuple[Any, ...] = (engine.pool, "sqlite://", None, AsyncEngine)
    for other in others:
        with pytest.raises(TypeError, match="is no Engine"):
            guard_engine(other, breaker)
    with pytest.raises(ConfigError, match="guard"):
        guard_engine(engine, "database")  # type: ignore[arg-type]  # a name in place of the breaker
    with engine.connect() as connection:
        connection.execute(text("SELECT 1"))
    engine.dispose()
