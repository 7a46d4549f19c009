"""The metrics of a ledger as OpenTelemetry instruments: one process of a host reports them for all processes.

There are no conventions for circuit breakers yet (open-telemetry/semantic-conventions#2355), so the names follow the
general ones: a namespace, no unit and no `_total` in a name, durations in seconds, annotated units such as `{request}`,
and states as in `hw.status`: 1 for the current one, 0 for the others.
"""

from collections.abc import Callable, Iterable, Iterator

from opentelemetry.metrics import CallbackOptions, Meter, Observation

from cb import Ledger, Snapshot, State
from cb.background.fork import register_fork_reset
from cb.clocks import monotonic_ns
from cb.snapshot import read_snapshot

from .spans import BEFORE, NAME, STATE

_ROLE = "otel"
_OUTCOMES = {"success": "successes", "failure": "failures", "neutral": "neutral", "late": "late"}
Values = Iterable[tuple[dict[str, str], float]]
Read = Callable[[Snapshot], Values]
Callback = Callable[[CallbackOptions], Iterable[Observation]]


class Instruments:
    """The observable instruments of a ledger.

    Every process collects, but only the elected leader reports, so that a sum over all processes is correct. A new
    leader reports the difference to the values when it took over: those before were reported by its predecessor.

    Args:
        ledger: The ledger to report.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self.reset_after_fork()
        register_fork_reset(self)

    def reset_after_fork(self) -> None:
        """Start from the current values in a forked child."""
        self._is_leader = False
        self._baseline = self._snapshots()

    def register(self, meter: Meter) -> None:
        """Create the instruments of a meter, which calls them at each collection."""
        for name, unit, text, read in _COUNTERS:
            meter.create_observable_counter(name, [self._counter(read)], unit, text)
        for name, unit, text, read in _LEVELS:
            meter.create_observable_up_down_counter(name, [self._level(read)], unit, text)

    def _counter(self, read: Read) -> Callback:
        def observe(_: CallbackOptions) -> Iterator[Observation]:
            for snapshot in self._collect():
                earlier = self._baseline.get(snapshot.name)
                baseline = list(read(earlier)) if earlier else []
                for attributes, value in read(snapshot):
                    base = next((value for known, value in baseline if known == attributes), 0)
                    yield Observation(value - base, {NAME: snapshot.name, **attributes})

        return observe

    def _level(self, read: Read) -> Callback:
        def observe(_: CallbackOptions) -> Iterator[Observation]:
            for snapshot in self._collect():
                for attributes, value in read(snapshot):
                    yield Observation(value, {NAME: snapshot.name, **attributes})

        return observe

    def _collect(self) -> Iterable[Snapshot]:
        """Return the snapshots to report, none while another process is the leader."""
        if not self._is_leader and self._ledger.core.elect(_ROLE):
            self._is_leader = True
        snapshots = self._snapshots()
        if not self._is_leader:
            self._baseline = snapshots
            return ()
        return snapshots.values()

    def _snapshots(self) -> dict[str, Snapshot]:
        """Return a snapshot of every breaker of the ledger, in whichever process it was made."""
        now = monotonic_ns()
        return {name: read_snapshot(self._ledger, name, now) for name in self._ledger.names()}


def _requests(snapshot: Snapshot) -> Values:
    for outcome, total in _OUTCOMES.items():
        yield {"circuit_breaker.outcome": outcome}, getattr(snapshot.totals, total)


def _rejected(snapshot: Snapshot) -> Values:
    yield {"error.type": "CircuitOpenError"}, snapshot.totals.rejected
    yield {"error.type": "BulkheadFullError"}, snapshot.totals.full


def _changes(snapshot: Snapshot) -> Values:
    for (before, after), number in snapshot.changes.items():
        yield {BEFORE: before.value, STATE: after.value}, number


def _time(snapshot: Snapshot) -> Values:
    yield {}, snapshot.latency.sum


def _state(snapshot: Snapshot) -> Values:
    for state in State:
        yield {STATE: state.value}, int(state is snapshot.state)


def _active(snapshot: Snapshot) -> Values:
    yield {}, snapshot.in_flight


def _limit(snapshot: Snapshot) -> Values:
    if snapshot.limit:
        yield {}, snapshot.limit


_COUNTERS: tuple[tuple[str, str, str, Read], ...] = (
    ("circuit_breaker.requests", "{request}", "Calls that were admitted and have ended.", _requests),
    ("circuit_breaker.rejected", "{request}", "Calls that were rejected.", _rejected),
    ("circuit_breaker.state_changes", "{change}", "Changes of the circuit's state.", _changes),
    ("circuit_breaker.request.time", "s", "Total duration of the calls that succeeded or failed.", _time),
)
_LEVELS: tuple[tuple[str, str, str, Read], ...] = (
    ("circuit_breaker.state", "1", "1 for the state the circuit is in, else 0.", _state),
    ("circuit_breaker.active_requests", "{request}", "Calls that are running.", _active),
    ("circuit_breaker.bulkhead.limit", "{request}", "Calls that may run at once.", _limit),
)
