"""The risk service, in process: whether an order is within its limits."""

from collections.abc import Callable
from decimal import Decimal

from cb import CircuitBreaker
from cb.web import SimulatedFailure

from .errors import RiskRefusal, Unavailable
from .trade import Order


class Risk:
    """Checks orders. `simulate` fails or delays as it was told."""

    def __init__(self, breaker: CircuitBreaker, simulate: Callable[[], None], price_band: Decimal) -> None:
        self._breaker = breaker
        self._simulate = simulate
        self._band = price_band

    def check(self, order: Order, market: Decimal) -> None:
        """Return if the order may be placed. Raises RiskRefusal, Unavailable, CircuitOpenError: no check, no trade."""
        try:
            refusal = self._breaker.call(self._examine, order, market)
        except SimulatedFailure as error:
            raise Unavailable("risk", str(error)) from error
        if refusal:
            raise refusal

    def _examine(self, order: Order, market: Decimal) -> RiskRefusal | None:
        self._simulate()
        low, high = market * (1 - self._band), market * (1 + self._band)
        if low <= order.price <= high:
            return None
        rule = f"from {low:.4f} to {high:.4f}, {float(self._band):.3%} around the market price"
        return RiskRefusal("price-out-of-band", f"price must be {rule}, got {order.price:f}")
