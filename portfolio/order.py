"""An order to book, and the rules by which an account can or cannot bear it."""

from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum

#: no account may hold more cash
CASH_LIMIT = Decimal(10) ** 14


class Side(StrEnum):
    BUY = "BUY"
    SELL = "SELL"


class Outcome(StrEnum):
    FILLED = "FILLED"
    REJECTED = "REJECTED"
    #: surely never booked: whoever asked for it has given up
    VOID = "VOID"


@dataclass(frozen=True, slots=True)
class Order:
    """What a trade asks of an account."""

    trade_id: str
    user_id: str
    symbol: str
    quantity: int
    side: Side
    price: Decimal

    @property
    def cash_change(self) -> Decimal:
        value = self.quantity * self.price
        return -value if self.side is Side.BUY else value

    @property
    def share_change(self) -> int:
        return self.quantity if self.side is Side.BUY else -self.quantity


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of an order, for ever."""

    outcome: Outcome
    #: problem code and sentence of a rejection, else None
    code: str | None = None
    detail: str | None = None


def judge(order: Order, cash: Decimal, shares: int) -> Verdict:
    """Return whether an account with this cash and these shares of the symbol can bear the order."""
    if cash + order.cash_change < 0:
        return Verdict(
            Outcome.REJECTED,
            "insufficient-funds",
            f"buying {order.quantity} {order.symbol} costs {-order.cash_change:f}, the account holds {cash:f}",
        )
    if shares + order.share_change < 0:
        return Verdict(
            Outcome.REJECTED,
            "insufficient-position",
            f"selling {order.quantity} {order.symbol}, the account holds {shares}",
        )
    if cash + order.cash_change > CASH_LIMIT:
        return Verdict(Outcome.REJECTED, "balance-limit", f"no account may hold more than {CASH_LIMIT:f} in cash")
    return Verdict(Outcome.FILLED)
