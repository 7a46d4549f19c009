"""The audit log: each entry once, in order, and not to be changed unnoticed."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DatabaseError

from cb.database import Database, DatabaseUnavailable
from gateway.audit_log import GENESIS, AuditLog, Head
from gateway.journal import Entry, Journal, Reader
from gateway.store import Store

from .conftest import filled


@pytest.fixture
def entries(store: Store, database: Database) -> list[Entry]:
    for _ in range(3):
        filled(store)
    return Journal(database).unsent(Reader.AUDIT, 100)


@pytest.fixture
def log(database: Database) -> AuditLog:
    return AuditLog(database)


def test_empty_log_is_whole(log: AuditLog) -> None:
    assert log.head() == Head(0, GENESIS)
    assert log.verify().broken_at is None


def test_entries_are_numbered_and_each_has_the_hash_of_the_one_before(log: AuditLog, entries: list[Entry]) -> None:
    log.append(entries)

    found = log.page(0, 100)

    assert [each.n for each in found] == list(range(1, 10))
    assert [each.previous for each in found] == [GENESIS, *(each.hash for each in found[:-1])]
    assert log.head() == Head(9, found[-1].hash) == log.verify().head
    assert log.verify().broken_at is None


def test_entry_that_is_told_twice_is_recorded_once(log: AuditLog, entries: list[Entry]) -> None:
    log.append(entries[:5])
    log.append(entries[2:])
    log.append(entries)

    assert [each.n for each in log.page(0, 100)] == list(range(1, 10))
    assert log.verify().broken_at is None


def test_entries_told_by_many_at_the_same_time_make_one_chain(log: AuditLog, entries: list[Entry]) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: log.append(entries[number % 3 :: 2]), range(24)))

    assert log.head().n == 9
    assert log.verify().broken_at is None


def test_page_of_one_trade_has_its_entries_only(log: AuditLog, entries: list[Entry]) -> None:
    log.append(entries)
    trade_id = entries[4].trade_id

    found = log.page(0, 100, trade_id)

    assert [each.n for each in found] == [4, 5, 6]
    assert all(trade_id in each.entry for each in found)
    assert [each.n for each in log.page(4, 1, trade_id)] == [5]


@pytest.mark.parametrize("change", ["UPDATE audit_entries SET entry = '{}'", "DELETE FROM audit_entries"])
def test_change_of_the_log_is_refused(log: AuditLog, database: Database, entries: list[Entry], change: str) -> None:
    log.append(entries)

    with pytest.raises((DatabaseError, DatabaseUnavailable)), database.write() as connection:
        connection.execute(text(change))

    assert log.verify().head.n == 9


@pytest.mark.parametrize(
    ("spoil", "broken"),
    [
        ("UPDATE audit_entries SET entry = '{}' WHERE n = 4", (4, "it is not what was recorded")),
        ("UPDATE audit_entries SET hash = previous WHERE n = 4", (4, "it is not what was recorded")),
        ("UPDATE audit_entries SET previous = hash WHERE n = 4", (4, "it does not follow the entry before it")),
        ("DELETE FROM audit_entries WHERE n = 4", (5, "entry 4 is missing")),
        ("DELETE FROM audit_entries WHERE n = 1", (2, "entry 1 is missing")),
        ("UPDATE audit_entries SET n = 100 WHERE n = 9", (100, "entry 9 is missing")),
    ],
)
def test_log_that_was_changed_behind_its_back_does_not_verify(
    log: AuditLog, entries: list[Entry], database: Database, spoil: str, broken: tuple[int, str]
) -> None:
    log.append(entries)
    with database.write() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text("DROP TRIGGER audit_only_grows ON audit_entries"))
        else:
            connection.execute(text("DROP TRIGGER audit_no_update"))
            connection.execute(text("DROP TRIGGER audit_no_delete"))
        connection.execute(text(spoil))

    seen = log.verify()

    assert (seen.broken_at, seen.fault) == broken


def test_missing_end_is_seen_by_who_knows_the_head(log: AuditLog, entries: list[Entry]) -> None:
    log.append(entries[:6])
    known = log.head()
    log.append(entries)

    assert log.page(known.n - 1, 1)[0].hash == known.hash
