"""What a host and the server tell each other about a breaker. `sync.lua` answers a Report with a Reply."""

import json
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

from cb.ledger import layout as at
from cb.states import STATES

#: no number of a Reply is larger: it fits the cells of a ledger, and JSON as Lua writes it
MOST = 2**45 + 1
_TEXTS = frozenset({"state", "reason", "thresholds", "damaged"})
_OPTIONAL = frozenset({"remaining", "thresholds", "damaged"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A state that a host wants the fleet to enter. `sync.lua` decides whether it does."""

    #: of the fleet, in which the reason for it was found
    generation: int
    state: str
    #: milliseconds, None for one without an end
    duration: int | None
    reason: str
    #: 1 if an operator wants it: then whatever the generation
    operator: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a host tells about a breaker. Durations are milliseconds."""

    #: of the fleet, as the host has seen it last; 0 before the first exchange
    generation: int
    # the fleet's state as this host follows it, and its generation, 0 if it does not: for a server that has lost it
    knows: int
    state: str
    remaining: int | None
    reason: str
    operator: int
    # totals since the host's ledger was made, and how much of them the fleet need count, at the most
    requests: int
    failures: int
    slow: int
    new_requests: int
    new_failures: int
    new_slow: int
    #: failures since the host's last success
    streak: int
    #: 1 if the host has calls in its window
    traffic: int
    #: 1 if its own calls, however few, fail or are slow at a rate that opens
    bad: int
    #: number of the host's own stay in the round, present or to come
    stay: int
    # permits that the host has in the round with that generation, those it has taken, and how its probes ended
    probes_of: int
    budget: int
    taken: int
    succeeded: int
    failed: int
    #: 1 if a call was refused that could have been a probe
    wants: int
    # thresholds
    window: int
    permits: int
    round: int
    #: for which the circuit may stay open
    longest: int
    #: for which a host keeps its permits without another report
    silence: int
    #: for which the server keeps what it knows without another report
    keep: int
    thresholds_version: int
    #: an operator's new thresholds, as JSON
    thresholds: str | None = None
    change: Change | None = None

    def __post_init__(self) -> None:
        """Raise ValueError for what only a damaged ledger says: it must not get to other hosts."""
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, int) and not 0 <= value <= MOST:
                raise ValueError(f"{field.name} is {value}")

    def told(self) -> dict[str, Any]:
        """Return it as the script takes it: what is None is left out, because Lua takes a null for true."""
        told = asdict(self)
        if self.change:
            told["change"] = {key: value for key, value in told["change"].items() if value is not None}
        return {key: value for key, value in told.items() if value is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What the fleet knows of a breaker."""

    generation: int
    state: str
    #: milliseconds to the end of the state, None if it has none
    remaining: int | None
    reason: str
    operator: int
    #: that failed since the circuit was closed
    rounds: int
    # of all hosts, in the window
    requests: int
    failures: int
    slow: int
    streak: int
    # hosts that have calls in their window, whose own fail at a rate that opens, and that are in a streak of failures
    traffic: int
    bad: int
    streaks: int
    #: permits of this host in the running round
    permits: int
    # of all hosts in the running round
    given: int
    succeeded: int
    failed: int
    thresholds_version: int
    #: thresholds, if they are newer than what the host knows
    thresholds: str | None
    #: 1 if the server has lost the round of probes before this state
    lost: int
    #: the first field of what was stored that made no sense, if all of it was thrown away for that
    damaged: str | None

    @classmethod
    def parse(cls, answer: object) -> Self:
        """Return what the script has answered. Raises ValueError if it can be nothing that the script answers."""
        text = answer.decode(errors="replace") if isinstance(answer, bytes) else answer
        try:
            told = json.loads(text) if isinstance(text, str) else None
        except RecursionError as error:
            raise ValueError("it is nested too deeply") from error
        if not isinstance(told, dict) or told.keys() != {field.name for field in fields(cls)}:
            raise ValueError(f"{answer!r:.80}")
        for name, value in told.items():
            if not (value is None and name in _OPTIONAL) and not _possible(name, value):
                raise ValueError(f"{name} is {value!r:.80}")
        return cls(**{**told, "reason": at.cut_text(told["reason"], at.REASON_CELLS * 8)})


def _possible(name: str, value: object) -> bool:
    if name == "state":
        return value in STATES
    if name in _TEXTS:
        return isinstance(value, str)
    return type(value) is int and (-MOST if name == "remaining" else 0) <= value <= MOST
