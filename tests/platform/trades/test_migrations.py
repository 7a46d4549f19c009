"""Migrations of old databases, with many workers that start at once."""

import sqlite3
import subprocess
import sys
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from types import ModuleType

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import MetaData

import gateway
import gateway.trading.tables
import portfolio
import portfolio.tables
from gateway.services.audit_log import AuditLog
from gateway.trading.exposure import Exposure
from gateway.trading.outbox import Outbox, Reader
from gateway.trading.outbox_relay import BATCH
from gateway.trading.store import TradeStore
from gateway.trading.trade import Move, TradeState
from servicekit.database import Database, DatabaseUnavailableError
from servicekit.migrations import migrate
from tests.platform.trades.conftest import LEASE, Clock, order

OLD = """
CREATE TABLE trades (trade_id VARCHAR(64) NOT NULL PRIMARY KEY, user_id VARCHAR(64) NOT NULL,
    symbol VARCHAR(12) NOT NULL, quantity INTEGER NOT NULL, side VARCHAR(4) NOT NULL, price BIGINT NOT NULL,
    state VARCHAR(12) NOT NULL, version INTEGER NOT NULL, code VARCHAR(40), detail VARCHAR(300),
    created_at BIGINT NOT NULL, updated_at BIGINT NOT NULL);
CREATE INDEX trades_of_user ON trades (user_id, created_at, trade_id);
CREATE TABLE audit_log (event_id VARCHAR(80) NOT NULL PRIMARY KEY, trade_id VARCHAR(64) NOT NULL,
    version INTEGER NOT NULL, user_id VARCHAR(64) NOT NULL, state VARCHAR(12) NOT NULL, detail VARCHAR(300),
    happened_at BIGINT NOT NULL);
INSERT INTO trades VALUES
    ('t1', 'ann', 'AAPL', 10, 'BUY', 1500000, 'FILLED', 3, NULL, NULL, 1000000, 2000000),
    ('t2', 'ann', 'AAPL', 4, 'SELL', 1500000, 'FILLED', 3, NULL, NULL, 3000000, 4000000),
    ('t3', 'ann', 'AAPL', 7, 'BUY', 1500000, 'REJECTED', 3, 'no-cash', 'none', 5000000, 6000000),
    ('t4', 'ann', 'AAPL', 1, 'BUY', 1500000, 'APPLYING', 2, NULL, NULL, 7000000, 8000000);
INSERT INTO audit_log VALUES ('t1:3', 't1', 3, 'ann', 'FILLED', NULL, 2000000);
"""


@pytest.mark.parametrize(
    ("service", "tables"), [(gateway, gateway.trading.tables.metadata), (portfolio, portfolio.tables.metadata)]
)
def test_migrations_create_the_tables_of_the_code(database_url: str, service: ModuleType, tables: MetaData) -> None:
    database = migrate(Database(database_url), service)

    with database.read() as connection:
        differences = compare_metadata(MigrationContext.configure(connection), tables)
    database.close()

    assert differences == []


def test_concurrent_starts_migrate_once(database_url: str) -> None:
    program = (
        "import sys, gateway; from servicekit.database import Database; from servicekit.migrations import migrate;"
        "print('ready', flush=True); sys.stdin.readline(); migrate(Database(sys.argv[1]), gateway)"
    )
    pipe = subprocess.PIPE
    command = [sys.executable, "-c", program, database_url]
    workers = [subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) for _ in range(4)]
    assert [worker.stdout.readline() for worker in workers if worker.stdout] == ["ready\n"] * 4

    for worker in workers:
        assert worker.stdin
        worker.stdin.write("\n")
        worker.stdin.flush()

    assert [worker.communicate()[1] for worker in workers] == [""] * 4


def test_database_that_is_up_to_date_is_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "new.db"
    for _ in range(2):
        migrate(Database(f"sqlite:///{file}"), gateway)

    with sqlite3.connect(file) as connection:
        assert connection.execute("SELECT * FROM alembic_version").fetchall() == [("gateway_0004",)]


@pytest.mark.parametrize(("first", "second"), [(gateway, portfolio), (portfolio, gateway)])
def test_database_of_another_service_is_refused_and_left_alone(
    database_url: str, first: ModuleType, second: ModuleType
) -> None:
    migrate(Database(database_url), first)

    with pytest.raises(DatabaseUnavailableError, match=f"it is not of {second.__name__}, or of a later version"):
        migrate(Database(database_url), second)

    migrate(Database(database_url), first)


def test_trades_of_an_earlier_version_are_kept_audited_and_reconciled(tmp_path: Path, clock: Clock) -> None:
    file = tmp_path / "old.db"
    with sqlite3.connect(file) as connection:
        connection.executescript(OLD)

    database = migrate(Database(f"sqlite:///{file}"), gateway)

    store, journal, log = TradeStore(database, clock), Outbox(database), AuditLog(database)
    log.append(journal.unsent(Reader.AUDIT, BATCH))
    assert [each.facts.partition('"tradeId":"')[2][:2] for each in log.page(0, 10)] == ["t1", "t2", "t3", "t4"]
    assert journal.unsent(Reader.NOTIFICATION, BATCH) == [], "their users were told long ago"
    left = store.claim(LEASE)
    assert left
    assert (left.trade_id, left.state) == ("t4", TradeState.APPLYING)
    found: list[Exposure] = []
    store.receive(order(1), LEASE, found.append)
    assert found[0].position == 10 - 4 + 1 + 1


def test_volume_of_the_day_of_an_earlier_version_is_kept(database_url: str) -> None:
    database = Database(database_url)
    with database.write() as connection:
        for statement in OLD.split(";")[:-1]:
            connection.exec_driver_sql(statement)
    migrate(database, gateway)
    store = TradeStore(database, Clock(datetime(1970, 1, 1, 23, 59, tzinfo=UTC)))
    left = store.claim(LEASE)
    assert left

    store.move(left, Move(TradeState.REJECTED, "no-cash", "none"))

    found: list[Exposure] = []
    store.receive(order(1), LEASE, found.append)
    assert found[0] == Exposure(position=Decimal(10 - 4 + 1), volume=Decimal(150 * (10 + 4 + 1)))
    database.close()
