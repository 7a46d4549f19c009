"""The times of a row that lie ahead: until when a call waits, and how far ahead each of them may lie.

A ledger may outlive the clock that its times were taken from, and a file may be damaged. A time further ahead than the
thresholds in force allow would hold a circuit, its window or its health checks for as long: it is set back.
"""

import math
from dataclasses import dataclass

from cb.config import BreakerConfig, nanoseconds
from cb.states import ADMITTING, HELD, State

from . import layout as at
from .layout import state_of

#: seconds for which an operator may hold a circuit
LONGEST_HOLD = 30 * 86_400
#: seconds for which calls leave the probes to a monitor that says nothing more; longer than a check takes
LONGEST_RESERVATION = 10.0
#: nanoseconds for which calls are refused without another look at the permits, unless one comes back
HALT = 10_000_000
#: seconds after which a refused call may try again where a permit can come back, or a probe can succeed, at any moment
SOON = 1.0
#: seconds from one sign of life of a fleet until its circuits are the host's again
FLEET_LEASE = 2.0
#: nanoseconds by which times differ that are taken before and after a wait for the lock
_TOLERANCE = 1_000_000_000
_NEWEST_CHECK = nanoseconds(3 * 3600)  # three intervals of a monitor


@dataclass(frozen=True, slots=True)
class Deadlines:
    """The times of a row under the thresholds in force."""

    #: the thresholds
    config: BreakerConfig
    #: nanoseconds that UNTIL may lie ahead, by state
    until: dict[State, int]
    #: nanoseconds that other cells may lie ahead
    ahead: tuple[tuple[int, int], ...]
    #: the longest that a call waits for a permit, in nanoseconds
    soon: int

    @classmethod
    def of(cls, config: BreakerConfig, slice_length: int) -> "Deadlines":
        """Return the deadlines that some thresholds allow."""
        round_end = nanoseconds(config.half_open_max_duration)
        until = dict.fromkeys(HELD, nanoseconds(LONGEST_HOLD))
        until |= {State.CLOSED: 0, State.HALF_OPEN: round_end, State.OPEN: longest_open(config)}
        ahead = {
            at.SINCE: 0,
            at.ORIGIN: 0,
            at.STREAK: 0,
            at.QUIET_UNTIL: slice_length,
            at.RETRY_AT: nanoseconds(config.timeout_max),
            at.NO_PERMIT_UNTIL: HALT,
            at.HEALTH_SINCE: 0,
            at.HEALTH_AT: 0,
            at.HEALTH_UNTIL: _NEWEST_CHECK,
            at.PROBER_UNTIL: nanoseconds(LONGEST_RESERVATION),
        }
        soon = min(nanoseconds(SOON), nanoseconds(config.permit_timeout))
        return cls(config, until, tuple(ahead.items()), soon)

    def hold(self, head: memoryview, now: int) -> bool:
        """Return whether no time of a row lies further ahead than it may. Reads only."""
        now += _TOLERANCE
        if head[at.UNTIL] > now + self.until[state_of(head[at.WORD])]:
            return False
        return all(head[cell] <= now + ahead for cell, ahead in self.ahead)

    def restore_locked(self, head: memoryview, now: int) -> None:
        """Set times back that lie too far ahead. Caller holds the ledger lock, and has taken the time since."""
        since, until, longest = head[at.SINCE], head[at.UNTIL], self.until[state_of(head[at.WORD])]
        if since > now + _TOLERANCE and until:  # another clock's: what was left then is left now
            until = now + max(until - since, 0)
        head[at.UNTIL] = min(until, now + longest)
        if head[at.HEALTH_AT] > now + _TOLERANCE:
            head[at.HEALTH_UNTIL] = now  # nobody knows when that check was
        for cell, ahead in self.ahead:
            if head[cell] > now + ahead + _TOLERANCE:
                head[cell] = now + ahead

    def left(self, head: memoryview, now: int) -> int:
        """Return the nanoseconds until the state may change by time alone."""
        return min(max(head[at.UNTIL] - now, 0), self.until[state_of(head[at.WORD])])

    def wait(self, head: memoryview, now: int, *, free: bool) -> int | None:
        """Return the nanoseconds until a call may be admitted, None if an operator holds the circuit open for good.

        `free` is whether a circuit that tries again has a permit for a call. Where it has none, a permit may come back
        at any moment, or the probes close the circuit: that is soon, and no longer than the round lasts.
        """
        state, left = state_of(head[at.WORD]), self.left(head, now)
        if state in ADMITTING:
            return 0
        if state is State.FORCED_OPEN and not head[at.UNTIL]:
            return None
        if state is not State.HALF_OPEN:
            if left:
                return left
            left = self.soon
        elif not left:  # the next call ends the round, and is refused
            return nanoseconds(open_seconds(self.config, head[at.ROUNDS] + 1))
        reserved = head[at.PROBER_UNTIL] - now
        if reserved > 0:
            return min(self.soon, left, reserved)
        return 0 if free else min(self.soon, left)


def lease_active(until: int, now: int) -> bool:
    """Return whether a fleet that leads until then, by what its host's agent has noted, leads now."""
    return 0 < until - now <= nanoseconds(FLEET_LEASE) + _TOLERANCE


def longest_open(config: BreakerConfig) -> int:
    """Return the longest that a circuit stays open, in nanoseconds."""
    return nanoseconds(config.timeout_max * (1 + config.timeout_jitter))


def open_seconds(config: BreakerConfig, failed_rounds: int) -> float:
    """Return how long a circuit stays open after that many failed rounds, without jitter."""
    # Compared as logarithms, because the power itself may be larger than any float.
    growth = failed_rounds * math.log(config.timeout_multiplier)
    if growth >= math.log(config.timeout_max / config.timeout):
        return config.timeout_max
    return config.timeout * config.timeout_multiplier**failed_rounds
