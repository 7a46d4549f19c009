"""The metrics of a ledger as OpenTelemetry's instruments: one process of a host reports them for all.

There are no conventions for circuit breakers yet (open-telemetry/semantic-conventions#2355), so the names follow the
general ones: a namespace, no unit and no `_total` in a name, durations in seconds, annotated units such as `{request}`;
states as `hw.status` has them, 1 for the one that is.
"""

from collections.abc import Callable, Iterable, Iterator

from opentelemetry.metrics import CallbackOptions, Meter, Observation

from cb.background.fork import register_fork_reset
from cb.clocks import monotonic_ns
from cb.ledger.ledger import Ledger
from cb.snapshot import Snapshot, read_snapshot
from cb.states import State

from .spans import BEFORE, NAME, STATE

_ROLE = "otel"
_OUTCOMES = {"success": "successes", "failure": "failures", "neutral": "neutral", "late": "late"}
Values = Iterable[tuple[dict[str, str], float]]
Read = Callable[[Snapshot], Values]
Callback = Callable[[CallbackOptions], Iterable[Observation]]


class Instruments:
    """What is reported, and by whom.

    Every process collects, but only the elected one reports: the sum over all processes must be what happened. It
    counts from where it took over; what an earlier one has reported must not be reported again.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self.reset_after_fork()
        register_fork_reset(self)

    def reset_after_fork(self) -> None:
        """Count from here, in a forked child."""
        self._leads = False
        self._before = self._look()

    def offer(self, meter: Meter) -> None:
        """Have a meter ask for all values whenever it collects."""
        for name, unit, text, read in _COUNTERS:
            meter.create_observable_counter(name, [self._counter(read)], unit, text)
        for name, unit, text, read in _LEVELS:
            meter.create_observable_up_down_counter(name, [self._level(read)], unit, text)

    def _counter(self, read: Read) -> Callback:
        def observe(_: CallbackOptions) -> Iterator[Observation]:
            for seen in self._report():
                before = self._before.get(seen.name)
                told = [(attributes, value) for attributes, value in read(before)] if before else []
                for attributes, value in read(seen):
                    old = next((value for known, value in told if known == attributes), 0)
                    yield Observation(value - old, {NAME: seen.name, **attributes})

        return observe

    def _level(self, read: Read) -> Callback:
        def observe(_: CallbackOptions) -> Iterator[Observation]:
            for seen in self._report():
                for attributes, value in read(seen):
                    yield Observation(value, {NAME: seen.name, **attributes})

        return observe

    def _report(self) -> Iterable[Snapshot]:
        """Return what there is to report; nothing, but remember it, while another process does."""
        if not self._leads and self._ledger.elect(_ROLE):
            self._leads = True
        seen = self._look()
        if not self._leads:
            self._before = seen
            return ()
        return seen.values()

    def _look(self) -> dict[str, Snapshot]:
        """Return a snapshot of every breaker of the ledger, in whichever process it was made."""
        now = monotonic_ns()
        return {name: read_snapshot(self._ledger, name, now) for name in self._ledger.names()}


def _requests(seen: Snapshot) -> Values:
    for outcome, total in _OUTCOMES.items():
        yield {"circuit_breaker.outcome": outcome}, getattr(seen.totals, total)


def _rejected(seen: Snapshot) -> Values:
    yield {"error.type": "CircuitOpenError"}, seen.totals.rejected
    yield {"error.type": "BulkheadFullError"}, seen.totals.full


def _changes(seen: Snapshot) -> Values:
    for (before, after), number in seen.changes.items():
        yield {BEFORE: before.value, STATE: after.value}, number


def _time(seen: Snapshot) -> Values:
    yield {}, seen.latency.sum


def _state(seen: Snapshot) -> Values:
    for state in State:
        yield {STATE: state.value}, int(state is seen.state)


def _active(seen: Snapshot) -> Values:
    yield {}, seen.in_flight


def _limit(seen: Snapshot) -> Values:
    if seen.limit:
        yield {}, seen.limit


_COUNTERS: tuple[tuple[str, str, str, Read], ...] = (
    ("circuit_breaker.requests", "{request}", "Calls that were admitted and have ended.", _requests),
    ("circuit_breaker.rejected", "{request}", "Calls that were refused.", _rejected),
    ("circuit_breaker.state_changes", "{change}", "Changes of the circuit's state.", _changes),
    ("circuit_breaker.request.time", "s", "Time in calls that succeeded or failed, added up.", _time),
)
_LEVELS: tuple[tuple[str, str, str, Read], ...] = (
    ("circuit_breaker.state", "1", "1 for the state the circuit is in, else 0.", _state),
    ("circuit_breaker.active_requests", "{request}", "Calls that are running.", _active),
    ("circuit_breaker.bulkhead.limit", "{request}", "Calls that may run at once.", _limit),
)
