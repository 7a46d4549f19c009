"""A trade, and the states it goes through.

    RECEIVED --> APPLYING --> FILLED | REJECTED     what the portfolio said, for ever
                    |
                    +-------> REFUSED               surely nothing was sent

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
    REFUSED = "REFUSED"


#: how a trade may move
MOVES = frozenset(
    {
        (State.RECEIVED, State.APPLYING),
        (State.APPLYING, State.FILLED),
        (State.APPLYING, State.REJECTED),
        (State.APPLYING, State.REFUSED),
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


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of an order: FILLED, or another state with a problem code and a sentence."""

    state: State
    code: str | None = None
    detail: str | None = None


@dataclass(frozen=True, slots=True)
class Trade:
    """An order that was taken, as it is stored."""

    trade_id: str
    order: Order
    state: State
    #: number of moves it has made
    version: int
    code: str | None
    detail: str | None
    created_at: datetime
    updated_at: datetime

    @property
    def status(self) -> str:
        """The state, as clients see it."""
        return "PENDING" if self.state in (State.RECEIVED, State.APPLYING) else self.state.value
