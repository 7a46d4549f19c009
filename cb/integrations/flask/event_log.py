"""A listener that logs the events of breakers."""

import logging
from dataclasses import asdict

from cb.events import Event, HealthChanged, LateResult, LedgerRestored, Rejected, StateChange
from cb.log import Log
from cb.states import State

_circuits = Log("cb.circuits")


def log_event(event: Event) -> None:
    """Log an event to `cb.circuits`, with its fields in `extra`.

    Rejected and late calls are not logged: metrics count them.
    """
    if isinstance(event, StateChange):
        _log_change(event)
    elif isinstance(event, HealthChanged):
        health = "UP" if event.up else "DOWN"
        facts = {"breaker": event.name, "health": health, "reason": event.reason}
        level = logging.INFO if event.up else logging.WARNING
        _circuits.log(level, "health of %s: %s", event.name, health, extra={"facts": facts})
    elif isinstance(event, LedgerRestored):
        _circuits.info("circuit %s is shared again", event.name, extra={"facts": {"breaker": event.name}})
    elif not isinstance(event, Rejected | LateResult):
        facts = {"breaker": event.name, **{key: value for key, value in asdict(event).items() if key != "name"}}
        _circuits.warning("circuit %s: %s", event.name, type(event).__name__, extra={"facts": facts})


def _log_change(change: StateChange) -> None:
    level = logging.WARNING if change.after is State.OPEN else logging.INFO
    document = change.as_dict()
    facts = {"breaker": document.pop("name"), **document}
    _circuits.log(level, "circuit %s: %s -> %s", change.name, facts["from"], facts["to"], extra={"facts": facts})
