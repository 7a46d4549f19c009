"""The audit service, in process: a permanent record of each move of each trade."""

from collections.abc import Callable

from cb import CircuitBreaker
from gateway.trading.outbox import OutboxEntry

from .audit_log import AuditLog


class AuditService:
    """Records the moves of trades behind a breaker. `simulate` applies the simulated faults."""

    def __init__(self, breaker: CircuitBreaker, simulate: Callable[[], None], log: AuditLog) -> None:
        self._breaker = breaker
        self._simulate = simulate
        self._log = log

    def record(self, entries: list[OutboxEntry]) -> None:
        """Append entries to the log; entries already in the log are skipped.

        Raises CircuitOpenError, SimulatedError, DatabaseUnavailableError.
        """
        self._breaker.call(self._append, entries)

    def _append(self, entries: list[OutboxEntry]) -> None:
        self._simulate()
        self._log.append(entries)
