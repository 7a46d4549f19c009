"""Health of a dependency, kept in the head of its breaker's record: one process writes it, all processes read it."""

from dataclasses import dataclass

from .ledger import layout as at

_NS = 1e9
_UP, _DOWN = 1, 2


@dataclass(frozen=True, slots=True)
class Health:
    """Result of the latest health checks of a dependency."""

    #: True if the dependency is up; None if the latest check is too old to tell
    up: bool | None
    #: seconds for which all checks have had the same result
    age: float
    #: seconds since the latest check ended
    ago: float
    #: duration of the latest check, in seconds
    took: float


def read_health(head: memoryview, now: int) -> Health | None:
    """Return the health of a dependency; None if there never was a check."""
    found, since, ended, took, until = head[at.HEALTH : at.HEALTH_UNTIL + 1].tolist()
    if not ended:
        return None
    up = found == _UP if now < until else None
    return Health(up, max(now - since, 0) / _NS, max(now - ended, 0) / _NS, took / _NS)


def write_health(head: memoryview, up: bool, now: int, *, took: int, valid: int) -> bool:
    """Record the result of a check, valid for `valid` nanoseconds. Return True if it differs from the one before."""
    found = _UP if up else _DOWN
    changed = head[at.HEALTH] != found
    if changed:
        head[at.HEALTH_SINCE], head[at.HEALTH] = now, found
    # HEALTH_AT is last: a reader may see a new result with the age of the old one, but never the reverse.
    head[at.HEALTH_TOOK], head[at.HEALTH_UNTIL], head[at.HEALTH_AT] = took, now + valid, now
    return changed
