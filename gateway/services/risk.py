"""The risk service, in process: limits of orders and users."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal

from cb import CircuitBreaker
from gateway.trading.errors import DependencyError, RiskLimitError
from gateway.trading.exposure import Exposure
from gateway.trading.trade import Order, Side
from servicekit import SimulatedError
from servicekit.fields import money_text


@dataclass(frozen=True, slots=True)
class RiskLimits:
    """Limits of orders and users."""

    #: maximum distance of an order's price from the market price, as a share of it
    price_band: Decimal
    #: cash per order
    order_value: Decimal
    #: shares per user and symbol, including pending buys
    position: Decimal
    #: cash per user and day (UTC), bought and sold
    daily_volume: Decimal


class RiskService:
    """Checks orders. `simulate` applies the simulated faults within a timeout in seconds."""

    def __init__(self, breaker: CircuitBreaker, simulate: Callable[[float], None], limits: RiskLimits) -> None:
        self._breaker = breaker
        self._simulate = simulate
        self._limits = limits

    def check(self, order: Order, market: Decimal, timeout: float = math.inf) -> None:
        """Check an order by itself within `timeout` seconds.

        Raises RiskLimitError, DependencyError, CircuitOpenError.
        """
        try:
            violation = self._breaker.call(self._examine, order, market, timeout)
        except SimulatedError as error:
            raise DependencyError("risk", str(error)) from error
        if violation:
            raise violation

    def admit(self, order: Order, exposure: Exposure) -> None:
        """Check the exposure of the user, the order included. Raises RiskLimitError.

        The store calls it in the transaction that inserts the order: concurrent orders cannot both pass.
        """
        limits = self._limits
        if order.side is Side.BUY and exposure.position > limits.position:
            held, most = f"{exposure.position:.0f}", f"{limits.position:.0f}"
            raise _exceeded("position-limit", f"the position in {order.symbol}", most, held)
        if exposure.volume > limits.daily_volume:
            volume, most = money_text(exposure.volume), money_text(limits.daily_volume)
            raise _exceeded("daily-volume-limit", "the daily volume", most, volume)

    def _examine(self, order: Order, market: Decimal, timeout: float) -> RiskLimitError | None:
        self._simulate(timeout)
        band = self._limits.price_band
        low, high = market * (1 - band), market * (1 + band)
        if not low <= order.price <= high:
            limit, price = f"{low:.4f} to {high:.4f}", money_text(order.price)
            detail = f"price must be from {limit}, {float(band):.3%} around the market price, got {price}"
            return RiskLimitError("price-out-of-band", detail, limit=limit, value=price)
        if order.value > self._limits.order_value:
            most = money_text(self._limits.order_value)
            return _exceeded("order-value-limit", "the value of an order", most, money_text(order.value))
        return None


def _exceeded(code: str, subject: str, limit: str, value: str) -> RiskLimitError:
    return RiskLimitError(code, f"{subject} must be at most {limit}, got {value}", limit=limit, value=value)
