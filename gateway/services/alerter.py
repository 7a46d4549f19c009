"""Alerts: operators hear of circuits that open and close, users of trades that take long."""

import logging
from collections.abc import Callable
from datetime import datetime, timedelta

from cb import Ledger, State
from cb.log import Log
from gateway.trading.outbox_relay import BATCH, HINDRANCES
from gateway.trading.store import Store

from .notification import Notification, circuit_changed, still_pending

log = Log(__name__)

#: time between two looks
LOOK = timedelta(seconds=1)
_ALARMING = (State.OPEN, State.FORCED_OPEN, State.CLOSED)


class Alarm:
    """Tells operators of circuits that open and close, and users of trades that take long."""

    def __init__(
        self,
        store: Store,
        ledger: Ledger,
        notification: Notification,
        *,
        patience: timedelta,
        clock: Callable[[], datetime],
    ) -> None:
        self._store = store
        self._ledger = ledger
        self._notification = notification
        self._patience = patience
        self._clock = clock
        self._seen = 0  # a process that takes over begins with what the ledger remembers: nobody is told twice
        self._told: set[str] = set()
        self._looked: datetime | None = None
        self._failing = False

    def turn(self) -> None:
        """Tell what is new, each once. What cannot be told now is told later."""
        now = self._clock()
        if self._looked and abs(now - self._looked) < LOOK:  # the clock may be set back
            return
        self._looked = now
        changes = self._ledger.history(self._seen)
        try:
            pending = self._store.pending_since(now - self._patience, BATCH)
            messages = [circuit_changed(each, now) for each in changes if each.after in _ALARMING]
            messages += [still_pending(each, now) for each in pending if each.trade_id not in self._told]
            if messages:
                self._notification.tell(messages)
        except HINDRANCES as error:
            log.log(logging.DEBUG if self._failing else logging.WARNING, "nobody can be alarmed: %s", error)
            self._failing = True
            return
        self._failing = False
        self._seen = changes[-1].number if changes else self._seen
        self._told = {each.trade_id for each in pending}
