"""The notification service, in process: messages to users about their trades, and alerts to operators."""

import hashlib
from collections.abc import Callable, Iterable
from datetime import datetime

from cb import CircuitBreaker, StateChange
from gateway.trading.comparison_log import Comparison
from gateway.trading.outbox import OutboxEntry
from gateway.trading.trade import Order, Trade, TradeState
from servicekit.fields import money_text

from .notifications import Message, Notifications


class NotificationService:
    """Delivers messages behind a breaker. `simulate` applies the simulated faults."""

    def __init__(self, breaker: CircuitBreaker, simulate: Callable[[], None], notifications: Notifications) -> None:
        self._breaker = breaker
        self._simulate = simulate
        self._notifications = notifications

    def confirm(self, entries: list[OutboxEntry]) -> None:
        """Notify users of the final states of their trades, once each. Raises as `send` does."""
        self.send([_confirmation(entry) for entry in entries])

    def send(self, messages: Iterable[Message]) -> None:
        """Deliver messages, each `event_id` once. Raises CircuitOpenError, SimulatedError, DatabaseUnavailableError."""
        self._breaker.call(self._deliver, messages)

    def _deliver(self, messages: Iterable[Message]) -> None:
        self._simulate()
        self._notifications.put(messages)


def still_pending(trade: Trade, at: datetime) -> Message:
    """Return the alert for a trade that stays pending."""
    text = f"{_description(trade.order)} is not settled yet; its outcome is being determined"
    event_id = f"pending:{trade.trade_id}:{trade.seq}"
    return Message(event_id, trade.order.user_id, "alert", text, trade.trade_id, at)


def circuit_changed(change: StateChange, at: datetime) -> Message:
    """Return the alert for a circuit that opened or closed."""
    # The reason may be an operator's text, and PostgreSQL does not store NUL.
    text = f"circuit {change.name} went from {change.before} to {change.after}: {change.reason}"[:400].replace("\0", "")
    event_id = f"circuit:{change.name}:{change.generation}:{round(change.at * 1000)}"[:80]
    return Message(event_id, None, "alert", text, None, at)


def databases_differ(result: Comparison) -> Message:
    """Return the alert for trades that differ at the portfolio; the same differences have the same event id."""
    examples = "; ".join(map(str, result.examples))
    text = f"{result.differences} trades differ between gateway and portfolio: {examples}"
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    return Message(f"comparison:{digest}", None, "alert", text[:400], result.examples[0].trade_id, result.at)


def _confirmation(entry: OutboxEntry) -> Message:
    order = _description(entry.order)
    text = {
        TradeState.FILLED: f"{order} is filled",
        TradeState.REJECTED: f"{order} was rejected: {entry.detail}",
        TradeState.CANCELLED: f"{order} was cancelled: {entry.detail}",
    }[entry.state]
    return Message(entry.event_id, entry.order.user_id, "trade", text[:400], entry.trade_id, entry.at)


def _description(order: Order) -> str:
    return f"{order.side} {order.quantity} {order.symbol} at {money_text(order.price)}"
