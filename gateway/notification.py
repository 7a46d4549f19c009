"""The notification service, in process: tells a user what became of a trade."""

import logging
from collections.abc import Callable

from cb import CircuitBreaker

from .trade import Trade

log = logging.getLogger(__name__)


class Notification:
    """Sends confirmations, here into the log. `simulate` fails or delays as it was told."""

    def __init__(self, breaker: CircuitBreaker, simulate: Callable[[], None]) -> None:
        self._breaker = breaker
        self._simulate = simulate

    def confirm(self, trade: Trade) -> None:
        """Send a user the state of a trade. Raises what hinders it."""
        self._breaker.call(self._send, trade)

    def _send(self, trade: Trade) -> None:
        self._simulate()
        log.info("told %s that trade %s is %s", trade.order.user_id, trade.trade_id, trade.status)
