"""A circuit breaker for all threads, all workers of a host, and all hosts."""

from .breaker import CircuitBreaker
from .config import BreakerConfig, parse_duration
from .errors import CircuitError, CircuitOpenError, ConfigError, LedgerError, LedgerFullError
from .events import Listener, StateChange
from .layout import State
from .ledger import Ledger
from .registry import Registry
from .snapshot import Histogram, LastFailure, Snapshot, Totals
from .window import Counts

__all__ = [
    "BreakerConfig",
    "CircuitBreaker",
    "CircuitError",
    "CircuitOpenError",
    "ConfigError",
    "Counts",
    "Histogram",
    "LastFailure",
    "Ledger",
    "LedgerError",
    "LedgerFullError",
    "Listener",
    "Registry",
    "Snapshot",
    "State",
    "StateChange",
    "Totals",
    "parse_duration",
]
