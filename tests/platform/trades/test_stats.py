"""The trade statistics for metrics and live page."""

from pathlib import Path

from sqlalchemy import text

from gateway.services.audit_log import AuditLog
from gateway.trading.comparison_log import ComparisonLog
from gateway.trading.outbox import Outbox, Reader
from gateway.trading.stats import TradeStatsReader
from gateway.trading.store import TradeStore
from servicekit.database import Database
from tests.platform.trades.conftest import Clock, applying, filled


def test_pending_trades_and_backlogs_are_shown_with_their_age(
    database: Database, store: TradeStore, clock: Clock
) -> None:
    journal, audit = Outbox(database), AuditLog(database)
    filled(store)
    told = journal.unsent(Reader.AUDIT, 2)
    audit.append(told)
    journal.mark(Reader.AUDIT, told)
    clock.pass_(4)
    applying(store)
    clock.pass_(6)
    head = audit.head()
    assert head.n == 2
    assert TradeStatsReader(store, journal, audit, ComparisonLog(database), clock).panel() == {
        "pending": {"number": 1, "oldest_seconds": 6.0},
        "behind": {
            "audit": {"number": 3, "oldest_seconds": 10.0},
            "notification": {"number": 1, "oldest_seconds": 10.0},
        },
        "audit": {"entries": 2, "hash": head.hash},
    }


def test_unavailable_database_is_reported(tmp_path: Path, clock: Clock) -> None:
    nowhere = Database(f"sqlite:///{tmp_path}")
    shown = TradeStatsReader(
        TradeStore(nowhere, clock), Outbox(nowhere), AuditLog(nowhere), ComparisonLog(nowhere), clock
    ).panel()
    assert shown == {"unavailable": "OperationalError"}


def test_damaged_row_is_reported_and_does_not_fail_the_page(
    database: Database, store: TradeStore, clock: Clock
) -> None:
    applying(store)
    with database.write() as connection:
        connection.execute(text("UPDATE trades SET attempted_at = 9000000000000000000"))
    shown = TradeStatsReader(store, Outbox(database), AuditLog(database), ComparisonLog(database), clock).panel()
    assert shown["unavailable"].startswith("damaged row")
