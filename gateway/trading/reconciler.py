"""Settles pending trades that no request is working on."""

import logging
from collections.abc import Callable
from datetime import datetime, timedelta

from cb import BulkheadFullError, CircuitOpenError
from gateway.services.portfolio import PortfolioClient
from servicekit import Log
from servicekit.database import DatabaseUnavailableError

from .errors import DependencyError
from .store import TradeStore
from .trade import Move, Trade, TradeState

log = Log(__name__)

#: time until a trade that could not be settled is tried again
RETRY_AFTER = timedelta(seconds=1)


class Reconciler:
    """Settles pending trades whose lease has expired, one per `run_once`.

    A trade that is still pending `deadline` after its attempt is voided: the portfolio either confirms that it will
    never book it, or returns the outcome. No trade is cancelled without that response, unless nothing was ever sent.

    Args:
        store: the trades.
        portfolio: the client that applies and voids them.
        lease: maximum duration of one attempt.
        deadline: age of an attempt at which the trade is voided.
        clock: returns the time by which leases expire.
    """

    def __init__(
        self,
        store: TradeStore,
        portfolio: PortfolioClient,
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
        self._logged: set[type[Exception]] = set()

    def run_once(self) -> bool:
        """Claim and settle one trade. Return True if there may be more."""
        try:
            trade = self._store.claim(self._lease)
            return trade is not None and self._settle(trade)
        except DatabaseUnavailableError as error:
            self._log_failure("no trade can be reconciled", error)
            return False

    def _settle(self, trade: Trade) -> bool:
        if trade.state is TradeState.RECEIVED:
            move = Move(TradeState.CANCELLED, "never-sent", "the gateway was interrupted before it placed the order")
        else:
            expired = self._clock() - trade.attempted_at >= self._deadline
            settle = self._portfolio.void if expired else self._portfolio.apply
            try:
                move = settle(trade)
            except (CircuitOpenError, BulkheadFullError, DependencyError) as error:
                self._log_failure(f"outcome of trade {trade.trade_id} is not known yet", error)
                self._store.lease(trade, RETRY_AFTER)
                return isinstance(error, DependencyError)
        if self._store.move(trade, move):
            self._logged.clear()
            log.info("the reconciler has settled trade %s: %s", trade.trade_id, move.state)
        return True

    def _log_failure(self, message: str, error: Exception) -> None:
        """Log a failure, once per type until a trade is settled: an outage may last for hours."""
        level = logging.DEBUG if type(error) in self._logged else logging.WARNING
        self._logged.add(type(error))
        log.log(level, "%s: %s", message, error)
