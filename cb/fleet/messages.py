"""Messages between a host and the server about one breaker. `sync.lua` replies to a `Report` with a `Reply`."""

import json
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

from cb.ledger import layout as at
from cb.states import STATES

#: Largest number of a message: it fits a cell of the ledger, and a number of JSON as Lua writes it.
MAX_NUMBER = 2**45 + 1
_TEXTS = frozenset({"state", "reason", "thresholds", "damaged"})
_OPTIONAL = frozenset({"remaining", "thresholds", "damaged"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A state that a host proposes for the fleet. `sync.lua` decides whether the fleet enters it."""

    #: generation of the fleet in which the reason was found; for an operator's state, the host's own generation
    generation: int
    state: str
    #: milliseconds, None without an end
    duration: int | None
    reason: str
    #: 1 for an operator's state: it applies in any generation
    operator: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A host's report about a breaker. Durations are milliseconds."""

    #: generation of the fleet in the last reply; 0 before the first
    generation: int
    # The fleet's state that this host follows, and its generation, 0 if it follows none: they restore a server that has
    # lost them.
    known_generation: int
    state: str
    remaining: int | None
    reason: str
    operator: int
    # Totals since the host's ledger was created, and the part of them that the fleet counts at most.
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
    #: 1 if the host is a witness: its own calls, however few, fail or are slow at a rate that opens the circuit
    bad: int
    #: generation of the host's own state for the round, present or next
    stay: int
    # The round with that generation: permits granted to this host, permits used, and results of its probes.
    probes_of: int
    budget: int
    taken: int
    succeeded: int
    failed: int
    #: 1 if a rejected call could have been a probe
    probe_requested: int
    # Thresholds.
    window: int
    permits: int
    round: int
    #: longest time in OPEN
    longest: int
    #: time without another report after which the host loses its permits
    silence: int
    #: time without another report after which the server deletes its data
    keep: int
    thresholds_version: int
    #: an operator's new thresholds, as JSON
    thresholds: str | None = None
    change: Change | None = None

    def __post_init__(self) -> None:
        """Raise ValueError for a number that only a damaged ledger contains: it must not reach other hosts."""
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, int) and not 0 <= value <= MAX_NUMBER:
                raise ValueError(f"{field.name} is {value}")

    def as_dict(self) -> dict[str, Any]:
        """Return the report for the script, without the fields that are None: Lua takes a null for true."""
        report = asdict(self)
        if self.change:
            report["change"] = {key: value for key, value in report["change"].items() if value is not None}
        return {key: value for key, value in report.items() if value is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """The server's reply to a report: the state and the totals of the fleet. Durations are milliseconds."""

    generation: int
    state: str
    #: time until the end of the state, None if it has none
    remaining: int | None
    reason: str
    #: 1 if an operator put the fleet into its state
    operator: int
    #: failed rounds of probes since the circuit was closed
    rounds: int
    # Totals of all hosts in the window.
    requests: int
    failures: int
    slow: int
    streak: int
    # Number of hosts that have calls in their window, that are witnesses, and whose last call failed.
    traffic: int
    bad: int
    streaks: int
    #: permits of this host in the current round
    permits: int
    # Totals of all hosts in the current round.
    given: int
    succeeded: int
    failed: int
    thresholds_version: int
    #: thresholds as JSON, if they are newer than those of the host
    thresholds: str | None
    #: 1 if the server has lost the round of probes before this state
    lost: int
    #: first stored field that was invalid, if the server has discarded its data for that
    damaged: str | None

    @classmethod
    def parse(cls, message: object) -> Self:
        """Return the reply in a message of the server. Raises ValueError if the script cannot have written it."""
        text = message.decode(errors="replace") if isinstance(message, bytes) else message
        try:
            values = json.loads(text) if isinstance(text, str) else None
        except RecursionError as error:
            raise ValueError("nested too deeply") from error
        if not isinstance(values, dict) or values.keys() != {field.name for field in fields(cls)}:
            raise ValueError(f"{message!r:.80}")
        for name, value in values.items():
            if not (value is None and name in _OPTIONAL) and not _valid(name, value):
                raise ValueError(f"{name} is {value!r:.80}")
        return cls(**{**values, "reason": at.cut_text(values["reason"], at.REASON_CELLS * 8)})


def _valid(name: str, value: object) -> bool:
    if name == "state":
        return value in STATES
    if name in _TEXTS:
        return isinstance(value, str)
    return type(value) is int and (-MAX_NUMBER if name == "remaining" else 0) <= value <= MAX_NUMBER
