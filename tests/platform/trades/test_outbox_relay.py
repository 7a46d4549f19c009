"""Delivery to audit and notification: every move, in order, at least once, without delaying trades."""

from datetime import timedelta

import pytest

from cb import BreakerConfig, CircuitBreaker, Ledger
from cb import State as Circuit
from gateway.services.alerter import Alerter
from gateway.services.audit import AuditService
from gateway.services.audit_log import AuditLog
from gateway.services.notification import NotificationService
from gateway.services.notifications import Notifications
from gateway.trading.outbox import Outbox, Reader
from gateway.trading.outbox_relay import BATCH, OutboxRelay
from gateway.trading.store import TradeStore
from gateway.trading.trade import TradeState
from servicekit import SimulatedError
from servicekit.database import Database
from tests.platform.trades.conftest import Clock, applying, filled, moved, order


class Sick:
    """A service with a switchable failure."""

    def __init__(self) -> None:
        self.failing = False
        self.error: Exception = SimulatedError("as told")

    def __call__(self) -> None:
        if self.failing:
            raise self.error


class Platform:
    """The outbox and its readers."""

    def __init__(self, database: Database) -> None:
        self.journal, self.log, self.inbox = Outbox(database), AuditLog(database), Notifications(database)
        self.ledger = Ledger.in_memory()
        self.audit_sick, self.notification_sick = Sick(), Sick()
        config = BreakerConfig(failure_threshold=3)
        self.breaker = CircuitBreaker("audit", config, ledger=self.ledger)
        audit = AuditService(self.breaker, self.audit_sick, self.log)
        self.notification = NotificationService(
            CircuitBreaker("notification", config, ledger=self.ledger), self.notification_sick, self.inbox
        )
        self.dispatcher = OutboxRelay(self.journal, audit, self.notification)

    def recorded(self) -> list[str]:
        return [each.facts.partition('"state":"')[2].partition('"')[0] for each in self.log.page(0, 1000)]

    def told(self, user_id: str | None = "ann") -> list[str]:
        return [each.message.text for each in self.inbox.page(user_id, 1000)]


@pytest.fixture
def platform(database: Database) -> Platform:
    return Platform(database)


def test_audit_gets_every_move_and_users_the_final_states(platform: Platform, store: TradeStore) -> None:
    filled(store)
    moved(store, applying(store, order(2)), TradeState.REJECTED, "no-cash")
    moved(store, applying(store, order(3)), TradeState.REFUSED, "not-sent")

    assert platform.dispatcher.run_once() is False

    assert platform.recorded() == [
        *("RECEIVED", "APPLYING", "FILLED"),
        *("RECEIVED", "APPLYING", "REJECTED"),
        *("RECEIVED", "APPLYING", "REFUSED"),
    ]
    assert platform.told() == [
        "BUY 2 AAPL at 150.00 was rejected: because of no-cash",
        "BUY 10 AAPL at 150.00 is filled",
    ]
    assert [platform.journal.backlog(reader).size for reader in Reader] == [0, 0]


@pytest.mark.parametrize("error", [SimulatedError("as told"), KeyError("a mistake of ours")])
@pytest.mark.parametrize("who", ["audit_sick", "notification_sick"])
def test_failing_reader_gets_entries_later_and_the_other_at_once(
    platform: Platform, store: TradeStore, who: str, error: Exception
) -> None:
    sick: Sick = getattr(platform, who)
    sick.error = error
    sick.failing = True
    filled(store)

    platform.dispatcher.run_once()
    assert [len(platform.recorded()), len(platform.told())] == ([0, 1] if who == "audit_sick" else [3, 0])

    sick.failing = False
    platform.dispatcher.run_once()
    assert [len(platform.recorded()), len(platform.told())] == [3, 1]


def test_entries_wait_for_an_open_circuit_of_a_reader(platform: Platform, store: TradeStore) -> None:
    filled(store)
    platform.audit_sick.failing = True
    for _ in range(3):
        platform.dispatcher.run_once()
    assert platform.breaker.state is Circuit.OPEN

    platform.dispatcher.run_once()

    assert platform.breaker.snapshot().totals.rejected == 1
    assert platform.journal.backlog(Reader.AUDIT).size == 3


def test_recorded_but_unmarked_entries_are_not_recorded_again(platform: Platform, store: TradeStore) -> None:
    filled(store)
    platform.log.append(platform.journal.unsent(Reader.AUDIT, 100))  # and then its process was killed

    platform.dispatcher.run_once()

    assert platform.recorded() == ["RECEIVED", "APPLYING", "FILLED"]
    assert platform.journal.backlog(Reader.AUDIT).size == 0


def test_long_backlog_is_delivered_in_batches(platform: Platform, store: TradeStore) -> None:
    for _ in range(BATCH // 3 + 1):
        filled(store)

    assert platform.dispatcher.run_once() is True
    assert len(platform.recorded()) == BATCH
    assert platform.dispatcher.run_once() is False

    assert platform.log.verify().head.n == (BATCH // 3 + 1) * 3


@pytest.fixture
def alarm(platform: Platform, store: TradeStore, clock: Clock) -> Alerter:
    return Alerter(store, platform.ledger, platform.notification, pending_after=timedelta(seconds=10), clock=clock)


def test_operators_are_alerted_when_a_circuit_opens_and_closes(
    platform: Platform, alarm: Alerter, clock: Clock
) -> None:
    alarm.run_once()
    platform.breaker.control.force_open(reason="maintenance")
    clock.pass_(1)
    alarm.run_once()
    platform.breaker.control.reset(reason="done")
    clock.pass_(1)
    alarm.run_once()
    alarm.run_once()

    closed, opened = platform.told(None)
    assert opened.startswith("circuit audit went from CLOSED to FORCED_OPEN")
    assert closed.startswith("circuit audit went from FORCED_OPEN to CLOSED")


def test_alert_with_an_unstorable_reason_is_sent(platform: Platform, alarm: Alerter) -> None:
    platform.breaker.control.force_open(reason="NUL \0 and 😀" + "x" * 180)

    alarm.run_once()

    assert "NUL  and 😀" in platform.told(None)[0]


def test_new_leader_sends_no_alert_again(platform: Platform, alarm: Alerter, store: TradeStore, clock: Clock) -> None:
    platform.breaker.control.force_open(reason="maintenance")
    applying(store)
    clock.pass_(11)
    alarm.run_once()

    Alerter(store, platform.ledger, platform.notification, pending_after=timedelta(seconds=10), clock=clock).run_once()

    assert [len(platform.told(None)), len(platform.told())] == [1, 1]


def test_user_is_alerted_once_of_a_trade_that_stays_pending(
    platform: Platform, alarm: Alerter, store: TradeStore, clock: Clock
) -> None:
    applying(store)
    for _ in range(15):
        clock.pass_(1)
        alarm.run_once()

    assert platform.told() == ["BUY 10 AAPL at 150.00 is not settled yet; its outcome is being determined"]


def test_alert_is_sent_after_the_clock_was_set_back(platform: Platform, alarm: Alerter, clock: Clock) -> None:
    alarm.run_once()
    platform.breaker.control.force_open(reason="maintenance")
    clock.pass_(-3600)

    alarm.run_once()

    assert len(platform.told(None)) == 1


def test_failed_alert_is_sent_later(
    platform: Platform, alarm: Alerter, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    platform.notification_sick.failing = True
    platform.breaker.control.force_open(reason="maintenance")
    for _ in range(2):
        clock.pass_(1)
        alarm.run_once()
    assert platform.told(None) == []
    assert [record.message for record in caplog.records].count("alerts cannot be sent: as told") == 1

    platform.notification_sick.failing = False
    clock.pass_(1)
    alarm.run_once()

    assert len(platform.told(None)) == 1
