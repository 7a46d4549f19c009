"""What is known of a dependency's health, in the head of its breaker's row: one process writes it, all read it."""

from dataclasses import dataclass

from .ledger import layout as at

_NS = 1e9
_UP, _DOWN = 1, 2


@dataclass(frozen=True, slots=True)
class Health:
    """What checks have found out."""

    #: None if the last check is so long ago that nobody knows
    up: bool | None
    #: seconds for which all checks have found the same
    age: float
    #: seconds since the last check ended
    ago: float
    #: seconds that it took
    took: float


def read(head: memoryview, now: int) -> Health | None:
    """Return what is known, None if nobody has ever checked."""
    found, since, ended, took, until = head[at.HEALTH : at.HEALTH_UNTIL + 1].tolist()
    if not ended:
        return None
    up = found == _UP if now < until else None
    return Health(up, max(now - since, 0) / _NS, max(now - ended, 0) / _NS, took / _NS)


def write(head: memoryview, up: bool, now: int, *, took: int, valid: int) -> bool:
    """Note what a check has just found, for so many nanoseconds. Return whether it is another health than before."""
    found = _UP if up else _DOWN
    changed = head[at.HEALTH] != found
    if changed:
        head[at.HEALTH_SINCE], head[at.HEALTH] = now, found
    # Last: a reader may see a new health with the age of the old one, but never an old one as if it were new.
    head[at.HEALTH_TOOK], head[at.HEALTH_UNTIL], head[at.HEALTH_AT] = took, now + valid, now
    return changed
