"""The audit service, in process: a lasting record of what became of each trade."""

from collections.abc import Callable

from cb import CircuitBreaker

from .store import Store
from .trade import Trade


class Audit:
    """Records trades. `simulate` fails or delays as it was told."""

    def __init__(self, breaker: CircuitBreaker, simulate: Callable[[], None], store: Store) -> None:
        self._breaker = breaker
        self._simulate = simulate
        self._store = store

    def record(self, trade: Trade) -> None:
        """Append a trade's state to the log. Raises what hinders it."""
        self._breaker.call(self._append, trade)

    def _append(self, trade: Trade) -> None:
        self._simulate()
        self._store.log(trade)
