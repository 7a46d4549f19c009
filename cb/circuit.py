"""The state machine.

    CLOSED --(a strategy is met)--> OPEN --(its time is up, a call comes)--> HALF_OPEN --(enough successes)--> CLOSED
                                     ^                                          |
                                     +---(success out of reach, or no verdict)--+

It performs no I/O, owns no clock and keeps nothing: all it knows lies in the row. Only `_enter` changes the state.
"""

import random

from . import layout as at
from . import window
from .config import BreakerConfig
from .events import StateChange
from .layout import CODES, STATES, State
from .row import Row

SECOND = 1_000_000_000


class Circuit:
    """The transitions of one row. Its caller holds the ledger lock, except for `verdict`, which decides nothing."""

    def __init__(self, name: str, row: Row, config: BreakerConfig) -> None:
        self.name = name
        self.config = config
        self._row = row
        self._head = row.head

    def verdict(self, now: int) -> tuple[State, str] | None:
        """Return the state that the recorded outcomes demand, and why; None if the present one stays."""
        state, config = STATES[self._head[at.WORD] & 7], self.config
        if state is State.CLOSED:
            failures = window.streak(self._row) if config.failure_threshold else 0
            if config.failure_threshold and failures >= config.failure_threshold:
                return State.OPEN, f"{failures} consecutive failures"
            # ALERT is cleared before the window is read: a failure that comes meanwhile sets it again.
            self._head[at.ALERT] = 0
            seen = window.counts(self._row, now)
            if seen.failures or seen.slow:
                self._head[at.ALERT] = 1
            if seen.requests < config.minimum_requests:
                return None
            if config.failure_rate_threshold and seen.failure_rate >= config.failure_rate_threshold:
                return State.OPEN, f"{seen.failures} of {seen.requests} calls failed"
            if config.slow_call_rate_threshold and seen.slow_call_rate >= config.slow_call_rate_threshold:
                return State.OPEN, f"{seen.slow} of {seen.requests} calls were slow"
            # Until the oldest slice leaves the window, a quick success can only lower both rates.
            self._head[at.CALM_UNTIL] = window.slice_end(self._row, now)
        elif state is State.HALF_OPEN:
            successes, failures, _ = window.probes(self._row, self._head[at.WORD] >> 3)
            if successes >= config.success_threshold:
                return State.CLOSED, f"{successes} probes succeeded"
            if config.max_requests - failures < config.success_threshold:
                return State.OPEN, f"{failures} of {config.max_requests} probes failed"
            if now >= self._head[at.UNTIL]:
                return State.OPEN, f"no verdict in {config.half_open_max_duration:g} s"
        return None

    def evaluate(self, now: int) -> StateChange | None:
        """Change the state if the recorded outcomes demand it."""
        verdict = self.verdict(now)
        return self._enter(verdict[0], now, verdict[1]) if verdict else None

    def admit_probe(self, now: int) -> tuple[bool, list[StateChange]]:
        """Return whether a call may run as a probe, and what changed on the way there. Counts its permit."""
        changes = []
        if change := self.evaluate(now):
            changes.append(change)
        if self._head[at.WORD] & 7 == CODES[State.OPEN] and now >= self._head[at.UNTIL]:
            changes.append(self._enter(State.HALF_OPEN, now, "time to try again"))
        generation, state = self._head[at.WORD] >> 3, STATES[self._head[at.WORD] & 7]
        if state is not State.HALF_OPEN:
            return state is State.CLOSED, changes
        _, _, returned = window.probes(self._row, generation)
        if self._head[at.PROBES] - returned >= self.config.max_requests:
            return False, changes
        self._head[at.PROBES] += 1
        return True, changes

    def _enter(self, state: State, now: int, reason: str) -> StateChange:
        head, config = self._head, self.config
        before, generation = STATES[head[at.WORD] & 7], (head[at.WORD] >> 3) + 1
        if state is State.OPEN:
            if before is State.HALF_OPEN:
                head[at.ROUNDS] += 1
            # The exponent is bounded because a float is: timeout_max is reached long before.
            seconds = min(config.timeout * config.timeout_multiplier ** min(head[at.ROUNDS], 64), config.timeout_max)
            seconds *= 1 + random.random() * config.timeout_jitter
            asked = min(head[at.RETRY_AT], now + int(config.timeout_max * SECOND))
            head[at.UNTIL] = max(now + int(seconds * SECOND), asked)
        elif state is State.HALF_OPEN:
            head[at.PROBES] = 0
            head[at.UNTIL] = now + int(config.half_open_max_duration * SECOND)
        else:
            head[at.ORIGIN] = now + 1  # after the begin of every slice there has been
            head[at.ROUNDS] = head[at.RETRY_AT] = head[at.CALM_UNTIL] = 0
            head[at.STREAK] += 1
        head[at.SINCE] = now
        at.put_text(head, at.REASON, at.REASON_CELLS, reason)
        head[at.CHANGES + CODES[before] * 8 + CODES[state]] += 1
        # Last, so that a process killed in the middle leaves the old state, which then only changes a little later.
        head[at.WORD] = generation << 3 | CODES[state]
        return StateChange(self.name, before, state, generation, reason)
