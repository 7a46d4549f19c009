"""The audit service, in process: a lasting record of what became of each trade."""

from collections.abc import Callable

from cb import CircuitBreaker
from gateway.trading.outbox import Entry

from .audit_log import AuditLog


class Audit:
    """Records the moves of trades. `simulate` fails or delays as it was told."""

    def __init__(self, breaker: CircuitBreaker, simulate: Callable[[], None], log: AuditLog) -> None:
        self._breaker = breaker
        self._simulate = simulate
        self._log = log

    def record(self, entries: list[Entry]) -> None:
        """Append entries to the log, each once however often it is told. Raises what hinders it."""
        self._breaker.call(self._append, entries)

    def _append(self, entries: list[Entry]) -> None:
        self._simulate()
        self._log.append(entries)
