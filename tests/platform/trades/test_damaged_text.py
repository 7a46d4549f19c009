"""Texts of the portfolio that a database cannot store."""

import json

import pytest

from cb import CircuitBreaker
from gateway.services.audit_log import AuditLog
from gateway.services.notification import NotificationService
from gateway.services.notifications import Notifications
from gateway.trading.outbox import Outbox, Reader
from gateway.trading.reconciler import Reconciler
from gateway.trading.store import TradeStore
from gateway.trading.trade import TradeState
from servicekit.database import Database
from tests.platform.trades.conftest import Clock, applying, says
from tests.support.misbehaving import Server


@pytest.mark.parametrize(
    ("said", "kept"),
    [("x" * 301, "x" * 300), ("NUL \x00.", "NUL \ufffd."), ("half \ud800", "half \ufffd"), ("😀" * 300, "😀" * 300)],
)
def test_verdict_with_an_unstorable_text_is_stored(
    store: TradeStore,
    database: Database,
    clock: Clock,
    reconciler: Reconciler,
    portfolio: Server,
    *,
    said: str,
    kept: str,
) -> None:
    portfolio.act = says(portfolio, 409, tradeStatus="REJECTED", code="no-cash", detail=said)
    trade = applying(store)
    clock.pass_(5)

    reconciler.run_once()

    found = store.find(trade.trade_id)
    assert found
    assert (found.state, found.detail) == (TradeState.REJECTED, kept)
    journal, log = Outbox(database), AuditLog(database)
    log.append(journal.unsent(Reader.AUDIT, 10))
    assert json.loads(log.page(0, 10)[-1].facts)["detail"] == kept
    NotificationService(CircuitBreaker("notification"), lambda: None, Notifications(database)).confirm(
        journal.unsent(Reader.NOTIFICATION, 10)
    )
    assert kept[:200] in Notifications(database).page("ann", 1)[0].message.text
