"""The state machine.

    CLOSED --(a strategy is met)--> OPEN --(its time is up, a call comes)--> HALF_OPEN --(enough successes)--> CLOSED
                                     ^                                          |
                                     +---(success out of reach, or no verdict)--+

    any state --(an operator)--> FORCED_OPEN, DISABLED or METRICS_ONLY --(it expires, or an operator)--> back

It performs no I/O and has no clock and no state of its own: the state is in the record. Only `_enter` changes it.
"""

from collections.abc import Callable

from cb.clocks import spread
from cb.config import BreakerConfig, nanoseconds
from cb.events import Event, Reclaimed, StateChange, WouldOpen
from cb.failures import CALL_TIMEOUT, PROBE_TIMEOUT, UNFINISHED, LastFailure
from cb.ledger import layout as at
from cb.ledger.last_failure import Worker, read_last_failure, write_last_failure
from cb.ledger.layout import generation_of, state_of
from cb.ledger.record import MAX_EXTRA_PERMITS, Record
from cb.ledger.time_bounds import NO_PERMIT_TTL_NS, open_seconds
from cb.states import ADMITTING, CODES, HELD, Outcome, State, counted

from .window import Probes, WindowStats, overdue_call, read, slice_end


class StateMachine:
    """Transitions of one circuit. Callers hold the ledger lock, except for `evaluate_window` and `verdict`."""

    def __init__(self, name: str, record: Record, config: BreakerConfig, wall_clock: Callable[[], int]) -> None:
        self.name = name
        #: the thresholds; replaced when they change in the ledger
        self.config = config
        self._record = record
        self._head = record.head
        self._wall_clock = wall_clock

    def evaluate_window(self, now: int) -> WindowStats:
        """Sum the window, and note in the record whether a quick success can change the state."""
        head, word = self._head, self._head[at.WORD]
        # A ticket. A failure that is counted meanwhile clears it, and it has no effect if this process is stopped.
        ticket = head[at.QUIET] = word if head[at.QUIET] == word else -now
        stats = read(self._record, self.config, now)
        if stats.hung:
            head[at.STREAK_ACTIVE] = 1
        if stats.window.failures or stats.window.slow:
            head[at.QUIET] = 0
        elif head[at.QUIET] == ticket:
            head[at.QUIET] = word
        if head[at.STREAK_ACTIVE]:  # read last: a failure sets it before it clears the ticket
            head[at.QUIET] = 0
        if stats.window.requests >= self.config.minimum_requests:
            # Until the oldest slice leaves the window, a quick success can only lower both rates.
            head[at.QUIET_UNTIL] = slice_end(self._record, now)
        else:
            head[at.QUIET_UNTIL] = 0
        return stats

    def record_outcome(self, outcome: Outcome, slow: bool, now: int) -> bool:
        """Record an outcome that was counted. Return True if the state may have to change.

        A success can open a circuit too: the one that completes the minimum of calls.
        """
        head, state = self._head, state_of(self._head[at.WORD])
        if outcome is Outcome.FAILURE:
            head[at.STREAK_ACTIVE] = 1
        elif state is not State.HALF_OPEN and head[at.STREAK_ACTIVE]:
            # Cleared first: a failure of the new streak sets it after this. The time makes the number unique when two
            # processes do this at once.
            head[at.STREAK_ACTIVE] = 0
            head[at.STREAK] = max(head[at.STREAK] + 1, now)
        if state is State.HALF_OPEN or outcome is Outcome.FAILURE or slow:
            head[at.QUIET] = 0
            return True
        return head[at.QUIET] != head[at.WORD] and now >= head[at.QUIET_UNTIL]

    def verdict(self, stats: WindowStats, now: int) -> tuple[State, str] | None:
        """Return the next state and the reason; None if the state stays."""
        state, until = state_of(self._head[at.WORD]), self._head[at.UNTIL]
        if self._record.fleet_controlled(now):
            return None
        if state is State.CLOSED:
            return (State.OPEN, reason) if (reason := self.trip_reason(stats)) else None
        if state is State.HALF_OPEN:
            return self.half_open_verdict(stats.probes, over=now >= until)
        if state in HELD and until and now >= until:
            back = State.HALF_OPEN if state is State.FORCED_OPEN else State.CLOSED
            return back, f"{state} has expired"
        return None

    def half_open_verdict(self, probes: Probes, *, over: bool) -> tuple[State, str] | None:
        """Return the next state and the reason after the probes of a round; None before the round is decided."""
        config = self.config
        if probes.successes >= config.success_threshold:
            return State.CLOSED, f"{counted(probes.successes, 'probe')} succeeded"
        if config.max_requests - probes.failures < config.success_threshold:
            return State.OPEN, f"{probes.failures} of {counted(config.max_requests, 'probe')} failed"
        return (State.OPEN, f"no verdict in {config.half_open_max_duration:g} s") if over else None

    def evaluate(self, now: int) -> list[Event]:
        """Change the state if the recorded outcomes or the time demand it. Return the events."""
        stats = self.evaluate_window(now)
        events: list[Event] = []
        if verdict := self.verdict(stats, now):
            if stats.probes.overdue:
                events.append(Reclaimed(self.name, stats.probes.overdue, self._overdue_reason()))
            if verdict[0] is State.OPEN:
                self._note_overdue(now)
            events.append(self._enter(verdict[0], now, verdict[1], stats=stats))
        elif self.would_open_changes(stats):
            self._head[at.WOULD_OPEN] = 1 - self._head[at.WOULD_OPEN]
            events.append(WouldOpen(self.name, self.trip_reason(stats)))
        return events

    def would_open_changes(self, stats: WindowStats) -> bool:
        """Return True if a METRICS_ONLY circuit would open now, or would close again."""
        measures = state_of(self._head[at.WORD]) is State.METRICS_ONLY
        return measures and bool(self.trip_reason(stats)) != bool(self._head[at.WOULD_OPEN])

    def admit(self, now: int) -> tuple[bool, list[Event]]:
        """Return True if a call may run, and the events. The counters of a probe then take the permit."""
        head, events = self._head, self.evaluate(now)
        fleet_controlled = self._record.fleet_controlled(now)
        if state_of(head[at.WORD]) is State.OPEN and now >= head[at.UNTIL] and not fleet_controlled:
            events.append(self._enter(State.HALF_OPEN, now, "time to try again"))
        state = state_of(head[at.WORD])
        if state is State.HALF_OPEN:
            admitted = read(self._record, self.config, now).probes.taken < self._record.permits(self.config, now)
        else:
            admitted = state in ADMITTING
        if not admitted and state in (State.OPEN, State.HALF_OPEN):
            head[at.NO_PERMIT_UNTIL], head[at.NO_PERMIT] = now + NO_PERMIT_TTL_NS, head[at.WORD]
            if fleet_controlled:
                self._record.request_probe()  # no call waits for the answer
        return admitted, events

    def add_permit(self, word: int) -> bool:
        """Add a permit to the round of a probe, because a call inside the probe needed one of its own.

        Return False if the round has had its additional permits. Otherwise the probe returns its permit without a vote.
        """
        if generation_of(self._head[at.WORD]) == generation_of(word):
            if self._head[at.EXTRA_PERMITS] >= MAX_EXTRA_PERMITS:
                return False
            self._head[at.EXTRA_PERMITS] += 1
        return True

    def command(self, state: State, now: int, reason: str, seconds: float | None) -> StateChange:
        """Enter a state on an operator's behalf. A held state ends after `seconds`, or lasts until reset if None."""
        stats = read(self._record, self.config, now)
        return self._enter(state, now, reason, until=now + nanoseconds(seconds) if seconds else 0, stats=stats)

    def follow(self, state: State, now: int, reason: str, until: int, rounds: int) -> StateChange:
        """Enter the state of the fleet. It does not control a CLOSED circuit: each host may open its own."""
        change = self._enter(state, now, reason, until=until, stats=read(self._record, self.config, now))
        self._head[at.ROUNDS] = rounds
        self._head[at.FLEET_CONTROLLED] = state is not State.CLOSED
        return change

    def open_time(self, rounds: int, now: int) -> int:
        """Return the nanoseconds for which the circuit stays open after a number of failed rounds."""
        seconds = open_seconds(self.config, rounds)
        seconds = spread(seconds, 1, 1 + self.config.timeout_jitter)
        retry_after = min(self._head[at.RETRY_AT] - now, nanoseconds(self.config.timeout_max))
        return max(nanoseconds(seconds), retry_after)

    def trip_reason(self, stats: WindowStats) -> str | None:
        """Return the reason why a closed circuit must open, None if it stays closed."""
        config, window = self.config, stats.window
        if config.failure_threshold and stats.streak >= config.failure_threshold:
            return counted(stats.streak, "consecutive failure")
        if window.requests < config.minimum_requests:
            return None
        if config.failure_rate_threshold and window.failure_rate >= config.failure_rate_threshold:
            return f"{window.failures} of {counted(window.requests, 'call')} failed"
        if config.slow_call_rate_threshold and window.slow_call_rate >= config.slow_call_rate_threshold:
            return f"{window.slow} of {counted(window.requests, 'call')} {'was' if window.slow == 1 else 'were'} slow"
        return None

    def _overdue_reason(self) -> str:
        return f"no result of a probe after {self.config.permit_timeout:g} s"

    def _note_overdue(self, now: int) -> None:
        """Store the running call that exceeded its limit last as the last failure, unless a later one is stored."""
        found = overdue_call(self._record, self.config, now)
        if found is None:
            return
        when, worker = found
        if state_of(self._head[at.WORD]) is State.HALF_OPEN:
            kind, message = PROBE_TIMEOUT, self._overdue_reason()
        else:
            kind, message = CALL_TIMEOUT, f"a call runs longer than call_timeout, {self.config.call_timeout:g} s"
        write_last_failure(self._head, when, Worker(worker), kind, message=message)

    def _last_failure(self, stats: WindowStats, now: int) -> LastFailure | None:
        """Return the last failure, if failures of the state that is being left lead to the next one."""
        found = read_last_failure(self._head, now)
        failed = stats.streak or stats.window.failures or stats.probes.failures
        return found[1] if found and failed and found[0] >= self._head[at.SINCE] else None

    def _enter(
        self, state: State, now: int, reason: str, *, until: int | None = None, stats: WindowStats | None = None
    ) -> StateChange:
        head, config, word = self._head, self.config, self._head[at.WORD]
        opened = head[at.OPENED_AT]
        failure = self._last_failure(stats, now) if stats and state is State.OPEN else None
        if failure and failure.type in UNFINISHED:  # no exception of the caller's tells of it
            reason = f"{reason}: {failure.message}"
        change = StateChange(
            self.name,
            state_of(word),
            state,
            generation_of(word) + 1,
            reason,
            window=stats.window if stats else None,
            window_seconds=config.interval if stats else None,
            open_seconds=max(now - opened, 0) / 1e9 if opened and state in ADMITTING else None,
            last_failure=failure,
        )
        if state is State.OPEN:
            if change.before is State.HALF_OPEN:
                head[at.ROUNDS] += 1
            until = now + self.open_time(head[at.ROUNDS], now) if until is None else until
        elif state is State.HALF_OPEN:
            until = now + nanoseconds(config.half_open_max_duration) if until is None else until
        else:
            head[at.ORIGIN] = max(head[at.ORIGIN], now) + 1  # after the start of every slice so far
            head[at.ROUNDS] = head[at.RETRY_AT] = head[at.STREAK_ACTIVE] = head[at.WOULD_OPEN] = 0
            head[at.STREAK] = max(head[at.STREAK] + 1, now)
        head[at.SINCE], head[at.UNTIL], head[at.FLEET_CONTROLLED] = now, until or 0, 0
        head[at.OPENED_AT] = 0 if state in ADMITTING else opened or now
        head[at.QUIET] = head[at.QUIET_UNTIL] = head[at.EXTRA_PERMITS] = 0
        at.put_text(head, at.REASON, at.REASON_CELLS, reason)
        head[at.CHANGES + CODES[change.before] * 8 + CODES[state]] += 1
        change = self._record.log(change, self._wall_clock())
        # Last: a process that is killed before this leaves the old state, which the next evaluation changes.
        version = word & 0xFFF8
        head[at.WORD] = change.generation << 16 | version | CODES[state]
        return change
