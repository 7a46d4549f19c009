"""Finds out what became of trades whose owner is gone or was left without an answer."""

import logging
from collections.abc import Callable
from datetime import datetime, timedelta

from cb import BulkheadFullError, CircuitOpenError
from cb.log import Log
from gateway.services.portfolio import Portfolio
from servicekit.database import DatabaseUnavailableError

from .errors import Unavailable
from .store import Store
from .trade import State, Trade, Verdict

log = Log(__name__)

#: until a trade is looked at again of which nothing could be learned
PAUSE = timedelta(seconds=1)


class Reconciler:
    """Settles trades that nobody works on. `lease` is how long one attempt takes at the most.

    A trade that is not settled within `deadline` of its attempt is given up: the portfolio is told never to book it,
    and says so, or that it has been booked. No trade is cancelled without that answer, unless nothing was ever sent.
    """

    def __init__(
        self,
        store: Store,
        portfolio: Portfolio,
        *,
        lease: timedelta,
        deadline: timedelta,
        clock: Callable[[], datetime],
    ) -> None:
        self._store = store
        self._portfolio = portfolio
        self._lease = lease
        self._deadline = deadline
        self._clock = clock
        self._hindrances: set[type[Exception]] = set()

    def turn(self) -> bool:
        """Take up one trade. Return whether there may be more to do at once."""
        try:
            trade = self._store.claim(self._lease)
            return trade is not None and self._settle(trade)
        except DatabaseUnavailableError as error:
            self._hindered("no trade can be reconciled", error)
            return False

    def _settle(self, trade: Trade) -> bool:
        if trade.state is State.RECEIVED:
            verdict = Verdict(State.CANCELLED, "never-sent", "the gateway was interrupted before it placed the order")
        else:
            ask = self._portfolio.apply if self._clock() - trade.attempted_at < self._deadline else self._portfolio.void
            try:
                verdict = ask(trade)
            except (CircuitOpenError, BulkheadFullError, Unavailable) as error:
                self._hindered(f"outcome of trade {trade.trade_id} is not known yet", error)
                self._store.lease(trade, PAUSE)
                return isinstance(error, Unavailable)
        if self._store.move(trade, verdict):
            self._hindrances.clear()
            log.info("trade %s is %s, as the reconciler found out", trade.trade_id, verdict.state)
        return True

    def _hindered(self, what: str, error: Exception) -> None:
        """Log what hinders, once of each kind until a trade is settled: it may last for hours, and looks are many."""
        level = logging.DEBUG if type(error) in self._hindrances else logging.WARNING
        self._hindrances.add(type(error))
        log.log(level, "%s: %s", what, error)
