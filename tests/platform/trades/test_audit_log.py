"""The audit log: entries once and in order; changes are detected."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DatabaseError

from gateway.services.audit_facts import read_facts
from gateway.services.audit_log import GENESIS, AuditLog, Head
from gateway.trading.outbox import Outbox, OutboxEntry, Reader
from gateway.trading.store import TradeStore
from servicekit.database import Database, DatabaseUnavailableError
from tests.platform.trades.conftest import filled, spoil

GOOD = (
    '{"at":"2026-01-05T12:00:00+00:00","code":null,"detail":null,"orderType":"BUY","price":"150","quantity":10,'
    '"seq":1,"state":"FILLED","symbol":"AAPL","tradeId":"t1","userId":"ann"}'
)
CHANGES = [
    ('"seq":1', '"seq":"1"'),
    ('"seq":1', '"seq":true'),
    ('"seq":1', '"seq":1e400'),
    ('"seq":1', '"seq":99999999999999999999'),
    ('"quantity":10', '"quantity":null'),
    ('"quantity":10', '"quantity":1.5'),
    ('"FILLED"', '"DONE"'),
    ('"ann"', '["ann"]'),
    ('"ann"', '"\\ud800"'),
    ('"price":"150"', '"price":150'),
    ('"code":null', '"code":{}'),
    ('"ann"', '"ann","n":7'),
]
on_sqlite = pytest.mark.parametrize("database", ["sqlite"], indirect=True)


@pytest.fixture
def entries(store: TradeStore, database: Database) -> list[OutboxEntry]:
    for _ in range(3):
        filled(store)
    return Outbox(database).unsent(Reader.AUDIT, 100)


@pytest.fixture
def log(database: Database) -> AuditLog:
    return AuditLog(database)


def test_empty_log_is_valid(log: AuditLog) -> None:
    assert log.head() == Head(0, GENESIS)
    assert log.verify().broken_at is None


def test_entries_are_numbered_and_each_has_the_hash_of_the_one_before(
    log: AuditLog, entries: list[OutboxEntry]
) -> None:
    log.append(entries)

    found = log.page(0, 100)

    assert [each.n for each in found] == list(range(1, 10))
    assert [each.previous for each in found] == [GENESIS, *(each.hash for each in found[:-1])]
    assert log.head() == Head(9, found[-1].hash) == log.verify().head
    assert log.verify().broken_at is None


def test_entry_delivered_twice_is_recorded_once(log: AuditLog, entries: list[OutboxEntry]) -> None:
    log.append(entries[:5])
    log.append(entries[2:])
    log.append(entries)

    assert [each.n for each in log.page(0, 100)] == list(range(1, 10))
    assert log.verify().broken_at is None


def test_concurrent_deliveries_make_one_chain(log: AuditLog, entries: list[OutboxEntry]) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: log.append(entries[number % 3 :: 2]), range(24)))

    assert log.head().n == 9
    assert log.verify().broken_at is None


def test_page_of_one_trade_has_its_entries_only(log: AuditLog, entries: list[OutboxEntry]) -> None:
    log.append(entries)
    trade_id = entries[4].trade_id

    found = log.page(0, 100, trade_id)

    assert [each.n for each in found] == [4, 5, 6]
    assert all(trade_id in each.facts for each in found)
    assert [each.n for each in log.page(4, 1, trade_id)] == [5]


_SAME = "SELECT {}, event_id, trade_id, 'forged', previous, hash FROM audit_entries WHERE n = 4"
_INTO = "INTO audit_entries (n, event_id, trade_id, entry, previous, hash)"


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE audit_entries SET entry = '{}'",
        "DELETE FROM audit_entries",
        f"INSERT {_INTO} {_SAME.format('n')} ON CONFLICT (n) DO UPDATE SET entry = excluded.entry",
        f"INSERT {_INTO} {_SAME.format('10')} ON CONFLICT (event_id) DO UPDATE SET entry = excluded.entry",
    ],
)
def test_change_of_the_log_is_refused(
    log: AuditLog, database: Database, entries: list[OutboxEntry], change: str
) -> None:
    log.append(entries)

    with pytest.raises((DatabaseError, DatabaseUnavailableError)), database.write() as connection:
        connection.execute(text(change))

    assert log.verify().head.n == 9


@pytest.mark.parametrize(
    "change",
    [
        f"INSERT OR REPLACE {_INTO} {_SAME.format('n')}",
        f"REPLACE {_INTO} {_SAME.format('10')}",
        (
            "REPLACE INTO audit_entries (rowid, n, event_id, trade_id, entry, previous, hash) "
            "SELECT rowid, 10, 'other', trade_id, 'forged', previous, hash FROM audit_entries WHERE n = 4"
        ),
        "UPDATE OR REPLACE audit_entries SET n = 4 WHERE n = 5",
        f"INSERT {_INTO} SELECT 12, 'other', trade_id, entry, previous, hash FROM audit_entries WHERE n = 4",
        f"INSERT {_INTO} SELECT 'x', 'other', trade_id, entry, previous, hash FROM audit_entries WHERE n = 4",
        f"INSERT {_INTO} SELECT NULL, 'other', trade_id, entry, previous, hash FROM audit_entries WHERE n = 4",
    ],
)
@on_sqlite
def test_sqlite_replaces_no_entry_and_appends_nothing_but_the_next(
    log: AuditLog, database: Database, entries: list[OutboxEntry], change: str
) -> None:
    log.append(entries)
    before = log.page(0, 100)

    with pytest.raises((DatabaseError, DatabaseUnavailableError)), database.write() as connection:
        connection.execute(text(change))

    assert log.page(0, 100) == before


def test_emptied_log_is_broken_before_the_first_verification(
    log: AuditLog, entries: list[OutboxEntry], database: Database
) -> None:
    tell(log, database, entries)
    spoil(database, "DELETE FROM audit_entries")

    seen = log.verify()

    assert log.last_verification() is None
    assert (seen.broken_at, seen.fault) == (1, "entries 1 to 9 are missing")


def test_truncated_log_is_broken_before_the_first_verification(
    log: AuditLog, entries: list[OutboxEntry], database: Database
) -> None:
    tell(log, database, entries)
    spoil(database, "DELETE FROM audit_entries WHERE n > 7")

    assert log.verify().fault == "entries 8 to 9 are missing"


@on_sqlite
def test_log_with_entries_that_have_no_number_is_broken_and_listed_without_them(
    log: AuditLog, entries: list[OutboxEntry], database: Database
) -> None:
    log.append(entries)
    spoil(database, "UPDATE audit_entries SET n = 'nine' WHERE n = 9")

    assert log.verify().fault == "1 entries have no number"
    assert log.head().n == 8
    assert [each.n for each in log.page(0, 100)] == list(range(1, 9))


def tell(log: AuditLog, database: Database, entries: list[OutboxEntry]) -> None:
    """Append entries and mark them, as the outbox relay does."""
    log.append(entries)
    Outbox(database).mark(Reader.AUDIT, entries)


@pytest.mark.parametrize(
    "damaged",
    [
        "",
        "{",
        "[]",
        "null",
        "{}",
        '{"n": 1}',
        "[" * 100_000,
        '{"tradeId": "t1"}',
        *(GOOD.replace(*change) for change in CHANGES),
    ],
)
def test_damaged_facts_are_detected(damaged: str) -> None:
    assert read_facts(GOOD)[1] is None

    facts, damage = read_facts(damaged)

    assert damage
    assert set(facts.values()) == {None}


@pytest.mark.parametrize(
    ("change", "broken"),
    [
        ("UPDATE audit_entries SET entry = '{}' WHERE n = 4", (4, "its hash does not match")),
        ("UPDATE audit_entries SET hash = previous WHERE n = 4", (4, "its hash does not match")),
        ("UPDATE audit_entries SET previous = hash WHERE n = 4", (4, "it does not follow the previous entry")),
        ("DELETE FROM audit_entries WHERE n = 4", (5, "entry 4 is missing")),
        ("DELETE FROM audit_entries WHERE n = 1", (2, "entry 1 is missing")),
        ("UPDATE audit_entries SET n = 100 WHERE n = 9", (100, "entry 9 is missing")),
    ],
)
def test_changed_log_does_not_verify(
    log: AuditLog, entries: list[OutboxEntry], database: Database, change: str, broken: tuple[int, str]
) -> None:
    log.append(entries)
    spoil(database, change)

    seen = log.verify()

    assert (seen.broken_at, seen.fault) == broken


def test_missing_end_differs_from_a_known_head(log: AuditLog, entries: list[OutboxEntry]) -> None:
    log.append(entries[:6])
    known = log.head()
    log.append(entries)

    assert log.page(known.n - 1, 1)[0].hash == known.hash
