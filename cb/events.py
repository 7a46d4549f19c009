"""What a breaker tells those who listen, and the host's log of transitions."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from .ledger import layout as at
from .ledger.layout import STATES, State
from .log import Log

log = Log(__name__)


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a breaker, in this process."""

    #: the breaker's
    name: str


@dataclass(frozen=True, slots=True)
class StateChange(Event):
    """A circuit has changed its state."""

    #: the state that was left
    before: State
    #: the state that was entered; the same again where an operator says so
    after: State
    #: number of the stay in the new state
    generation: int
    #: why, in words
    reason: str


@dataclass(frozen=True, slots=True)
class Rejected(Event):
    """A call was refused."""

    #: the state that refused it
    state: State
    #: seconds, None while an operator holds the circuit open without end
    retry_after: float | None


@dataclass(frozen=True, slots=True)
class LateResult(Event):
    """A call ended after the circuit had changed its state: it had no vote."""

    #: success, failure or neutral
    outcome: str


@dataclass(frozen=True, slots=True)
class Reclaimed(Event):
    """Calls that will not report have been counted as failures."""

    #: calls that ran in a worker that died, or held their permit for too long
    calls: int


@dataclass(frozen=True, slots=True)
class LedgerDegraded(Event):
    """The breaker is not shared as it was meant to be."""

    #: why, in words
    reason: str


@dataclass(frozen=True, slots=True)
class LedgerRestored(Event):
    """The breaker is shared again as it was meant to be, after a LedgerDegraded."""


@dataclass(frozen=True, slots=True)
class WouldOpen(Event):
    """A circuit that only measures would open now, or would close again."""

    #: why, in words; None when it would be closed again
    reason: str | None


@dataclass(frozen=True, slots=True)
class HealthChanged(Event):
    """A health check has found another health than the one before."""

    #: whether the dependency is well now
    up: bool
    #: what the check raised, in words; empty if the dependency is up
    reason: str


#: what is told events: called in the thread where they happen, after the locks; what it raises is logged
Listener = Callable[[Event], object]


def announce(listeners: Iterable[Listener], events: Iterable[Event]) -> None:
    """Call every listener. One that raises is logged and hurts nobody. Caller holds no lock."""
    for event in events:
        for listener in tuple(listeners):  # one may remove itself
            try:
                listener(event)
            except Exception:
                log.exception("listener %r failed on %s", listener, event)


@dataclass(frozen=True, slots=True)
class Transition:
    """A change of state, as the host remembers it."""

    #: counts the transitions of all breakers of the ledger, from 1
    number: int
    #: seconds since the epoch
    at: float
    #: the breaker's
    name: str
    #: the state that was left
    before: State
    #: the state that was entered; the same where thresholds were changed
    after: State
    #: number of the stay in the new state
    generation: int
    #: why, in words, and who, where an operator did it
    reason: str


def write_transition(header: memoryview, row: int, change: StateChange, wall: int) -> None:
    """Append to the ring of the latest transitions. Caller holds the ledger lock. `wall` is nanoseconds."""
    number = header[at.H_EVENTS] + 1
    start = at.PAGE + number % at.EVENTS * at.EVENT_CELLS
    header[start + at.E_NUMBER] = 0
    header[start + at.E_TIME] = wall
    header[start + at.E_ROW] = row
    header[start + at.E_STATES] = at.CODES[change.before] * 8 + at.CODES[change.after]
    header[start + at.E_GENERATION] = change.generation
    at.put_text(header, start + at.E_REASON, at.E_REASON_CELLS, change.reason)
    header[start + at.E_NUMBER] = number
    header[at.H_EVENTS] = number


def read_transitions(header: memoryview, names: Callable[[int], str], since: int) -> list[Transition]:
    """Return what is left of the transitions after number `since`, oldest first."""
    last, found = header[at.H_EVENTS], []
    for number in range(max(since, last - at.EVENTS, 0) + 1, last + 1):
        start = at.PAGE + number % at.EVENTS * at.EVENT_CELLS
        event = header[start : start + at.EVENT_CELLS]
        before, after = divmod(event[at.E_STATES], 8)
        if not (0 <= before < len(STATES) and after < len(STATES) and 0 <= event[at.E_ROW] < header[at.H_ROWS]):
            continue  # somebody has written over it
        transition = Transition(
            number=number,
            at=event[at.E_TIME] / 1e9,
            name=names(event[at.E_ROW]),
            before=STATES[before],
            after=STATES[after],
            generation=event[at.E_GENERATION],
            reason=at.get_text(event, at.E_REASON, at.E_REASON_CELLS),
        )
        if event[at.E_NUMBER] == number:  # else it has been overwritten meanwhile
            found.append(transition)
    return found
