"""A trade, and the states it goes through.

    RECEIVED --> APPLYING --> FILLED | REJECTED | CANCELLED     what the portfolio said, for ever
        |           |
        |           +-------> REFUSED --> RECEIVED              surely nothing was sent: the order may be tried again
        +-------------------> CANCELLED                         its gateway ended before it sent anything

A trade stays APPLYING while it is not known what the portfolio did. Clients see RECEIVED and APPLYING as PENDING.
"""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum


class Side(StrEnum):
    BUY = "BUY"
    SELL = "SELL"


class State(StrEnum):
    RECEIVED = "RECEIVED"
    APPLYING = "APPLYING"
    FILLED = "FILLED"
    REJECTED = "REJECTED"
    CANCELLED = "CANCELLED"
    REFUSED = "REFUSED"


#: states in which it is not known yet what becomes of a trade
PENDING = frozenset({State.RECEIVED, State.APPLYING})
#: states that no trade leaves
FINAL = frozenset({State.FILLED, State.REJECTED, State.CANCELLED})
#: how a trade may move
MOVES = frozenset(
    {
        (State.RECEIVED, State.APPLYING),
        (State.RECEIVED, State.CANCELLED),
        (State.APPLYING, State.FILLED),
        (State.APPLYING, State.REJECTED),
        (State.APPLYING, State.CANCELLED),
        (State.APPLYING, State.REFUSED),
        (State.REFUSED, State.RECEIVED),
    }
)


@dataclass(frozen=True, slots=True)
class Order:
    """What a user asks for; `price` is a limit."""

    user_id: str
    symbol: str
    quantity: int
    side: Side
    price: Decimal

    @property
    def value(self) -> Decimal:
        return self.quantity * self.price


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of an order, or is to be done next; what is no success has a problem code and a sentence."""

    state: State
    code: str | None = None
    detail: str | None = None


@dataclass(frozen=True, slots=True)
class Trade:
    """An order that was taken, as it is stored."""

    trade_id: str
    order: Order
    state: State
    #: changes with each move and each lease: who has an old one must not touch the trade
    version: int
    #: number of its entries in the journal
    seq: int
    code: str | None
    detail: str | None
    #: the client's Idempotency-Key
    key: str | None
    #: until then it belongs to whoever works on it, afterwards to the reconciler
    lease_until: datetime
    #: when the order was tried last
    attempted_at: datetime
    created_at: datetime
    updated_at: datetime

    @property
    def status(self) -> str:
        """The state, as clients see it."""
        return "PENDING" if self.state in PENDING else self.state.value
