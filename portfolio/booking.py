"""A trade to book, and the rules that decide if an account can cover it."""

from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum

#: maximum cash of an account
CASH_LIMIT = Decimal(10) ** 14


class Side(StrEnum):
    BUY = "BUY"
    SELL = "SELL"


class Settlement(StrEnum):
    FILLED = "FILLED"
    REJECTED = "REJECTED"
    #: never booked: the client gave up on it
    VOID = "VOID"


@dataclass(frozen=True, slots=True)
class Booking:
    """A trade to book on an account."""

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
    """The final decision on a trade."""

    outcome: Settlement
    #: problem code and sentence, None for a filled trade
    code: str | None = None
    detail: str | None = None


def decide(booking: Booking, cash: Decimal, shares: int) -> Verdict:
    """Return the verdict for an account with this cash and these shares of the symbol."""
    if cash + booking.cash_change < 0:
        return Verdict(
            Settlement.REJECTED,
            "insufficient-funds",
            f"buying {booking.quantity} {booking.symbol} costs {-booking.cash_change:f}, the account holds {cash:f}",
        )
    if shares + booking.share_change < 0:
        return Verdict(
            Settlement.REJECTED,
            "insufficient-position",
            f"selling {booking.quantity} {booking.symbol}, the account holds {shares}",
        )
    if cash + booking.cash_change > CASH_LIMIT:
        return Verdict(Settlement.REJECTED, "balance-limit", f"no account may hold more than {CASH_LIMIT:f} in cash")
    return Verdict(Settlement.FILLED)
