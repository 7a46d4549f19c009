"""Places orders so that the response to the client always equals the stored trade.

The intent is stored before anything is sent, and marked APPLYING before the first byte is sent: a trade that is still
RECEIVED was certainly not sent. The portfolio books a trade id once, so resending is safe. A trade in progress is
leased; the reconciler claims trades whose lease has expired.
"""

from collections.abc import Callable
from datetime import timedelta
from functools import partial
from time import monotonic
from typing import NamedTuple

from cb import BulkheadFullError, CircuitOpenError
from gateway.services.market_data import MarketDataClient
from gateway.services.portfolio import PortfolioClient
from gateway.services.risk import RiskService
from servicekit import Log
from servicekit.database import DatabaseUnavailableError, limit_waits

from .errors import DependencyError, InProgressError, KeyReusedError, OrderTimeoutError, UnknownTradeError
from .store import KeyTakenError, TradeStore
from .trade import PENDING, Move, Order, Trade, TradeState

log = Log(__name__)


class OrderDeadline:
    """The deadline of placing an order, `timeout` seconds from now. `clock` returns monotonic seconds."""

    def __init__(self, timeout: float, clock: Callable[[], float] = monotonic) -> None:
        self._timeout = timeout
        self._clock = clock
        self._end = clock() + timeout

    def left(self) -> float:
        """Return the remaining seconds. Raises OrderTimeoutError if the deadline has passed."""
        seconds = self._end - self._clock()
        if seconds <= 0:
            raise OrderTimeoutError(self._timeout)
        return seconds

    def remaining(self) -> float:
        """Return the remaining seconds, 0 if the deadline has passed."""
        return max(self._end - self._clock(), 0.0)


class Placed(NamedTuple):
    """A placed order."""

    trade: Trade
    #: True if it had been placed before, with the same Idempotency-Key
    replayed: bool


class Trading:
    """Places orders and finds trades.

    Args:
        store: the trades.
        market_data: the client that returns the market price.
        risk: the limits of orders and users.
        portfolio: the client that books trades.
        lease: time during which the reconciler leaves a new trade alone.
        timeout: seconds for placing an order.
        clock: returns monotonic seconds.
    """

    def __init__(
        self,
        store: TradeStore,
        *,
        market_data: MarketDataClient,
        risk: RiskService,
        portfolio: PortfolioClient,
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
        """Check, store and book an order; with a known key, return the earlier trade.

        The trade is FILLED, REJECTED or CANCELLED, or pending if its outcome is not known yet. Raises CircuitOpenError,
        BulkheadFullError, GatewayError or DatabaseUnavailableError only if the order was certainly not booked.
        """
        deadline = OrderDeadline(self._timeout, self._clock)
        with limit_waits(deadline.remaining):
            return self._place(order, key, deadline)

    def _place(self, order: Order, key: str | None, deadline: OrderDeadline) -> Placed:
        known = self._store.by_key(order.user_id, key) if key else None
        if known and known.order != order:
            raise KeyReusedError(str(key))
        if known and known.state is not TradeState.REFUSED:
            return Placed(self._replayed(known), replayed=True)
        quote = self._market_data.quote(order.symbol, deadline.left())
        self._risk.check(order, quote.price, deadline.left())
        deadline.left()  # once stored, an order times out only if nothing was sent
        trade = self._begin(order, key, known)
        return Placed(self._apply(trade, deadline) if trade.state is TradeState.APPLYING else trade, replayed=False)

    def find(self, trade_id: str) -> Trade:
        """Return a trade. Raises UnknownTradeError."""
        trade = self._store.find(trade_id)
        if trade is None:
            raise UnknownTradeError(trade_id)
        return trade

    def _replayed(self, known: Trade) -> Trade:
        if known.state in PENDING and known.lease_until > self._store.now():
            raise InProgressError(str(known.key))
        return known

    def _begin(self, order: Order, key: str | None, refused: Trade | None) -> Trade:
        """Store the intent and mark it APPLYING. Return the stored trade; only the one who marked it may send it."""
        admit = partial(self._risk.admit, order)
        try:
            if refused:
                received = self._store.retry(refused, self._lease, admit)
            else:
                received = self._store.receive(order, self._lease, admit, key)
        except KeyTakenError as error:
            raise InProgressError(str(key)) from error
        if received is None:
            raise InProgressError(str(key))
        try:
            return self._store.move(received, Move(TradeState.APPLYING)) or self.find(received.trade_id)
        except Exception as error:  # noqa: BLE001 - the mark may be stored, and the reconciler would then send the trade
            _log_failure(received, "may be marked or not", error)
            return received

    def _apply(self, trade: Trade, deadline: OrderDeadline) -> Trade:
        """Send the trade to the portfolio once. Return the stored trade.

        From here on the trade may be booked, by this call or by the reconciler. An error response would invite the
        client to order again, so it is returned only after REFUSED is stored.
        """
        try:
            move = self._portfolio.apply(trade, deadline.left())
        except (CircuitOpenError, BulkheadFullError, OrderTimeoutError, DependencyError) as error:
            if isinstance(error, DependencyError) and error.sent:
                log.warning("outcome of trade %s is not known yet: %s", trade.trade_id, error)
                return self._leave(trade)
            refused = self._store_outcome(trade, Move(TradeState.REFUSED, "not-sent", str(error)[:300]))
            if refused.state is TradeState.REFUSED:
                raise
            return refused
        except Exception as error:  # noqa: BLE001 - a 500 would invite the client to order again
            _log_failure(trade, "may be booked or not", error)
            return self._leave(trade)
        return self._store_outcome(trade, move)

    def _store_outcome(self, trade: Trade, move: Move) -> Trade:
        """Store the outcome of a trade. Return the stored trade."""
        try:
            return self._store.move(trade, move) or self.find(trade.trade_id)
        except Exception as error:  # noqa: BLE001 - a 500 would invite the client to order again
            _log_failure(trade, f"is {move.state}, which could not be stored", error)
            return trade

    def _leave(self, trade: Trade) -> Trade:
        """Release the lease so that the reconciler settles the trade at once, else after the lease expires."""
        try:
            return self._store.lease(trade, timedelta()) or self.find(trade.trade_id)
        except Exception as error:  # noqa: BLE001 - a 500 would invite the client to order again
            _log_failure(trade, "is left until its lease expires", error)
            return trade


def _log_failure(trade: Trade, situation: str, error: Exception) -> None:
    trace = None if isinstance(error, DatabaseUnavailableError) else error
    log.error("trade %s %s: %s", trade.trade_id, situation, error, exc_info=trace)
