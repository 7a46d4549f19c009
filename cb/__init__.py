"""A circuit breaker for all threads, all workers of a host, and all hosts."""

from .background.leader import Leader
from .breaker import CircuitBreaker
from .bulkhead import Bulkhead
from .call import Call
from .config import BreakerConfig, Duration, parse_duration
from .control import BreakerControl, BreakerSettings
from .errors import (
    BulkheadFullError,
    CircuitError,
    CircuitOpenError,
    ConfigError,
    LedgerBusyError,
    LedgerError,
    LedgerFullError,
    RateLimitedError,
    RejectedError,
    RetryBudgetExhaustedError,
)
from .events import (
    Event,
    HealthChanged,
    LateResult,
    LedgerDegraded,
    LedgerRestored,
    Listener,
    Reclaimed,
    Rejected,
    StateChange,
    WouldOpen,
)
from .failures import LastFailure
from .guard import CallGuard, Guard
from .health import Health
from .ledger.fleet_view import FleetView
from .ledger.ledger import Ledger
from .monitor import Monitor
from .policy import Policy
from .registry import Registry
from .snapshot import Histogram, Snapshot, Stats, Totals
from .state.outcome import ErrorFilter
from .states import Counts, Outcome, Scope, State

__all__ = [
    "BreakerConfig",
    "BreakerControl",
    "BreakerSettings",
    "Bulkhead",
    "BulkheadFullError",
    "Call",
    "CallGuard",
    "CircuitBreaker",
    "CircuitError",
    "CircuitOpenError",
    "ConfigError",
    "Counts",
    "Duration",
    "ErrorFilter",
    "Event",
    "FleetView",
    "Guard",
    "Health",
    "HealthChanged",
    "Histogram",
    "LastFailure",
    "LateResult",
    "Leader",
    "Ledger",
    "LedgerBusyError",
    "LedgerDegraded",
    "LedgerError",
    "LedgerFullError",
    "LedgerRestored",
    "Listener",
    "Monitor",
    "Outcome",
    "Policy",
    "RateLimitedError",
    "Reclaimed",
    "Registry",
    "Rejected",
    "RejectedError",
    "RetryBudgetExhaustedError",
    "Scope",
    "Snapshot",
    "State",
    "StateChange",
    "Stats",
    "Totals",
    "WouldOpen",
    "parse_duration",
]
__version__ = "1.0.0"
