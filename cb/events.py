"""Events of a breaker, and the listeners that receive them."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from .clocks import timestamp
from .failures import LastFailure
from .log import Log
from .states import Counts, Outcome, State

log = Log(__name__)


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a breaker, in this process."""

    #: name of the breaker
    name: str


@dataclass(frozen=True, slots=True)
class StateChange(Event):
    """A change of state: as an event in the process that made it, and as a record in `Ledger.history`."""

    #: the state that was left
    before: State
    #: the state that was entered; the same where an operator repeats a command or changes thresholds
    after: State
    #: number of the stay in the new state
    generation: int
    #: the reason, and for a command its author
    reason: str
    #: number of the change among those of all breakers of the ledger, from 1
    number: int = field(default=0, compare=False)
    #: time of the change, in seconds since the epoch
    at: float = field(default=0.0, compare=False)
    #: counts of the window when the change was made; None in `Ledger.history`
    window: Counts | None = field(default=None, compare=False)
    #: length of the window, in seconds; None in `Ledger.history`
    window_seconds: float | None = field(default=None, compare=False)
    #: seconds for which the circuit has rejected calls, if this change ends that, else None; None in `Ledger.history`
    open_seconds: float | None = field(default=None, compare=False)
    #: for a change to OPEN by failures, the latest of them; None otherwise and in `Ledger.history`
    last_failure: LastFailure | None = field(default=None, compare=False)

    @property
    def author(self) -> str | None:
        """Author of an operator's action, or the host that changed the fleet's state; None if there is none."""
        before, found, author = self.reason.rpartition(" (by ")
        return author.removesuffix(")") if found and before and author.endswith(")") else None

    def as_dict(self) -> dict[str, Any]:
        """Return the change as a JSON object."""
        return {
            "name": self.name,
            "from": self.before.value,
            "to": self.after.value,
            "generation": self.generation,
            "reason": self.reason,
        }

    def as_log_entry(self) -> dict[str, Any]:
        """Return the change as a JSON object, with its number and time."""
        milliseconds = int(self.at * 1000)
        at = f"{timestamp(milliseconds // 1000).removesuffix('Z')}.{milliseconds % 1000:03}Z"
        return {"number": self.number, "at": at, **self.as_dict()}


@dataclass(frozen=True, slots=True)
class Rejected(Event):
    """A call was rejected."""

    #: the state that rejected it
    state: State
    #: seconds until a call may be admitted; None while an operator holds the circuit open without end
    retry_after: float | None


@dataclass(frozen=True, slots=True)
class LateResult(Event):
    """A call ended after the circuit had changed its state, so that it had no vote."""

    #: the outcome that was not counted
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Reclaimed(Event):
    """Calls that cannot report any more have been counted as failures."""

    #: number of calls that ran in a process that died, or held their permit for too long
    calls: int
    #: the reason, in words, with the process ids of workers that ended
    reason: str = ""


@dataclass(frozen=True, slots=True)
class LedgerDegraded(Event):
    """The breaker is not shared as configured."""

    #: the reason, in words
    reason: str


class LedgerRestored(Event):
    """The breaker is shared as configured again, after a `LedgerDegraded`."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class WouldOpen(Event):
    """A METRICS_ONLY circuit has met or left the conditions to open."""

    #: the condition that is met; None if none is any more
    reason: str | None


@dataclass(frozen=True, slots=True)
class HealthChanged(Event):
    """A health check has found a dependency up after it was down, or down after it was up."""

    #: True if the dependency is up now
    up: bool
    #: the exception of the check, in words; empty if the dependency is up
    reason: str


#: Receives the events of a breaker, in the thread where they happen and outside all locks. Its exceptions are logged.
Listener = Callable[[Event], object]


def announce(listeners: Iterable[Listener], events: Iterable[Event]) -> None:
    """Call every listener with every event. Exceptions are logged. The caller holds no lock."""
    for event in events:
        for listener in tuple(listeners):  # a listener may remove itself
            try:
                listener(event)
            except Exception:
                log.exception("listener %r failed on %s", listener, event)
