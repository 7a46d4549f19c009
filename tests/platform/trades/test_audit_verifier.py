"""The continuous verification of the audit log, and its metrics in every worker."""

import hashlib
import logging

import pytest
from prometheus_client import CollectorRegistry
from sqlalchemy import insert

from gateway.http.collector import TradeStatsCollector
from gateway.services import audit_log
from gateway.services.audit_log import AuditEntry, AuditLog
from gateway.services.audit_verifier import AuditVerifier
from gateway.trading.comparison_log import ComparisonLog
from gateway.trading.outbox import Outbox, Reader
from gateway.trading.stats import TradeStatsReader
from gateway.trading.store import TradeStore
from servicekit.database import Database
from tests.platform.trades.conftest import Clock, filled, spoil


@pytest.fixture
def log(store: TradeStore, database: Database) -> AuditLog:
    """Return a log of nine entries."""
    for _ in range(3):
        filled(store)
    log = AuditLog(database)
    log.append(Outbox(database).unsent(Reader.AUDIT, 100))
    return log


@pytest.fixture(autouse=True)
def four_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit_log, "PAGE", 4)


def forge(database: Database, column: str, n: int) -> None:
    """Write bytes that are not text into a text column, as the owner of the database can."""
    if on_server(database):
        spoil(database, "CREATE CAST (bytea AS text) WITHOUT FUNCTION")
        value = r"decode('ff41', 'hex')\:\:text"
    else:
        value = "CAST(x'ff41' AS TEXT)"
    spoil(database, f"UPDATE audit_entries SET {column} = {value} WHERE n = {n}")


def on_server(database: Database) -> bool:
    with database.read() as connection:
        return connection.dialect.name == "postgresql"


def done(works: AuditVerifier) -> None:
    while works.run_once():
        pass


def grow(log: AuditLog, store: TradeStore, database: Database) -> None:
    """Append the moves of three more trades: more than a page."""
    for _ in range(3):
        filled(store)
    log.append(Outbox(database).unsent(Reader.AUDIT, 100))


def restore(database: Database, entries: list[AuditEntry]) -> None:
    """Replace all entries."""
    spoil(database, "DELETE FROM audit_entries")
    with database.write() as connection:
        connection.execute(
            insert(audit_log.audit_log),
            [
                {"n": each.n, "entry": each.facts, "previous": each.previous, "hash": each.hash}
                | {"event_id": f"event-{each.n}", "trade_id": "t1"}
                for each in entries
            ],
        )


def rewrite(database: Database, entries: list[AuditEntry]) -> None:
    """Replace the log by another one of the same length with a valid chain."""
    previous, forged = audit_log.GENESIS, []
    for each in entries:
        hash_ = hashlib.sha256(f"{previous}\n{{}}".encode()).hexdigest()
        forged.append(AuditEntry(each.n, "{}", previous, hash_))
        previous = hash_
    restore(database, forged)


def metrics(database: Database, store: TradeStore, clock: Clock) -> tuple[float | None, float | None]:
    """Return the metrics of another worker: if the chain is broken, and the age of the verification."""
    registry = CollectorRegistry(support_collectors_without_names=True)
    registry.register(
        TradeStatsCollector(
            TradeStatsReader(store, Outbox(database), AuditLog(database), ComparisonLog(database), clock)
        )
    )
    return tuple(
        registry.get_sample_value(f"gateway_audit_{name}") for name in ("chain_broken", "verified_age_seconds")
    )


def test_unverified_log_has_no_metric(log: AuditLog, database: Database, store: TradeStore, clock: Clock) -> None:
    assert log.last_verification() is None
    assert AuditVerifier(log, clock).run_once()
    assert metrics(database, store, clock) == (None, None), "one page is not all"


def test_valid_log_is_verified_page_by_page(log: AuditLog, database: Database, store: TradeStore, clock: Clock) -> None:
    works = AuditVerifier(log, clock)
    assert [works.run_once() for _ in range(3)] == [True, True, False]
    clock.pass_(7)
    assert metrics(database, store, clock) == (0, 7)
    verified = log.last_verification()
    assert verified and verified.result == log.verify()
    assert verified.result.head.n == 9


def test_change_in_a_later_page_is_logged_once_and_cleared_when_undone(
    log: AuditLog, database: Database, store: TradeStore, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    works = AuditVerifier(log, clock)
    entry = log.page(5, 1)[0].facts
    spoil(database, "UPDATE audit_entries SET entry = '{}' WHERE n = 6")
    with caplog.at_level(logging.ERROR):
        assert [works.run_once() for _ in range(4)] == [True, False, True, False]
    assert [record.message for record in caplog.records] == [
        "the audit log is broken at entry 6: its hash does not match"
    ]
    assert metrics(database, store, clock) == (1, 0)

    spoil(database, f"UPDATE audit_entries SET entry = '{entry}' WHERE n = 6".replace(":", r"\:"))
    done(works)
    assert metrics(database, store, clock) == (0, 0)


@pytest.mark.parametrize(
    "forged",
    [
        ("entry", 6, "its hash does not match"),
        ("hash", 6, "its hash does not match"),
        ("hash", 9, "its hash does not match"),
        ("previous", 6, "it does not follow the previous entry"),
    ],
)
def test_entry_that_is_not_text_does_not_hide_others(
    log: AuditLog, database: Database, store: TradeStore, clock: Clock, forged: tuple[str, int, str]
) -> None:
    column, n, fault = forged
    forge(database, column, n)
    done(AuditVerifier(log, clock))
    assert metrics(database, store, clock) == (1, 0)
    seen = log.verify()
    assert (seen.broken_at, seen.fault) == (n, fault)


def test_growing_log_is_verified_up_to_its_end_at_the_start(
    log: AuditLog, database: Database, store: TradeStore, clock: Clock
) -> None:
    works = AuditVerifier(log, clock)
    turns = []
    for _ in range(3):
        turns.append(works.run_once())
        grow(log, store, database)
    assert turns == [True, True, False]
    assert metrics(database, store, clock) == (0, 0)


def test_rewritten_growing_log_is_broken_until_it_is_restored(
    log: AuditLog, database: Database, store: TradeStore, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    works = AuditVerifier(log, clock)
    done(works)
    old = log.page(0, 100)
    rewrite(database, old)
    grow(log, store, database)
    found = log.verify()
    assert (found.head.n, found.broken_at, found.fault) == (8, 9, "it differs from the entry that was verified before")
    for _ in range(2):  # a found fault does not become the verified state
        done(works)
        assert metrics(database, store, clock) == (1, 0)
    assert len(caplog.records) == 1, "it is told once"

    restore(database, old)
    done(works)
    assert metrics(database, store, clock) == (0, 0)


def test_truncated_log_is_broken_until_it_is_restored(
    log: AuditLog, database: Database, store: TradeStore, clock: Clock
) -> None:
    works = AuditVerifier(log, clock)
    done(works)
    old = log.page(0, 100)
    spoil(database, "DELETE FROM audit_entries WHERE n > 7")
    for _ in range(2):
        done(works)
        assert metrics(database, store, clock) == (1, 0)
    found = log.verify()
    assert (found.head.n, found.broken_at, found.fault) == (7, 8, "entries 8 to 9 are missing")

    restore(database, old)
    done(works)
    assert metrics(database, store, clock) == (0, 0)


def test_log_truncated_during_a_verification_is_broken(
    log: AuditLog, database: Database, store: TradeStore, clock: Clock
) -> None:
    works = AuditVerifier(log, clock)
    assert works.run_once()
    spoil(database, "DELETE FROM audit_entries WHERE n > 4")
    done(works)
    assert metrics(database, store, clock) == (1, 0)


def test_verification_of_an_empty_log_is_valid(database: Database, store: TradeStore, clock: Clock) -> None:
    assert not AuditVerifier(AuditLog(database), clock).run_once()
    assert metrics(database, store, clock) == (0, 0)


def test_unavailable_database_leaves_the_result_unchanged(
    tmp_path: object, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    nowhere = AuditLog(Database(f"sqlite:///{tmp_path}"))
    works = AuditVerifier(nowhere, clock)
    with caplog.at_level(logging.INFO):
        assert [works.run_once() for _ in range(3)] == [False] * 3
    (told,) = caplog.records
    assert told.levelname == "WARNING", "what hinders it is told once"
