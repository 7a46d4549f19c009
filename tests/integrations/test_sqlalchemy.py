"""Outcomes of a guarded engine on SQLite files: the table of docs/integrations/sqlalchemy.md."""

import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import create_engine, event, text
from sqlalchemy.engine import Engine
from sqlalchemy.exc import IntegrityError, OperationalError, ProgrammingError
from sqlalchemy.exc import TimeoutError as NoConnection
from sqlalchemy.pool import QueuePool

from cb import BreakerConfig, Bulkhead, BulkheadFullError, CircuitBreaker, CircuitOpenError, Ledger
from cb.integrations.sqlalchemy import guard_engine

CONFIG = BreakerConfig(
    failure_threshold=3, minimum_requests=5, timeout=0.2, timeout_jitter=0, success_threshold=1, call_timeout=0.5
)


@pytest.fixture
def breaker(tmp_path: Path) -> CircuitBreaker:
    return CircuitBreaker("database", CONFIG, ledger=Ledger.in_file(tmp_path / "l"))


@pytest.fixture
def file(tmp_path: Path) -> Iterator[Engine]:
    """Yield an engine on a file, with a pool of one connection."""
    pool = {"poolclass": QueuePool, "pool_size": 1, "max_overflow": 0, "pool_timeout": 0.01}
    engine = create_engine(
        f"sqlite:///{tmp_path}/d.db", **pool, connect_args={"timeout": 0.01, "check_same_thread": False}
    )
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE t (a INTEGER PRIMARY KEY)"))
    yield engine
    engine.dispose()


def ask(engine: Engine) -> None:
    with engine.connect() as connection:
        connection.execute(text("SELECT 1"))


def counted(breaker: CircuitBreaker) -> tuple[int, int]:
    totals = breaker.snapshot().totals
    assert breaker.snapshot().in_flight == 0
    return totals.successes, totals.failures


def test_use_of_a_connection_is_a_call_from_checkout_to_checkin(file: Engine, breaker: CircuitBreaker) -> None:
    guard_engine(file, breaker)
    with file.connect():
        assert breaker.snapshot().in_flight == 1
    assert counted(breaker) == (1, 0)


def test_open_circuit_rejects_before_the_pool_is_used(file: Engine, breaker: CircuitBreaker) -> None:
    guard_engine(file, breaker)
    breaker.control.force_open(reason="test")
    for engine in (file, file.execution_options(isolation_level="AUTOCOMMIT")):
        with pytest.raises(CircuitOpenError):
            ask(engine)
    assert file.pool.status().startswith("Pool size: 1  Connections in pool: 1 ")


def test_exhausted_pool_is_a_failure(file: Engine, breaker: CircuitBreaker) -> None:
    guard_engine(file, breaker)
    with file.connect(), pytest.raises(NoConnection):
        ask(file)
    assert counted(breaker) == (1, 1)
    failed = breaker.snapshot().last_failure
    assert failed and failed.type == "TimeoutError"


def test_connection_error_is_a_failure_until_the_circuit_opens(tmp_path: Path, breaker: CircuitBreaker) -> None:
    engine = create_engine(f"sqlite:///{tmp_path}/missing/d.db")
    guard_engine(engine, breaker)
    for _ in range(3):
        with pytest.raises(OperationalError):
            ask(engine)
    with pytest.raises(CircuitOpenError):
        ask(engine)
    assert counted(breaker) == (0, 3)


def test_error_of_the_database_is_a_success(file: Engine, breaker: CircuitBreaker) -> None:
    guard_engine(file, breaker)
    statements = {
        "INSERT INTO t VALUES (1), (1)": IntegrityError,
        "SELECT nothing": OperationalError,
        "SELECT 1 WHERE ?": ProgrammingError,
    }
    for statement, error in statements.items():
        with pytest.raises(error), file.begin() as connection:
            connection.exec_driver_sql(statement)
    with pytest.raises(ZeroDivisionError), file.begin():
        raise ZeroDivisionError
    assert counted(breaker) == (4, 0)


def test_locked_database_is_a_success(file: Engine, breaker: CircuitBreaker, tmp_path: Path) -> None:
    guard_engine(file, breaker)
    other = create_engine(f"sqlite:///{tmp_path}/d.db")
    with other.begin() as writer:
        writer.exec_driver_sql("INSERT INTO t VALUES (1)")
        with pytest.raises(OperationalError, match="locked"), file.begin() as connection:
            connection.exec_driver_sql("INSERT INTO t VALUES (2)")
    other.dispose()
    assert counted(breaker) == (1, 0)


def test_bulkhead_holds_a_permit_from_checkout_to_checkin(tmp_path: Path, breaker: CircuitBreaker) -> None:
    engine = create_engine(f"sqlite:///{tmp_path}/d.db", poolclass=QueuePool)
    guard_engine(engine, Bulkhead(breaker, 2))
    with engine.connect(), engine.connect() as second:
        with pytest.raises(BulkheadFullError):
            ask(engine)
        second.execute(text("SELECT 1"))
        second.close()
        ask(engine)
    engine.dispose()
    assert counted(breaker) == (3, 0)


def test_collected_detached_or_invalidated_connection_frees_its_permit(file: Engine, breaker: CircuitBreaker) -> None:
    guard_engine(file, Bulkhead(breaker, 1))
    file.raw_connection()  # and collected at once
    ask(file)
    alone = file.connect()
    alone.detach()
    ask(file)
    alone.close()
    bad = file.connect()
    bad.invalidate()
    bad.close()
    ask(file)
    assert counted(breaker) == (6, 0)


def test_engine_is_guarded_after_dispose_and_in_a_forked_child(file: Engine, breaker: CircuitBreaker) -> None:
    guard_engine(file, Bulkhead(breaker, 1))
    with file.connect():
        pid = os.fork()
        if pid == 0:
            signal.alarm(10)
            file.dispose(close=False)
            try:
                ask(file)
            except BulkheadFullError:  # the parent holds the permit
                os._exit(0)
            os._exit(1)
        assert os.waitpid(pid, 0)[1] == 0
    file.dispose()
    ask(file)
    assert counted(breaker) == (2, 0)


def test_threads_that_wait_for_the_bulkhead_share_one_connection_without_a_failure(
    file: Engine, breaker: CircuitBreaker
) -> None:
    guard_engine(file, Bulkhead(breaker, 1, wait=20))
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda _: ask(file), range(200)))
    assert counted(breaker) == (200, 0)


def test_error_of_a_listener_that_prepares_connections_is_a_failure(file: Engine, breaker: CircuitBreaker) -> None:
    guard_engine(file, breaker)
    file.dispose()
    event.listen(file, "connect", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        ask(file)
    assert counted(breaker) == (0, 1)
