"""The log lines of changes of state, of health and of what dead workers left.

Every process logs the changes that it has made itself, to `cb.circuits`. Rejected and late calls are not logged:
metrics count them.
"""

import logging
from collections.abc import Iterable
from typing import Any

from .events import Event, HealthChanged, Reclaimed, StateChange, WouldOpen
from .failures import UNFINISHED
from .log import Log
from .states import State, counted

circuits = Log("cb.circuits")

#: states in which calls are rejected, or not guarded
_LOUD = frozenset({State.OPEN, State.FORCED_OPEN, State.DISABLED})


def log_events(events: Iterable[Event]) -> None:
    """Log events to `cb.circuits`, with their fields in `extra`. The caller holds no lock."""
    for event in events:
        if isinstance(event, StateChange):
            _log_change(event)
        elif isinstance(event, HealthChanged):
            health = "UP" if event.up else "DOWN"
            level = logging.INFO if event.up else logging.WARNING
            facts = {"breaker": event.name, "health": health, "reason": event.reason}
            _log(level, "health of %s: %s", event.name, f"{health}: {event.reason}".removesuffix(": "), facts=facts)
        elif isinstance(event, WouldOpen):
            _log_would_open(event)
        elif isinstance(event, Reclaimed):
            _log_reclaimed(event)


def log_thresholds(change: StateChange) -> None:
    """Log new thresholds, whose values are in the reason. The caller holds no lock."""
    facts = {"breaker": change.name, "thresholds": change.reason, "author": change.author}
    _log(logging.INFO, "circuit %s: new thresholds: %s", change.name, change.reason, facts=facts)


def log_replaced(name: str, difference: str, *, here: bool, loud: bool) -> None:
    """Log that the thresholds given to one breaker object have replaced those of another. The caller holds no lock.

    Args:
        name: Name of the circuit.
        difference: The settings that differ.
        here: True if those of this process hold now.
        loud: True for a WARNING: they are of programs with different code, and not of two releases of one.
    """
    level = logging.WARNING if loud else logging.INFO
    held = "thresholds given here hold now" if here else "thresholds given elsewhere hold now, in place of those here"
    facts = {"breaker": name, "thresholds": difference}
    _log(level, "circuit %s: %s: %s", name, held, difference, facts=facts)


def _log_change(change: StateChange) -> None:
    document = change.as_dict()
    facts = {"breaker": document.pop("name"), **document}
    parts = [change.reason]
    if change.author:
        facts["author"] = change.author
    if (window := change.window) and change.window_seconds is not None and window.requests:
        facts["window"] = {
            "seconds": change.window_seconds,
            "requests": window.requests,
            "failures": window.failures,
            "slow": window.slow,
            "failure_rate": round(window.failure_rate, 3),
        }
        calls = f"{counted(window.requests, 'call')} in {change.window_seconds:g} s"
        slow = f", {window.slow} slow" if window.slow else ""
        parts.append(f"{calls}, {window.failures} failed ({window.failure_rate:.0%}){slow}")
    if change.open_seconds is not None:
        facts["open_seconds"] = round(change.open_seconds, 3)
        parts.append(f"calls were rejected for {_duration(change.open_seconds)}")
    if failed := change.last_failure:
        facts["last_failure"] = {
            "type": failed.type,
            "status": failed.status,
            "message": failed.message,
            "worker": failed.worker,
        }
        if failed.type not in UNFINISHED:  # else the reason has it
            parts.append(f"last failure: {failed}")
    level = logging.WARNING if change.after in _LOUD else logging.INFO
    _log(level, "circuit %s: %s -> %s: %s", change.name, change.before, change.after, "; ".join(parts), facts=facts)


def _log_would_open(event: WouldOpen) -> None:
    facts = {"breaker": event.name, "would_open": event.reason is not None, "reason": event.reason}
    if event.reason is None:
        _log(logging.INFO, "circuit %s: METRICS_ONLY, would close again", event.name, facts=facts)
    else:
        _log(logging.WARNING, "circuit %s: METRICS_ONLY, would open: %s", event.name, event.reason, facts=facts)


def _log_reclaimed(event: Reclaimed) -> None:
    facts = {"breaker": event.name, "calls": event.calls, "reason": event.reason}
    calls = counted(event.calls, "call")
    _log(logging.WARNING, "circuit %s: %s counted as failed: %s", event.name, calls, event.reason, facts=facts)


def _log(level: int, message: str, *args: str, facts: dict[str, Any]) -> None:
    circuits.log(level, message, *map(_printable, args), extra={"facts": facts})


def _printable(text: str) -> str:
    """Return one line: reasons and names may contain line breaks and escape codes."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def _duration(seconds: float) -> str:
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 180:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 3 * 3600 else f"{seconds / 3600:.1f} h"
