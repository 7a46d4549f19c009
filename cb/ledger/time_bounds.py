"""Bounds of the times in a record, and the wait until a call may be admitted.

A ledger may outlive the clock of its times, and a file may be damaged. A time further ahead than the thresholds in
force allow would stop a circuit, its window or its health checks for as long: it is set back.
"""

import math
from dataclasses import dataclass

from cb.config import BreakerConfig, nanoseconds
from cb.states import ADMITTING, HELD, State

from . import layout as at
from .layout import state_of

#: longest duration of an operator's state, in seconds
MAX_HOLD_SECONDS = 30 * 86_400
#: longest time for which a monitor reserves the probes, in seconds; longer than a check takes
MAX_RESERVATION_SECONDS = 10.0
#: nanoseconds for which calls are rejected without another look at the permits, unless one is returned
NO_PERMIT_TTL_NS = 10_000_000
#: seconds after which a rejected call may try again where a permit may be returned, or a probe succeed, at any moment
PERMIT_WAIT_SECONDS = 1.0
#: seconds after the last contact with a fleet until the host controls its circuits again
FLEET_LEASE_SECONDS = 2.0
#: nanoseconds by which times differ that are read before and after a wait for the lock
_TOLERANCE = 1_000_000_000
_NEWEST_CHECK = nanoseconds(3 * 3600)  # three intervals of a monitor


@dataclass(frozen=True, slots=True)
class Deadlines:
    """The bounds of a record's times under the thresholds in force."""

    #: the thresholds
    config: BreakerConfig
    #: nanoseconds by which UNTIL may be ahead, by state
    until: dict[State, int]
    #: nanoseconds by which other cells may be ahead
    ahead: tuple[tuple[int, int], ...]
    #: the longest that a call waits for a permit, in nanoseconds
    soon: int

    @classmethod
    def of(cls, config: BreakerConfig, slice_length: int) -> "Deadlines":
        """Return the bounds for a configuration."""
        round_end = nanoseconds(config.half_open_max_duration)
        until = dict.fromkeys(HELD, nanoseconds(MAX_HOLD_SECONDS))
        until |= {State.CLOSED: 0, State.HALF_OPEN: round_end, State.OPEN: longest_open(config)}
        ahead = {
            at.SINCE: 0,
            at.ORIGIN: 0,
            at.STREAK: 0,
            at.QUIET_UNTIL: slice_length,
            at.RETRY_AT: nanoseconds(config.timeout_max),
            at.NO_PERMIT_UNTIL: NO_PERMIT_TTL_NS,
            at.HEALTH_SINCE: 0,
            at.HEALTH_AT: 0,
            at.HEALTH_UNTIL: _NEWEST_CHECK,
            at.PROBER_UNTIL: nanoseconds(MAX_RESERVATION_SECONDS),
        }
        soon = min(nanoseconds(PERMIT_WAIT_SECONDS), nanoseconds(config.permit_timeout))
        return cls(config, until, tuple(ahead.items()), soon)

    def within_bounds(self, head: memoryview, now: int) -> bool:
        """Return True if no time of a record exceeds its bound. Reads only."""
        now += _TOLERANCE
        if head[at.UNTIL] > now + self.until[state_of(head[at.WORD])]:
            return False
        return all(head[cell] <= now + ahead for cell, ahead in self.ahead)

    def restore_locked(self, head: memoryview, now: int) -> None:
        """Set back the times that exceed their bounds. Caller acquired the ledger lock before it read the time."""
        since, until, longest = head[at.SINCE], head[at.UNTIL], self.until[state_of(head[at.WORD])]
        if since > now + _TOLERANCE and until:  # another clock's: the time that was left then is left now
            until = now + max(until - since, 0)
        head[at.UNTIL] = min(until, now + longest)
        if head[at.HEALTH_AT] > now + _TOLERANCE:
            head[at.HEALTH_UNTIL] = now  # the time of that check is unknown
        for cell, ahead in self.ahead:
            if head[cell] > now + ahead + _TOLERANCE:
                head[cell] = now + ahead

    def left(self, head: memoryview, now: int) -> int:
        """Return the nanoseconds until the state may change by time alone."""
        return min(max(head[at.UNTIL] - now, 0), self.until[state_of(head[at.WORD])])

    def wait(self, head: memoryview, now: int, *, free: bool) -> int | None:
        """Return the nanoseconds until a call may be admitted, None if an operator holds the circuit open for good.

        `free` is True if a half-open circuit has a permit for a call. If it has none, a permit may be returned
        at any moment, or the probes close the circuit: the wait is `soon`, at most the rest of the round.
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
        elif not left:  # the next call ends the round, and is rejected
            return nanoseconds(open_seconds(self.config, head[at.ROUNDS] + 1))
        reserved = head[at.PROBER_UNTIL] - now
        if reserved > 0:
            return min(self.soon, left, reserved)
        return 0 if free else min(self.soon, left)


def lease_active(until: int, now: int) -> bool:
    """Return True if a fleet's lease, as its host's agent has noted it, is valid now."""
    return 0 < until - now <= nanoseconds(FLEET_LEASE_SECONDS) + _TOLERANCE


def longest_open(config: BreakerConfig) -> int:
    """Return the longest that a circuit stays open, in nanoseconds."""
    return nanoseconds(config.timeout_max * (1 + config.timeout_jitter))


def open_seconds(config: BreakerConfig, failed_rounds: int) -> float:
    """Return the seconds for which a circuit stays open after a number of failed rounds, without jitter."""
    # Compared as logarithms, because the power itself may be larger than any float.
    growth = failed_rounds * math.log(config.timeout_multiplier)
    if growth >= math.log(config.timeout_max / config.timeout):
        return config.timeout_max
    return config.timeout * config.timeout_multiplier**failed_rounds
