"""The services' database, on a file and on a real PostgreSQL, with and without a breaker."""

import gc
import math
import os
import sqlite3
import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest
from sqlalchemy import Column, MetaData, String, Table, select, text

from cb import BreakerConfig, Bulkhead, CircuitBreaker, CircuitOpenError
from servicekit.database import Database, DatabaseBusyError, DatabaseUnavailableError, Money, insert_once, limit_waits
from tests.support.databases import PostgreSQL
from tests.support.interruptions import interrupted
from tests.support.waiting import until

metadata = MetaData()
prices = Table("prices", metadata, Column("symbol", String(12), primary_key=True), Column("price", Money))


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    file = request.param == "sqlite"
    database = Database(f"sqlite:///{tmp_path}/d.db" if file else request.getfixturevalue("postgresql").url, 2)
    with database.write() as connection:
        metadata.create_all(connection)
    yield database
    with database.write() as connection:
        metadata.drop_all(connection)
    database.close()


@pytest.fixture
def breaker() -> CircuitBreaker:
    return CircuitBreaker("database", BreakerConfig(failure_threshold=2, timeout=0.1, success_threshold=1))


def price(database: Database) -> Decimal | None:
    with database.read() as connection:
        return connection.scalar(select(prices.c.price))


def test_row_is_inserted_once_and_its_amount_is_exact(database: Database, breaker: CircuitBreaker) -> None:
    database.guard(breaker)
    for amount in ("150.1001", "7"):
        with database.write() as connection:
            insert_once(connection, prices, {"symbol": "AAPL", "price": Decimal(amount)})
    assert price(database) == Decimal("150.1001")
    assert breaker.snapshot().totals.successes == 3


def test_rejection_by_the_breaker_or_bulkhead_of_a_database_is_unavailable_or_busy(
    database: Database, breaker: CircuitBreaker
) -> None:
    bulkhead = Bulkhead(breaker, 1)
    database.guard(bulkhead)
    with bulkhead, pytest.raises(DatabaseBusyError, match="is its limit"):
        price(database)
    breaker.control.force_open(reason="test")
    with pytest.raises(DatabaseUnavailableError, match="rejects calls"):
        price(database)
    breaker.control.reset(reason="test")


def test_rejection_by_another_breaker_within_a_transaction_is_not_translated(
    database: Database, breaker: CircuitBreaker
) -> None:
    database.guard(breaker)
    with pytest.raises(CircuitOpenError), database.read():
        raise CircuitOpenError("other", 1.0)


def test_database_is_made_though_its_circuit_is_open(tmp_path: Path, breaker: CircuitBreaker) -> None:
    breaker.control.force_open(reason="test")
    database = Database(f"sqlite:///{tmp_path}/d.db")
    with database.write() as connection:
        metadata.create_all(connection)
    assert price(database) is None
    database.guard(breaker)
    with pytest.raises(DatabaseUnavailableError):
        price(database)
    database.close()


def test_server_that_is_killed_makes_it_unavailable_until_it_is_back(
    postgresql: PostgreSQL, breaker: CircuitBreaker
) -> None:
    database = Database(postgresql.url)
    with database.write() as connection:
        metadata.create_all(connection)
    database.guard(breaker)
    assert price(database) is None
    postgresql.kill()

    reasons = set()
    for _ in range(4):
        with pytest.raises(DatabaseUnavailableError) as caught:
            price(database)
        reasons.add(str(caught.value).split()[0])

    assert reasons == {"OperationalError", "circuit"}
    postgresql.start()
    until(lambda: well(database), seconds=10)
    database.close()


def well(database: Database) -> bool:
    try:
        return price(database) is None
    except DatabaseUnavailableError:
        return False


def test_server_that_is_frozen_is_waited_for_as_long_as_is_left_and_not_taken_at_its_late_word(
    postgresql: PostgreSQL,
) -> None:
    database = Database(postgresql.url)
    with database.read() as connection:
        connection.execute(select(1))
    postgresql.stop()
    begun = time.monotonic()
    try:
        with pytest.raises(DatabaseUnavailableError), limit_waits(lambda: 0.1), database.read() as connection:
            connection.execute(select(2))
        waited = time.monotonic() - begun
    finally:
        postgresql.resume()
    with database.read() as connection:
        assert connection.scalar(select(3)) == 3
    database.close()
    assert waited < 3


def test_answer_that_takes_too_long_is_given_up_unless_it_may_take_any_time(
    postgresql: PostgreSQL, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = Database(postgresql.url)
    with database.read():  # a connection is there
        pass
    monkeypatch.setattr("servicekit.database._IDLE_TIMEOUT_MS", 200)
    with pytest.raises(DatabaseUnavailableError), database.read() as connection:
        connection.execute(text("SELECT pg_sleep(5)"))
    with limit_waits(lambda: math.inf), database.read() as connection:
        connection.execute(text("SELECT pg_sleep(0.5)"))
    database.close()


def test_read_waits_no_longer_than_is_left_for_a_process_that_has_the_whole_file(tmp_path: Path) -> None:
    database, other = Database(f"sqlite:///{tmp_path}/d.db"), sqlite3.connect(tmp_path / "d.db", isolation_level=None)
    for statement in ("PRAGMA locking_mode=EXCLUSIVE", "PRAGMA journal_mode=WAL", "CREATE TABLE t (n)"):
        other.execute(statement)
    begun = time.monotonic()
    with pytest.raises(DatabaseUnavailableError), limit_waits(lambda: 0.1), database.read() as connection:
        connection.execute(text("SELECT * FROM t"))
    assert time.monotonic() - begun < 3
    other.close()
    with database.read() as connection:
        assert connection.execute(text("SELECT * FROM t")).all() == []
    database.close()


def test_interruption_anywhere_in_a_transaction_leaves_the_database_to_other_writers(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'd'}")

    def write() -> None:
        with database.write() as connection:
            connection.exec_driver_sql("CREATE TABLE IF NOT EXISTS t (n)")

    number = 1
    gc.freeze()  # what the tests before have left is not looked through each time
    try:
        while interrupted(write, number):
            gc.collect()
            begin = time.monotonic()
            write()
            assert time.monotonic() - begin < 3, f"point {number}"
            number += 1
    finally:
        gc.unfreeze()
    assert number > 5


def test_child_of_a_fork_has_connections_of_its_own(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'd'}")
    with database.write() as connection:
        connection.exec_driver_sql("CREATE TABLE t (n)")
        inherited = connection.connection.driver_connection
    pid = os.fork()
    if not pid:
        code = 1
        try:
            with database.read() as connection:
                code = int(connection.connection.driver_connection is inherited)
        finally:
            os._exit(code)
    assert os.waitpid(pid, 0)[1] == 0
    with database.read() as connection:
        assert connection.connection.driver_connection is inherited
