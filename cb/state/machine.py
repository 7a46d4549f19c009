"""The state machine.

    CLOSED --(a strategy is met)--> OPEN --(its time is up, a call comes)--> HALF_OPEN --(enough successes)--> CLOSED
                                     ^                                          |
                                     +---(success out of reach, or no verdict)--+

    any state --(an operator)--> FORCED_OPEN, DISABLED or METRICS_ONLY --(it expires, or an operator)--> back

It performs no I/O, owns no clock and keeps nothing: all it knows lies in the row. Only `_enter` changes the state.
"""

import random
from collections.abc import Callable

from cb.config import BreakerConfig, nanoseconds
from cb.events import Event, Reclaimed, StateChange, WouldOpen
from cb.ledger import layout as at
from cb.ledger.layout import generation_of, state_of
from cb.ledger.record import MAX_EXTRA_PERMITS, Record
from cb.ledger.time_bounds import HALT, open_seconds
from cb.states import ADMITTING, CODES, HELD, Outcome, State

from .window import Probes, WindowStats, read, slice_end

# Not what `random` itself draws from: a breaker must not disturb a program that has seeded it.
_chance = random.SystemRandom()


class StateMachine:
    """The transitions of one row. Its caller holds the ledger lock, except for `evaluate_window` and `verdict`."""

    def __init__(self, name: str, row: Record, config: BreakerConfig, wall_clock: Callable[[], int]) -> None:
        self.name = name
        #: the thresholds; replaced when they change in the ledger
        self.config = config
        self._row = row
        self._head = row.head
        self._wall_clock = wall_clock

    def evaluate_window(self, now: int) -> WindowStats:
        """Read the tallies, and note in the row whether a quick success may be counted without looking."""
        head, word = self._head, self._head[at.WORD]
        # A ticket, which a failure that comes meanwhile takes away, and which means nothing if this process is stopped.
        ticket = head[at.QUIET] = word if head[at.QUIET] == word else -now
        reading = read(self._row, self.config, now)
        if reading.hung:
            head[at.STREAK_ACTIVE] = 1
        if reading.window.failures or reading.window.slow:
            head[at.QUIET] = 0
        elif head[at.QUIET] == ticket:
            head[at.QUIET] = word
        if head[at.STREAK_ACTIVE]:  # looked at last: a failure sets it before it takes the ticket away
            head[at.QUIET] = 0
        if reading.window.requests >= self.config.minimum_requests:
            # Until the oldest slice leaves the window, a quick success can only lower both rates.
            head[at.QUIET_UNTIL] = slice_end(self._row, now)
        else:
            head[at.QUIET_UNTIL] = 0
        return reading

    def record_outcome(self, outcome: Outcome, slow: bool, now: int) -> bool:
        """Note an outcome that was counted. Return whether the state may have to change.

        A success may open a circuit too, when it completes the minimum of calls.
        """
        head, state = self._head, state_of(self._head[at.WORD])
        if outcome is Outcome.FAILURE:
            head[at.STREAK_ACTIVE] = 1
        elif state is not State.HALF_OPEN and head[at.STREAK_ACTIVE]:
            # Cleared first: a failure that counts in the new streak sets it after this. The time makes the number
            # unique where two processes come here at once.
            head[at.STREAK_ACTIVE] = 0
            head[at.STREAK] = max(head[at.STREAK] + 1, now)
        if state is State.HALF_OPEN or outcome is Outcome.FAILURE or slow:
            head[at.QUIET] = 0
            return True
        return head[at.QUIET] != head[at.WORD] and now >= head[at.QUIET_UNTIL]

    def verdict(self, reading: WindowStats, now: int) -> tuple[State, str] | None:
        """Return the state that follows, and why; None if the present one stays."""
        state, until = state_of(self._head[at.WORD]), self._head[at.UNTIL]
        if self._row.fleet_controlled(now):
            return None
        if state is State.CLOSED:
            return (State.OPEN, reason) if (reason := self.trip_reason(reading)) else None
        if state is State.HALF_OPEN:
            return self.half_open_verdict(reading.probes, over=now >= until)
        if state in HELD and until and now >= until:
            back = State.HALF_OPEN if state is State.FORCED_OPEN else State.CLOSED
            return back, f"{state} has expired"
        return None

    def half_open_verdict(self, probes: Probes, *, over: bool) -> tuple[State, str] | None:
        """Return what follows from the probes of a round, which may be over; None if that is open still."""
        config = self.config
        if probes.successes >= config.success_threshold:
            return State.CLOSED, f"{probes.successes} probes succeeded"
        if config.max_requests - probes.failures < config.success_threshold:
            return State.OPEN, f"{probes.failures} of {config.max_requests} probes failed"
        return (State.OPEN, f"no verdict in {config.half_open_max_duration:g} s") if over else None

    def evaluate(self, now: int) -> list[Event]:
        """Make the change of state that the recorded outcomes and the time demand."""
        reading = self.evaluate_window(now)
        events: list[Event] = []
        if verdict := self.verdict(reading, now):
            if reading.probes.overdue:
                events.append(Reclaimed(self.name, reading.probes.overdue))
            events.append(self._enter(verdict[0], now, verdict[1]))
        elif self.shadow_moves(reading):
            self._head[at.WOULD_OPEN] = 1 - self._head[at.WOULD_OPEN]
            events.append(WouldOpen(self.name, self.trip_reason(reading)))
        return events

    def shadow_moves(self, reading: WindowStats) -> bool:
        """Return whether a circuit that only measures would open now, or close again."""
        measures = state_of(self._head[at.WORD]) is State.METRICS_ONLY
        return measures and bool(self.trip_reason(reading)) != bool(self._head[at.WOULD_OPEN])

    def admit(self, now: int) -> tuple[bool, list[Event]]:
        """Return whether a call may run, and what changed on the way there. A probe's tally then takes the permit."""
        head, events = self._head, self.evaluate(now)
        fleet_controlled = self._row.fleet_controlled(now)
        if state_of(head[at.WORD]) is State.OPEN and now >= head[at.UNTIL] and not fleet_controlled:
            events.append(self._enter(State.HALF_OPEN, now, "time to try again"))
        state = state_of(head[at.WORD])
        if state is State.HALF_OPEN:
            admitted = read(self._row, self.config, now).probes.taken < self._row.permits(self.config, now)
        else:
            admitted = state in ADMITTING
        if not admitted and state in (State.OPEN, State.HALF_OPEN):
            head[at.NO_PERMIT_UNTIL], head[at.NO_PERMIT] = now + HALT, head[at.WORD]
            if fleet_controlled:
                self._row.request_probe()  # no call waits for the answer
        return admitted, events

    def widen(self, word: int) -> bool:
        """Let the round of a probe admit one more, because a call within the probe needed a permit of its own.

        Return False if it has done so too often. Else the probe may give its permit back without a vote.
        """
        if generation_of(self._head[at.WORD]) == generation_of(word):
            if self._head[at.EXTRA_PERMITS] >= MAX_EXTRA_PERMITS:
                return False
            self._head[at.EXTRA_PERMITS] += 1
        return True

    def command(self, state: State, now: int, reason: str, seconds: float | None) -> StateChange:
        """Enter a state because an operator says so; a held state ends after `seconds`, None holds it."""
        return self._enter(state, now, reason, until=now + nanoseconds(seconds) if seconds else 0)

    def follow(self, state: State, now: int, reason: str, until: int, rounds: int) -> StateChange:
        """Enter a state because it is the fleet's. CLOSED is not led: then each host may open for itself."""
        change = self._enter(state, now, reason, until=until)
        self._head[at.ROUNDS] = rounds
        self._head[at.FLEET_CONTROLLED] = state is not State.CLOSED
        return change

    def open_time(self, rounds: int, now: int) -> int:
        """Return how long the circuit stays open after that many failed rounds, in nanoseconds from now."""
        seconds = open_seconds(self.config, rounds)
        seconds *= 1 + _chance.random() * self.config.timeout_jitter  # spreads hosts
        asked = min(self._head[at.RETRY_AT] - now, nanoseconds(self.config.timeout_max))
        return max(nanoseconds(seconds), asked)

    def trip_reason(self, reading: WindowStats) -> str | None:
        """Return why a closed circuit must open, None if it need not."""
        config, window = self.config, reading.window
        if config.failure_threshold and reading.streak >= config.failure_threshold:
            return f"{reading.streak} consecutive failures"
        if window.requests < config.minimum_requests:
            return None
        if config.failure_rate_threshold and window.failure_rate >= config.failure_rate_threshold:
            return f"{window.failures} of {window.requests} calls failed"
        if config.slow_call_rate_threshold and window.slow_call_rate >= config.slow_call_rate_threshold:
            return f"{window.slow} of {window.requests} calls were slow"
        return None

    def _enter(self, state: State, now: int, reason: str, until: int | None = None) -> StateChange:
        head, config, word = self._head, self.config, self._head[at.WORD]
        change = StateChange(self.name, state_of(word), state, generation_of(word) + 1, reason)
        if state is State.OPEN:
            if change.before is State.HALF_OPEN:
                head[at.ROUNDS] += 1
            until = now + self.open_time(head[at.ROUNDS], now) if until is None else until
        elif state is State.HALF_OPEN:
            until = now + nanoseconds(config.half_open_max_duration) if until is None else until
        else:
            head[at.ORIGIN] = max(head[at.ORIGIN], now) + 1  # after the begin of every slice there has been
            head[at.ROUNDS] = head[at.RETRY_AT] = head[at.STREAK_ACTIVE] = head[at.WOULD_OPEN] = 0
            head[at.STREAK] = max(head[at.STREAK] + 1, now)
        head[at.SINCE], head[at.UNTIL], head[at.FLEET_CONTROLLED] = now, until or 0, 0
        head[at.QUIET] = head[at.QUIET_UNTIL] = head[at.EXTRA_PERMITS] = 0
        at.put_text(head, at.REASON, at.REASON_CELLS, reason)
        head[at.CHANGES + CODES[change.before] * 8 + CODES[state]] += 1
        change = self._row.log(change, self._wall_clock())
        # Last, so that a process killed in the middle leaves the old state, which then only changes a little later.
        version = word & 0xFFF8
        head[at.WORD] = change.generation << 16 | version | CODES[state]
        return change
