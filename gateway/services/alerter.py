"""Alerts: circuits that open or close, for operators; trades that stay pending, for users."""

import logging
from collections.abc import Callable
from datetime import datetime, timedelta

from cb import Ledger, State
from gateway.trading.outbox_relay import BATCH, RETRYABLE_ERRORS
from gateway.trading.store import TradeStore
from servicekit import Log

from .notification import NotificationService, circuit_changed, still_pending

log = Log(__name__)

#: minimum time between two polls
INTERVAL = timedelta(seconds=1)
_ALERTED_STATES = (State.OPEN, State.FORCED_OPEN, State.CLOSED)


class Alerter:
    """Sends alerts.

    Args:
        store: the trades.
        ledger: the ledger whose transitions are reported.
        notification: the service that delivers the alerts.
        pending_after: age at which a pending trade is reported.
        clock: returns the current time.
    """

    def __init__(
        self,
        store: TradeStore,
        ledger: Ledger,
        notification: NotificationService,
        *,
        pending_after: timedelta,
        clock: Callable[[], datetime],
    ) -> None:
        self._store = store
        self._ledger = ledger
        self._notification = notification
        self._pending_after = pending_after
        self._clock = clock
        self._last_number = 0  # a new leader starts with the ledger's history; event ids prevent duplicates
        self._reported: set[str] = set()
        self._polled: datetime | None = None
        self._failing = False

    def run_once(self) -> None:
        """Send new alerts, each once. Failed alerts are sent by a later run."""
        now = self._clock()
        if self._polled and abs(now - self._polled) < INTERVAL:  # the clock may be set back
            return
        self._polled = now
        changes = self._ledger.history(self._last_number)
        try:
            pending = self._store.pending_since(now - self._pending_after, BATCH)
            messages = [circuit_changed(each, now) for each in changes if each.after in _ALERTED_STATES]
            messages += [still_pending(each, now) for each in pending if each.trade_id not in self._reported]
            if messages:
                self._notification.send(messages)
        except RETRYABLE_ERRORS as error:
            log.log(logging.DEBUG if self._failing else logging.WARNING, "alerts cannot be sent: %s", error)
            self._failing = True
            return
        self._failing = False
        self._last_number = changes[-1].number if changes else self._last_number
        self._reported = {each.trade_id for each in pending}
