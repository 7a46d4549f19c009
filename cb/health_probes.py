"""Recovery by health check: probes that cost no user's call."""

from collections.abc import Callable

from .breaker import CircuitBreaker, admission_of
from .config import nanoseconds
from .events import HealthChanged
from .health import write_health
from .ledger import layout as at
from .ledger.ledger import Ledger
from .ledger.probe_scope import enter
from .state.deferred import require_done
from .states import Outcome

#: longest reason in a HealthChanged, in characters
_MAX_REASON = 300


class HealthProbes:
    """Internal: the health checks of one breaker's dependency, as a `Monitor` runs them."""

    def __init__(self, breaker: CircuitBreaker) -> None:
        self._admission = admission_of(breaker)
        self._circuit = self._admission.circuit

    @property
    def ledger(self) -> Ledger:
        """The ledger that the breaker's record is in: one of this process while the given one has no room for it."""
        return Ledger(self._circuit.core) if self._circuit.apart else self._circuit.ledger

    @property
    def index(self) -> int:
        """Number of the breaker's record, the same in all processes that share the ledger."""
        return self._circuit.record.index

    def note(self, error: Exception | None, *, took: float, valid: float) -> None:
        """Note the result of a check for all processes: its error, None if the dependency is up.

        `took` and `valid` are seconds; a result older than `valid` is unknown. Only one process may check a dependency.
        """
        circuit = self._circuit
        up, now = error is None, circuit.clock()
        if write_health(circuit.head, up, now, took=nanoseconds(took), valid=nanoseconds(valid)):
            reason = "" if up else f"{type(error).__name__}: {error}"  # it may quote the dependency at any length
            circuit.notify([HealthChanged(circuit.name, up, reason[:_MAX_REASON])])

    def reserve(self, seconds: float) -> None:
        """Leave all probes to health checks for a time; 0 ends it."""
        circuit = self._circuit
        circuit.head[at.PROBER_UNTIL] = circuit.clock() + nanoseconds(seconds) if seconds else 0

    def run(self, check: Callable[[], object]) -> bool:
        """Run a check as a probe if the circuit needs one. Return True if it ran.

        An exception of the check is a failure of the probe, regardless of the breaker's rules, and is not raised.
        """
        admission, clock = self._admission, self._circuit.clock
        counters = admission.admit_check()
        if counters is None:
            return False
        if counters.scope:
            enter(counters.scope)
        outcome = Outcome.NEUTRAL
        try:
            require_done(check())
            outcome = Outcome.SUCCESS
        except Exception as error:  # noqa: BLE001 - any exception means that the dependency is down
            if not admission.lacks_permit(counters, error):
                outcome = Outcome.FAILURE
                admission.note_failure(error, clock(), source="health check")
        finally:
            admission.settle(counters, outcome, clock())
        return True
