"""States of a circuit, outcomes of calls and their counts, and the scope in which breakers share them."""

from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    """State of a circuit: which calls it admits, and which outcomes it evaluates."""

    #: admits every call and evaluates the outcomes
    CLOSED = "CLOSED"
    #: rejects every call until its open time has passed
    OPEN = "OPEN"
    #: admits a few probes and rejects all other calls
    HALF_OPEN = "HALF_OPEN"
    #: set by an operator: rejects every call
    FORCED_OPEN = "FORCED_OPEN"
    #: set by an operator: admits every call and evaluates none
    DISABLED = "DISABLED"
    #: set by an operator: admits and counts every call, and only reports when the circuit would open
    METRICS_ONLY = "METRICS_ONLY"


#: the state for each code in the ledger; CLOSED is 0, so that a fresh record is closed
STATES = tuple(State)
#: the code of each state in the ledger
CODES = {state: code for code, state in enumerate(STATES)}
#: states that only an operator or the expiry of the operator's command leaves
HELD = frozenset({State.FORCED_OPEN, State.DISABLED, State.METRICS_ONLY})
#: states that admit every call
ADMITTING = frozenset({State.CLOSED, State.DISABLED, State.METRICS_ONLY})


class Outcome(StrEnum):
    """Outcome of a call, as it counts in the window of its breaker."""

    #: the dependency has answered
    SUCCESS = "success"
    #: the dependency has failed
    FAILURE = "failure"
    #: counts as neither: the caller's own mistake, or a call that was cancelled
    NEUTRAL = "neutral"


@dataclass(slots=True)
class Counts:
    """Calls of the window. A running call is in it once it has run too long."""

    #: successes and failures, without rejected and neutral calls
    requests: int = 0
    #: calls that failed
    failures: int = 0
    #: calls that took slow_call_duration or longer, failed or not
    slow: int = 0

    @property
    def failure_rate(self) -> float:
        """0 to 1; 0 without calls."""
        return self.failures / self.requests if self.requests else 0.0

    @property
    def slow_call_rate(self) -> float:
        """0 to 1; 0 without calls."""
        return self.slow / self.requests if self.requests else 0.0


def counted(number: int, noun: str) -> str:
    """Return the number and the noun, in the plural unless the number is 1."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


class Scope(StrEnum):
    """The breakers that share a state: those of one process, of one host, or of all hosts of a fleet."""

    #: the threads of one process
    PROCESS = "process"
    #: all processes of one host
    HOST = "host"
    #: all hosts that share a server
    FLEET = "fleet"
