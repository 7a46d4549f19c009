"""The risk service, in process: whether an order is within its limits."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal

from cb import CircuitBreaker
from gateway.trading.errors import RiskRefusal, Unavailable
from gateway.trading.trade import Order, Side
from servicekit import SimulatedError
from servicekit.fields import money_text

from .exposure import Exposure


@dataclass(frozen=True, slots=True)
class Limits:
    """How far orders may go."""

    #: how far an order's price may be from the market's, as a share of it
    price_band: Decimal
    #: cash that one order may move
    order_value: Decimal
    #: shares of one symbol that a user may come to hold
    position: Decimal
    #: cash that a user's orders may move in a day (UTC)
    daily_volume: Decimal


class Risk:
    """Checks orders. `simulate` applies the simulated faults to a call that may take so many seconds."""

    def __init__(self, breaker: CircuitBreaker, simulate: Callable[[float], None], limits: Limits) -> None:
        self._breaker = breaker
        self._simulate = simulate
        self._limits = limits

    def check(self, order: Order, market: Decimal, timeout: float = math.inf) -> None:
        """Return if the order by itself may be placed. Raises RiskRefusal, Unavailable, CircuitOpenError.

        No check, no trade. `timeout` is seconds.
        """
        try:
            refusal = self._breaker.call(self._examine, order, market, timeout)
        except SimulatedError as error:
            raise Unavailable("risk", str(error)) from error
        if refusal:
            raise refusal

    def admit(self, order: Order, exposure: Exposure) -> None:
        """Return if the order may be placed beside all others of its user. Raises RiskRefusal.

        The store asks while it keeps the order, so that two orders cannot pass side by side.
        """
        limits = self._limits
        if order.side is Side.BUY and exposure.position > limits.position:
            held, most = f"{exposure.position:.0f}", f"{limits.position:.0f}"
            raise _over("position-limit", f"the position in {order.symbol}", most, held)
        if exposure.volume > limits.daily_volume:
            volume, most = money_text(exposure.volume), money_text(limits.daily_volume)
            raise _over("daily-volume-limit", "the volume of a day", most, volume)

    def _examine(self, order: Order, market: Decimal, timeout: float) -> RiskRefusal | None:
        self._simulate(timeout)
        band = self._limits.price_band
        low, high = market * (1 - band), market * (1 + band)
        if not low <= order.price <= high:
            limit, price = f"{low:.4f} to {high:.4f}", money_text(order.price)
            detail = f"price must be from {limit}, {float(band):.3%} around the market price, got {price}"
            return RiskRefusal("price-out-of-band", detail, limit=limit, value=price)
        if order.value > self._limits.order_value:
            most = money_text(self._limits.order_value)
            return _over("order-value-limit", "the value of an order", most, money_text(order.value))
        return None


def _over(code: str, what: str, limit: str, value: str) -> RiskRefusal:
    return RiskRefusal(code, f"{what} must be at most {limit}, got {value}", limit=limit, value=value)
