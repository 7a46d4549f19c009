"""Database backends behind a breaker, on SQLite and on a real PostgreSQL that is killed and frozen."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db import Error, IntegrityError, OperationalError, ProgrammingError, connections, transaction
from django.db.backends.signals import connection_created
from django.test import Client, override_settings

from cb import CircuitOpenError, ConfigError, State
from cb.integrations.django import breakers
from tests.support.databases import PostgreSQL
from tests.support.waiting import until

from .conftest import ask_async, force_open

ALIAS = "server"
NAME = f"database-{ALIAS}"


@pytest.fixture
def address(postgresql: PostgreSQL) -> dict[str, Any]:
    """Return the settings of a database on a real server."""
    server = {"HOST": "127.0.0.1", "PORT": postgresql.port, "USER": "postgres", "NAME": "postgres"}
    return {"ENGINE": "cb.integrations.django.db.postgresql", **server, "OPTIONS": {"connect_timeout": 2}}


@pytest.fixture
def connection(address: dict[str, Any]) -> Iterator[Any]:
    """Yield a persistent connection to a real server."""
    database = connections.configure_settings({"default": {}, ALIAS: {**address, "CONN_MAX_AGE": None}})[ALIAS]
    connections.databases[ALIAS] = database
    yield connections[ALIAS]
    connections[ALIAS].close()
    del connections[ALIAS], connections.databases[ALIAS]


def counted(name: str = NAME) -> tuple[int, int]:
    """Return the successes and the failures."""
    totals = breakers.get(name).snapshot().totals
    return totals.successes, totals.failures


def run(connection: Any, statement: str = "SELECT 7") -> Any:
    with connection.cursor() as cursor:
        cursor.execute(statement)
        return cursor.fetchone()


def test_connecting_and_each_statement_are_calls(connection: Any) -> None:
    assert run(connection) == (7,)
    assert counted() == (2, 0)
    run(connection)
    assert counted() == (3, 0)
    connection.close()
    assert counted() == (3, 0)


def test_breaker_of_an_alias_may_be_named(client: Client) -> None:
    assert client.get("/query/named").content == b"7"
    assert counted("files") == (2, 0)


def test_wrong_name_of_a_breaker_is_an_error_that_names_the_key(address: dict[str, Any]) -> None:
    configured = {"default": {}, ALIAS: {**address, "OPTIONS": {"breaker": 3}}}
    connections.databases[ALIAS] = connections.configure_settings(configured)[ALIAS]
    try:
        with pytest.raises(ConfigError, match=rf"^DATABASES\.{ALIAS}\.OPTIONS\.breaker must be"):
            connections[ALIAS].connect()
    finally:
        del connections[ALIAS], connections.databases[ALIAS]


@pytest.mark.parametrize("ask", ["wsgi", "asgi"])
def test_database_that_cannot_be_opened_is_refused_after_some_failures(ask: str, client: Client) -> None:
    send = client.get if ask == "wsgi" else ask_async
    assert [send("/query/missing").status_code for _ in range(5)] == [500, 500, 500, 503, 503]
    assert counted("database-missing") == (0, 3)


def test_lost_connection_is_one_failure_and_the_circuit_opens_by_those_to_connect(
    connection: Any, postgresql: PostgreSQL
) -> None:
    run(connection)
    postgresql.kill()

    for _ in range(2):
        with pytest.raises(Error):  # each driver has its own for the second
            run(connection)
    assert counted() == (2, 1)
    connection.close_if_unusable_or_obsolete()
    for _ in range(2):
        with pytest.raises(OperationalError):
            run(connection)
    assert counted() == (2, 3)
    with pytest.raises(CircuitOpenError):
        run(connection)

    postgresql.start()
    breakers.get(NAME).control.reset(reason="it is back")
    assert run(connection) == (7,)


def test_loss_in_a_transaction_and_the_attempt_of_django_to_leave_it_are_failures(
    connection: Any, postgresql: PostgreSQL
) -> None:
    with pytest.raises(OperationalError), transaction.atomic(ALIAS):
        run(connection)
        postgresql.kill()
        run(connection)
    assert counted()[1] == 2  # Django connects again to turn autocommit on


def test_connection_that_is_lost_before_a_commit_is_a_failure(connection: Any, postgresql: PostgreSQL) -> None:
    with pytest.raises(OperationalError), transaction.atomic(ALIAS):
        run(connection)
        postgresql.kill()
    assert counted()[1] == 2  # for the same reason


@pytest.mark.parametrize(
    ("statement", "error"),
    [
        ("INSERT INTO only_one VALUES (1), (1)", IntegrityError),
        ("SELECT no_such_column", ProgrammingError),
        ("SELECT 1 / 0", Exception),
        ("SET statement_timeout = 10; SELECT pg_sleep(5)", OperationalError),
    ],
)
def test_error_of_a_server_that_responds_is_a_success(connection: Any, statement: str, error: type[Exception]) -> None:
    with connection.cursor() as cursor:
        cursor.execute("CREATE TEMPORARY TABLE only_one (id integer PRIMARY KEY)")
    with pytest.raises(error):
        run(connection, statement)
    assert counted() == (3, 0)


def test_statement_that_hangs_is_a_failure_while_it_hangs(connection: Any, options: dict[str, Any]) -> None:
    hasty = {**options, "breakers": {NAME: {"call_timeout": "100ms", "failure_threshold": 1}}}

    def hang() -> None:
        own = connection.copy()
        try:
            run(own, "SELECT pg_sleep(1.5)")
        finally:
            own.close()

    with override_settings(CIRCUIT_BREAKERS=hasty):
        thread = threading.Thread(target=hang)
        thread.start()
        breaker = breakers.get(NAME)

        def opened() -> bool:
            try:
                run(connection)
            except CircuitOpenError:
                return True
            return False

        until(opened)
        assert breaker.state is State.OPEN
        thread.join()


def test_open_circuit_refuses_statements_and_new_transactions_on_a_persistent_connection(connection: Any) -> None:
    run(connection)
    force_open(NAME)
    with pytest.raises(CircuitOpenError):
        run(connection)
    with pytest.raises(CircuitOpenError), transaction.atomic(ALIAS):
        pytest.fail("a transaction has begun")
    assert not connection.in_atomic_block
    assert connection.get_autocommit()
    connection.close()
    with pytest.raises(CircuitOpenError):
        connection.ensure_connection()


def test_transaction_that_has_begun_goes_on_while_the_circuit_is_open(connection: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE IF NOT EXISTS kept (id integer)")
        cursor.execute("DELETE FROM kept")
    with transaction.atomic(ALIAS):
        run(connection, "INSERT INTO kept VALUES (1) RETURNING id")
        force_open(NAME)
        with transaction.atomic(ALIAS):
            run(connection, "INSERT INTO kept VALUES (2) RETURNING id")
    breakers.get(NAME).control.reset(reason="done")
    assert run(connection, "SELECT count(*) FROM kept") == (2,)
    run(connection, "DELETE FROM kept RETURNING id")


def test_half_open_circuit_of_one_probe_closes_by_the_first_statement(
    connection: Any, options: dict[str, Any], postgresql: PostgreSQL
) -> None:
    one = {"failure_threshold": 1, "max_requests": 1, "success_threshold": 1, "timeout": "50ms", "timeout_jitter": 0}
    with override_settings(CIRCUIT_BREAKERS={**options, "defaults": one}):
        postgresql.kill()
        with pytest.raises(OperationalError):
            run(connection)
        postgresql.start()

        def answered() -> bool:
            try:
                return run(connection) == (7,)
            except CircuitOpenError:
                return False

        until(answered)
        assert breakers.get(NAME).state is State.CLOSED


def test_receiver_that_fails_to_prepare_a_connection_is_a_failure(connection: Any) -> None:
    def prepare(**_: Any) -> None:
        raise OSError("no key")

    connection_created.connect(prepare)
    try:
        with pytest.raises(OSError, match="no key"):
            connection.connect()
    finally:
        connection_created.disconnect(prepare)
    assert counted() == (0, 1)


def test_lock_of_another_writer_is_a_success(tmp_path: Path) -> None:
    own, other = connections["named"], connections["default"]
    with other.cursor() as cursor:
        cursor.execute("CREATE TABLE IF NOT EXISTS t (id integer)")
        cursor.execute("BEGIN EXCLUSIVE")
        with pytest.raises(OperationalError, match="locked"):
            run(own, "INSERT INTO t VALUES (1)")
        cursor.execute("ROLLBACK")
    assert counted("files")[1] == 0
