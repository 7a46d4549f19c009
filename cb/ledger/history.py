"""The latest transitions of all breakers of a ledger: a ring in its header."""

from collections.abc import Callable
from dataclasses import replace

from cb.events import StateChange
from cb.states import CODES, STATES

from . import layout as at


def write_transition(header: memoryview, index: int, change: StateChange, wall: int) -> StateChange:
    """Append a transition, and return it with its number and time. The caller holds the ledger lock.

    `wall` is in nanoseconds since the epoch.
    """
    number = header[at.H_EVENTS] + 1
    start = at.PAGE + number % at.EVENTS * at.EVENT_CELLS
    header[start + at.E_NUMBER] = 0  # a reader skips the entry until its number is written, last
    header[start + at.E_TIME] = wall
    header[start + at.E_RECORD] = index
    header[start + at.E_STATES] = CODES[change.before] * 8 + CODES[change.after]
    header[start + at.E_GENERATION] = change.generation
    at.put_text(header, start + at.E_REASON, at.E_REASON_CELLS, change.reason)
    header[start + at.E_NUMBER] = number
    header[at.H_EVENTS] = number
    return replace(change, number=number, at=wall / 1e9)


def read_transitions(header: memoryview, names: Callable[[int], str], since: int) -> list[StateChange]:
    """Return the transitions in the ring after number `since`, oldest first. `names` returns the name in a record."""
    last, found = header[at.H_EVENTS], []
    for number in range(max(since, last - at.EVENTS, 0) + 1, last + 1):
        start = at.PAGE + number % at.EVENTS * at.EVENT_CELLS
        event = header[start : start + at.EVENT_CELLS]
        before, after = divmod(event[at.E_STATES], 8)
        if not (0 <= before < len(STATES) and after < len(STATES) and 0 <= event[at.E_RECORD] < header[at.H_RECORDS]):
            continue  # overwritten by another program
        transition = StateChange(
            number=number,
            at=event[at.E_TIME] / 1e9,
            name=names(event[at.E_RECORD]),
            before=STATES[before],
            after=STATES[after],
            generation=event[at.E_GENERATION],
            reason=at.get_text(event, at.E_REASON, at.E_REASON_CELLS),
        )
        if event[at.E_NUMBER] == number:  # otherwise a newer transition has overwritten it meanwhile
            found.append(transition)
    return found
