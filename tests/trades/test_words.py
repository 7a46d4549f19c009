"""Words of others, which may be anything: what is to be kept is kept."""

import json

import pytest

from cb import CircuitBreaker
from cb.database import Database
from gateway.audit_log import AuditLog
from gateway.inbox import Inbox
from gateway.journal import Journal, Reader
from gateway.notification import Notification
from gateway.reconciler import Reconciler
from gateway.store import Store
from gateway.trade import State
from tests.misbehaving import Server

from .conftest import Clock, applying, says


@pytest.mark.parametrize(
    ("said", "kept"),
    [("x" * 301, "x" * 300), ("NUL \x00.", "NUL \ufffd."), ("half \ud800", "half \ufffd"), ("😀" * 300, "😀" * 300)],
)
def test_verdict_is_kept_whatever_its_words_are(
    store: Store, database: Database, clock: Clock, reconciler: Reconciler, portfolio: Server, *, said: str, kept: str
) -> None:
    portfolio.act = says(portfolio, 409, tradeStatus="REJECTED", code="no-cash", detail=said)
    trade = applying(store)
    clock.pass_(5)

    reconciler.turn()

    found = store.find(trade.trade_id)
    assert found
    assert (found.state, found.detail) == (State.REJECTED, kept)
    journal, log = Journal(database), AuditLog(database)
    log.append(journal.unsent(Reader.AUDIT, 10))
    assert json.loads(log.page(0, 10)[-1].entry)["detail"] == kept
    Notification(CircuitBreaker("notification"), lambda: None, Inbox(database)).confirm(
        journal.unsent(Reader.NOTIFICATION, 10)
    )
    assert kept[:200] in Inbox(database).page("ann", 1)[0].message.text
