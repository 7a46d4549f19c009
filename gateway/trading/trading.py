"""How an order becomes a trade, so that what a client was told is what is stored.

The intent is stored before anything is sent, and marked APPLYING before the first byte leaves; so a trade that is
still RECEIVED was surely not sent. The portfolio books a trade id once, so asking again is safe. Whoever works on a
trade has it on lease: the reconciler takes up what was left.
"""

from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import NamedTuple

from cb import BulkheadFullError, CircuitOpenError
from cb.clocks import monotonic
from cb.log import Log
from gateway.services.market_data import MarketData
from gateway.services.portfolio import Portfolio
from gateway.services.risk import Risk
from servicekit.database import DatabaseUnavailableError, limit_waits

from .deadline import Deadline
from .errors import InProgress, KeyReused, OrderTimeout, Unavailable, UnknownTrade
from .store import KeyTaken, Store
from .trade import PENDING, Order, State, Trade, Verdict

log = Log(__name__)


class Placed(NamedTuple):
    """What became of an order."""

    trade: Trade
    #: whether it had been placed before, with the same Idempotency-Key
    replayed: bool


class Trading:
    """Places orders, and finds trades.

    `timeout` is seconds that placing an order may take, of `clock`; `lease` how long the reconciler leaves it alone.
    """

    def __init__(
        self,
        store: Store,
        *,
        market_data: MarketData,
        risk: Risk,
        portfolio: Portfolio,
        lease: timedelta,
        timeout: float,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._store = store
        self._market_data = market_data
        self._risk = risk
        self._portfolio = portfolio
        self._lease = lease
        self._timeout = timeout
        self._clock = clock

    def place(self, order: Order, key: str | None = None) -> Placed:
        """Check an order, store it, and have it booked; with a key that was used, return what became of it then.

        Returns the trade FILLED, REJECTED, CANCELLED, or pending where its outcome is not known yet. Raises
        CircuitOpenError, BulkheadFullError, GatewayError or DatabaseUnavailableError if it surely was not booked.
        """
        deadline = Deadline(self._timeout, self._clock)
        with limit_waits(deadline.remaining):
            return self._place(order, key, deadline)

    def _place(self, order: Order, key: str | None, deadline: Deadline) -> Placed:
        known = self._store.by_key(order.user_id, key) if key else None
        if known and known.order != order:
            raise KeyReused(str(key))
        if known and known.state is not State.REFUSED:
            return Placed(self._answered(known), replayed=True)
        quote = self._market_data.quote(order.symbol, deadline.left())
        self._risk.check(order, quote.price, deadline.left())
        deadline.left()  # what is stored from here on is not refused for its time alone, unless nothing was sent
        trade = self._begin(order, key, known)
        return Placed(self._apply(trade, deadline) if trade.state is State.APPLYING else trade, replayed=False)

    def find(self, trade_id: str) -> Trade:
        """Return a trade. Raises UnknownTrade."""
        trade = self._store.find(trade_id)
        if trade is None:
            raise UnknownTrade(trade_id)
        return trade

    def _answered(self, known: Trade) -> Trade:
        if known.state in PENDING and known.lease_until > self._store.now():
            raise InProgress(str(known.key))
        return known

    def _begin(self, order: Order, key: str | None, refused: Trade | None) -> Trade:
        """Store the intent and mark it; return the trade as it then is, APPLYING if it is ours."""
        admit = partial(self._risk.admit, order)
        try:
            if refused:
                received = self._store.retry(refused, self._lease, admit)
            else:
                received = self._store.receive(order, self._lease, admit, key)
        except KeyTaken as error:
            raise InProgress(str(key)) from error
        if received is None:
            raise InProgress(str(key))
        try:
            return self._store.move(received, Verdict(State.APPLYING)) or self.find(received.trade_id)
        except Exception as error:  # noqa: BLE001 - the mark may be stored, and the trade then will be sent
            _log_trouble(received, "may be marked or not", error)
            return received

    def _apply(self, trade: Trade, deadline: Deadline) -> Trade:
        """Ask the portfolio once. Return the trade as it then is.

        From here on the trade may be booked, by the reconciler if not by us. A refusal or an answer of 500 would invite
        a second order; so there is none unless it is stored that this one was not sent.
        """
        try:
            verdict = self._portfolio.apply(trade, deadline.left())
        except (CircuitOpenError, BulkheadFullError, OrderTimeout, Unavailable) as error:
            if isinstance(error, Unavailable) and error.sent:
                log.warning("outcome of trade %s is not known yet: %s", trade.trade_id, error)
                return self._leave(trade)
            refused = self._close(trade, Verdict(State.REFUSED, "not-sent", str(error)[:300]))
            if refused.state is State.REFUSED:
                raise
            return refused
        except Exception as error:  # noqa: BLE001 - an answer of 500 would invite a second order
            _log_trouble(trade, "may be booked or not", error)
            return self._leave(trade)
        return self._close(trade, verdict)

    def _close(self, trade: Trade, verdict: Verdict) -> Trade:
        """Store what became of a trade. Return it as it then is."""
        try:
            return self._store.move(trade, verdict) or self.find(trade.trade_id)
        except Exception as error:  # noqa: BLE001 - an answer of 500 would invite a second order
            _log_trouble(trade, f"is {verdict.state}, which could not be stored", error)
            return trade

    def _leave(self, trade: Trade) -> Trade:
        """Have the reconciler settle a trade at once; where that cannot be stored, once the lease is over."""
        try:
            return self._store.lease(trade, timedelta()) or self.find(trade.trade_id)
        except Exception as error:  # noqa: BLE001 - an answer of 500 would invite a second order
            _log_trouble(trade, "is left until its lease is over", error)
            return trade


def _log_trouble(trade: Trade, what: str, error: Exception) -> None:
    trace = None if isinstance(error, DatabaseUnavailableError) else error
    log.error("trade %s %s: %s", trade.trade_id, what, error, exc_info=trace)
