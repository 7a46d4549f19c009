"""Each invariant detects its violation, tested on a booked trade with tampered rows."""

import sqlite3
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

import gateway
import portfolio
from cb import CircuitBreaker
from gateway.services.audit import AuditService
from gateway.services.audit_log import AuditLog
from gateway.services.notification import NotificationService
from gateway.services.notifications import Notifications
from gateway.trading.outbox import Outbox
from gateway.trading.outbox_relay import OutboxRelay
from gateway.trading.store import TradeStore
from gateway.trading.trade import Move, Order, Side, TradeState
from portfolio import booking as portfolio_booking
from portfolio.service import PortfolioService
from portfolio.store import AccountStore
from servicekit.database import Database
from servicekit.migrations import migrate
from tests.proofs.chaos import surroundings  # noqa: F401  # registers its invariants
from tests.proofs.chaos.clients import Answer
from tests.proofs.chaos.clients import Order as Placed
from tests.proofs.chaos.facts import Facts, look
from tests.proofs.chaos.invariants import INVARIANTS

ORDER = Order("u", "AAPL", 2, Side.BUY, Decimal(150))
TAMPERING = {
    "I1": ("gateway", "UPDATE trades SET state = 'APPLYING'"),
    "I2": ("gateway", "UPDATE trades SET state = 'CANCELLED'"),
    "I3": ("portfolio", "DELETE FROM entries WHERE holder = 'u' AND asset = 'AAPL'"),
    "I4": ("portfolio", "UPDATE entries SET amount = amount + 1 WHERE holder = '@market'"),
    "I5": ("portfolio", "UPDATE accounts SET cash = cash + 1"),
    "I6": ("portfolio", "UPDATE positions SET quantity = -1"),
    "I8": ("gateway", "UPDATE trades SET price = price + 1"),
    "I9": ("gateway", "UPDATE audit_entries SET entry = replace(entry, 'AAPL', 'TSLA') WHERE n = 2"),
    "I10": ("gateway", "DELETE FROM audit_entries WHERE n = 2"),
    "I11": ("gateway", "DELETE FROM audit_entries WHERE n = 3"),
    "exposure": ("gateway", "UPDATE exposure SET amount = amount + 1 WHERE what = 'AAPL'"),
    "notifications": ("gateway", "DELETE FROM notifications"),
}


class World:
    """The databases of a filled trade with its notifications, without running services."""

    def __init__(self, directory: Path) -> None:
        self._files = {name: directory / f"{name}.db" for name in ("gateway", "portfolio")}
        self._urls = {name: f"sqlite:///{file}" for name, file in self._files.items()}
        database = migrate(Database(self._urls["gateway"]), gateway)
        accounts = migrate(Database(self._urls["portfolio"]), portfolio)
        store, journal, log, inbox = TradeStore(database), Outbox(database), AuditLog(database), Notifications(database)
        received = store.receive(ORDER, timedelta(seconds=10), lambda _: None, "k")
        trade = store.move(received, Move(TradeState.APPLYING))
        assert trade
        facts = (trade.trade_id, "u", "AAPL", 2, portfolio_booking.Side.BUY, Decimal(150))
        PortfolioService(AccountStore(accounts), Decimal(1000)).apply(portfolio_booking.Booking(*facts))
        store.move(trade, Move(TradeState.FILLED))
        audit = AuditService(CircuitBreaker("audit"), lambda: None, log)
        OutboxRelay(journal, audit, NotificationService(CircuitBreaker("notification"), lambda: None, inbox)).run_once()
        seen = log.verify()
        self._verified = {"valid": seen.broken_at is None, "entries": seen.head.n, "head": seen.head.hash}
        placed = Placed("u", "AAPL", 2, "BUY", Decimal(150))
        self.answer = Answer(placed, "k", 201, trade.trade_id, "FILLED", None, False, 0.0, 1.0)
        for each in (database, accounts):
            each.close()

    def tamper(self, database: str, statement: str) -> None:
        connection = sqlite3.connect(self._files[database])
        triggers = connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall()
        for (trigger,) in triggers:
            connection.execute(f"DROP TRIGGER {trigger}")
        connection.execute("PRAGMA ignore_check_constraints = ON")
        with connection:
            assert connection.execute(statement).rowcount > 0
        connection.close()

    def look(self, **rest: Any) -> Facts:
        return look(self._urls, **{"told": [self.answer], "verified": self._verified, "settled": True, **rest})


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def broken(facts: Facts) -> set[str]:
    return {each.name for each in INVARIANTS if any(True for _ in each.check(facts))}


def test_all_invariants_hold_for_an_unchanged_trade(world: World) -> None:
    assert broken(world.look()) == {"I12"}  # one trade does not cover everything


@pytest.mark.parametrize("name", TAMPERING)
def test_invariant_detects_a_tampered_row(name: str, world: World) -> None:
    world.tamper(*TAMPERING[name])
    assert name in broken(world.look())


def test_changed_responses_second_trades_of_a_key_and_booked_refusals_are_detected(world: World) -> None:
    told = world.answer
    later = replace(told, status="REJECTED", asked=2.0, answered=3.0)
    assert broken(world.look(told=[told, later])) >= {"I7", "I8"}
    pending = replace(told, http=202, status="PENDING", asked=2.0, answered=3.0)
    assert "I7" in broken(world.look(told=[told, pending]))
    assert broken(world.look(told=[told, replace(told, trade_id="other")])) >= {"I1", "I7", "I8"}
    assert "I8" in broken(world.look(told=[replace(told, http=503, trade_id=None, status=None)]))
    assert "I8" in broken(world.look(told=[told, replace(told, http=500, trade_id=None, status=None)]))


def test_slow_settlement_is_detected(world: World) -> None:
    assert "settling" in broken(world.look(took=21.0))


def test_traceback_in_a_log_is_detected(world: World) -> None:
    assert "logs" in broken(world.look(logs={"gateway": "Traceback (most recent call last)\n"}))
