"""The notification service, in process: tells users what became of their trades, and operators what goes wrong."""

import hashlib
from collections.abc import Callable, Iterable
from datetime import datetime

from cb import CircuitBreaker
from cb.events import StateChange
from gateway.trading.comparison_log import Comparison
from gateway.trading.outbox import Entry
from gateway.trading.trade import Order, State, Trade
from servicekit.fields import money_text

from .notifications import Inbox, Message


class Notification:
    """Tells. `simulate` fails or delays as it was told."""

    def __init__(self, breaker: CircuitBreaker, simulate: Callable[[], None], inbox: Inbox) -> None:
        self._breaker = breaker
        self._simulate = simulate
        self._inbox = inbox

    def confirm(self, entries: list[Entry]) -> None:
        """Tell users of the ends of their trades, once each. Raises what hinders it."""
        self.tell([_confirmation(entry) for entry in entries])

    def tell(self, messages: Iterable[Message]) -> None:
        """Deliver messages, once each. Raises what hinders it."""
        self._breaker.call(self._deliver, messages)

    def _deliver(self, messages: Iterable[Message]) -> None:
        self._simulate()
        self._inbox.put(messages)


def still_pending(trade: Trade, at: datetime) -> Message:
    """Return the alert for a trade that takes long."""
    text = f"{_words(trade.order)} is not settled yet: we are finding out what became of it"
    event_id = f"pending:{trade.trade_id}:{trade.seq}"
    return Message(event_id, trade.order.user_id, "alert", text, trade.trade_id, at)


def circuit_changed(change: StateChange, at: datetime) -> Message:
    """Return the alert for a circuit that has opened or closed."""
    # The reason may be an operator's own words, and PostgreSQL takes no NUL.
    text = f"circuit {change.name} went from {change.before} to {change.after}: {change.reason}"[:400].replace("\0", "")
    event_id = f"circuit:{change.name}:{change.generation}:{round(change.at * 1000)}"[:80]
    return Message(event_id, None, "alert", text, None, at)


def databases_differ(result: Comparison) -> Message:
    """Return the alert for trades that are not the same at the portfolio; the same differences have the same id."""
    examples = "; ".join(map(str, result.examples))
    text = f"{result.differences} trades differ between gateway and portfolio: {examples}"
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    return Message(f"comparison:{digest}", None, "alert", text[:400], result.examples[0].trade_id, result.at)


def _confirmation(entry: Entry) -> Message:
    what = _words(entry.order)
    text = {
        State.FILLED: f"{what} is done",
        State.REJECTED: f"{what} was rejected: {entry.detail}",
        State.CANCELLED: f"{what} was cancelled: {entry.detail}",
    }[entry.state]
    return Message(entry.event_id, entry.order.user_id, "trade", text[:400], entry.trade_id, entry.at)


def _words(order: Order) -> str:
    return f"{order.side} {order.quantity} {order.symbol} at {money_text(order.price)}"
