"""Events of a breaker, and the records of its transitions."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from .log import Log
from .states import State

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
