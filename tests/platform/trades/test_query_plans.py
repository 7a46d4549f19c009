"""The queries of the background tasks use indexes."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import event

from gateway.trading.outbox import Outbox, Reader
from gateway.trading.store import TradeStore
from servicekit.database import Database

Parts = tuple[TradeStore, Outbox]
ASKED: dict[str, Callable[[Parts], object]] = {
    "trades_pending of claim": lambda parts: parts[0].claim(timedelta(seconds=5)),
    "trades_pending of alarm": lambda parts: parts[0].pending_since(datetime.now(UTC), 200),
    "trades_pending of backlog": lambda parts: parts[0].backlog(),
    "journal_to_audit of dispatcher": lambda parts: parts[1].unsent(Reader.AUDIT, 200),
    "journal_to_audit of backlog": lambda parts: parts[1].backlog(Reader.AUDIT),
    "journal_to_notify of dispatcher": lambda parts: parts[1].unsent(Reader.NOTIFICATION, 200),
    "journal_to_notify of backlog": lambda parts: parts[1].backlog(Reader.NOTIFICATION),
}


@pytest.mark.parametrize("asked", ASKED)
@pytest.mark.parametrize("database", ["sqlite"], indirect=True)  # PostgreSQL plans by the contents
def test_background_queries_use_the_partial_indexes(database: Database, store: TradeStore, asked: str) -> None:
    statements: list[tuple[str, Any]] = []

    def note(_: object, __: object, statement: str, parameters: Any, *___: object) -> None:
        if statement.startswith("SELECT"):
            statements.append((statement, parameters))

    # Of this engine only: threads of other tests may execute queries too.
    event.listen(database._engine, "before_cursor_execute", note)  # noqa: SLF001 - its statements are the subject
    ASKED[asked]((store, Outbox(database)))
    statement, parameters = statements[0]
    with database.read() as connection:
        plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters).all()
    assert asked.split(maxsplit=1)[0] in plan[0].detail
