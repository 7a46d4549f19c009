"""The audit log is verified all the time, and what was found is a metric of every worker."""

import logging

import pytest
from prometheus_client import CollectorRegistry
from sqlalchemy import text

from cb.database import Database
from gateway import auditor
from gateway.audit_log import AuditLog
from gateway.auditor import Auditor
from gateway.glance import Glances
from gateway.journal import Journal, Reader
from gateway.measures import Measures
from gateway.store import Store

from .conftest import Clock, filled


@pytest.fixture
def log(store: Store, database: Database) -> AuditLog:
    """Return a log of nine entries."""
    for _ in range(3):
        filled(store)
    log = AuditLog(database)
    log.append(Journal(database).unsent(Reader.AUDIT, 100))
    return log


@pytest.fixture(autouse=True)
def four_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auditor, "PAGE", 4)


def spoil(database: Database, statement: str) -> None:
    with database.write() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text("ALTER TABLE audit_entries DISABLE TRIGGER audit_only_grows"))
        else:
            connection.execute(text("DROP TRIGGER IF EXISTS audit_no_update"))
        connection.execute(text(statement))


def metrics(database: Database, store: Store, clock: Clock) -> tuple[float | None, float | None]:
    """Return what another worker says: whether the chain is broken, and for how long nobody has looked."""
    registry = CollectorRegistry(support_collectors_without_names=True)
    registry.register(Measures(Glances(store, Journal(database), AuditLog(database), clock)))
    return tuple(
        registry.get_sample_value(f"gateway_audit_{name}") for name in ("chain_broken", "verified_age_seconds")
    )


def test_log_that_was_never_verified_has_no_metric(
    log: AuditLog, database: Database, store: Store, clock: Clock
) -> None:
    assert log.verified() is None
    assert Auditor(log, clock).turn()
    assert metrics(database, store, clock) == (None, None), "one page is not all"


def test_whole_log_is_verified_page_by_page_and_found_whole(
    log: AuditLog, database: Database, store: Store, clock: Clock
) -> None:
    works = Auditor(log, clock)
    assert [works.turn() for _ in range(4)] == [True, True, True, False]
    clock.pass_(7)
    assert metrics(database, store, clock) == (0, 7)
    verified = log.verified()
    assert verified and verified.found == log.verify()
    assert verified.found.head.n == 9


def test_change_in_a_later_page_is_found_told_once_and_forgotten_when_it_is_undone(
    log: AuditLog, database: Database, store: Store, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    works = Auditor(log, clock)
    entry = log.page(5, 1)[0].entry
    spoil(database, "UPDATE audit_entries SET entry = '{}' WHERE n = 6")
    with caplog.at_level(logging.ERROR):
        assert [works.turn() for _ in range(4)] == [True, False, True, False]
    assert [record.message for record in caplog.records] == [
        "the audit log is broken at entry 6: it is not what was recorded"
    ]
    assert metrics(database, store, clock) == (1, 0)

    spoil(database, f"UPDATE audit_entries SET entry = '{entry}' WHERE n = 6".replace(":", r"\:"))
    while works.turn():
        pass
    assert metrics(database, store, clock) == (0, 0)


def test_log_without_entries_is_whole(database: Database, store: Store, clock: Clock) -> None:
    assert not Auditor(AuditLog(database), clock).turn()
    assert metrics(database, store, clock) == (0, 0)


def test_database_that_is_away_says_nothing_of_the_log(tmp_path: object, clock: Clock) -> None:
    nowhere = AuditLog(Database(f"sqlite:///{tmp_path}"))
    assert not Auditor(nowhere, clock).turn()
