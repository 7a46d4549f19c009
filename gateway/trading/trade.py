"""A trade and its states.

    RECEIVED --> APPLYING --> FILLED | REJECTED | CANCELLED     the portfolio's verdict, final
        |           |
        |           +-------> REFUSED --> RECEIVED              nothing was sent: the order may be retried
        +-------------------> CANCELLED                         the gateway ended before sending anything

A trade stays APPLYING while the portfolio's verdict is unknown. Clients see RECEIVED and APPLYING as PENDING.
"""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum


class Side(StrEnum):
    BUY = "BUY"
    SELL = "SELL"


class TradeState(StrEnum):
    RECEIVED = "RECEIVED"
    APPLYING = "APPLYING"
    FILLED = "FILLED"
    REJECTED = "REJECTED"
    CANCELLED = "CANCELLED"
    REFUSED = "REFUSED"


#: states of a trade without an outcome
PENDING = frozenset({TradeState.RECEIVED, TradeState.APPLYING})
#: final states
FINAL = frozenset({TradeState.FILLED, TradeState.REJECTED, TradeState.CANCELLED})
#: allowed moves
MOVES = frozenset(
    {
        (TradeState.RECEIVED, TradeState.APPLYING),
        (TradeState.RECEIVED, TradeState.CANCELLED),
        (TradeState.APPLYING, TradeState.FILLED),
        (TradeState.APPLYING, TradeState.REJECTED),
        (TradeState.APPLYING, TradeState.CANCELLED),
        (TradeState.APPLYING, TradeState.REFUSED),
        (TradeState.REFUSED, TradeState.RECEIVED),
    }
)


@dataclass(frozen=True, slots=True)
class Order:
    """An order of a user; `price` is a limit."""

    user_id: str
    symbol: str
    quantity: int
    side: Side
    price: Decimal

    @property
    def value(self) -> Decimal:
        return self.quantity * self.price


@dataclass(frozen=True, slots=True)
class Move:
    """The state that a trade moves to; states other than success have a problem code and a sentence."""

    state: TradeState
    code: str | None = None
    detail: str | None = None


@dataclass(frozen=True, slots=True)
class Trade:
    """An accepted order, as stored."""

    trade_id: str
    order: Order
    state: TradeState
    #: incremented by each move and each lease; an update with an old version changes nothing
    version: int
    #: number of its moves in the outbox
    seq: int
    code: str | None
    detail: str | None
    #: the client's Idempotency-Key
    key: str | None
    #: until then only the lease holder works on it, afterwards the reconciler may claim it
    lease_until: datetime
    #: time of the latest attempt
    attempted_at: datetime
    created_at: datetime
    updated_at: datetime

    @property
    def status(self) -> str:
        """The state shown to clients."""
        return "PENDING" if self.state in PENDING else self.state.value
