"""How an order becomes a trade, so that what a client was told is what is stored.

The intent is stored before anything is sent, and marked APPLYING before the first byte leaves; so a trade that is
still RECEIVED was surely not sent. The portfolio books a trade id once, so asking again is safe.
"""

import logging

from cb import BulkheadFullError, CircuitOpenError

from .audit import Audit
from .errors import Unavailable, UnknownTrade
from .market_data import MarketData
from .notification import Notification
from .portfolio import Portfolio
from .risk import Risk
from .store import Store
from .trade import Order, State, Trade, Verdict

log = logging.getLogger(__name__)


class Trading:
    """Places orders, and finds trades."""

    def __init__(
        self,
        store: Store,
        *,
        market_data: MarketData,
        risk: Risk,
        portfolio: Portfolio,
        notification: Notification,
        audit: Audit,
    ) -> None:
        self._store = store
        self._market_data = market_data
        self._risk = risk
        self._portfolio = portfolio
        self._notification = notification
        self._audit = audit

    def place(self, order: Order) -> Trade:
        """Check an order, store it, and have it booked.

        Returns the trade FILLED, REJECTED, or APPLYING where its outcome is not known yet. Raises CircuitOpenError,
        BulkheadFullError, GatewayError or DatabaseUnavailable if it surely was not booked.
        """
        quote = self._market_data.quote(order.symbol)
        self._risk.check(order, quote.price)
        trade = self._store.receive(order)
        trade = self._store.move(trade, Verdict(State.APPLYING))
        try:
            verdict = self._portfolio.apply(trade)
        except (CircuitOpenError, BulkheadFullError, Unavailable) as error:
            if isinstance(error, Unavailable) and error.sent:
                log.warning("outcome of trade %s is not known yet: %s", trade.trade_id, error)
            else:
                self._close(trade, Verdict(State.REFUSED, "not-sent", str(error)))
                raise
        else:
            trade = self._close(trade, verdict)
        return trade

    def find(self, trade_id: str) -> Trade:
        """Return a trade. Raises UnknownTrade."""
        trade = self._store.find(trade_id)
        if trade is None:
            raise UnknownTrade(trade_id)
        return trade

    def _close(self, trade: Trade, verdict: Verdict) -> Trade:
        """Store the end of a trade and tell about it. Return the trade as it then is."""
        try:
            trade = self._store.move(trade, verdict)
        except Exception:  # an answer of 500 would invite a second order, while this one may be booked
            log.exception("trade %s is %s, which could not be stored", trade.trade_id, verdict.state)
            return trade
        for tell in (self._notification.confirm, self._audit.record):
            try:
                tell(trade)
            except Exception as error:  # noqa: BLE001 - the trade is done, whatever hinders those who hear of it
                log.warning("trade %s is %s, and %s: %r", trade.trade_id, trade.state, tell.__qualname__, error)
        return trade
