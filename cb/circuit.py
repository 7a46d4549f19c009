"""One circuit as this process holds it: its record in a ledger, the thresholds in force and the listeners."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress

from .background.event_loop import on_event_loop
from .background.watchdog import WATCHDOG
from .clocks import monotonic_ns, resolve_clock
from .config import BreakerConfig, nanoseconds
from .errors import LedgerBusyError
from .event_log import log_events, log_replaced
from .events import Event, LedgerDegraded, LedgerRestored, Listener, Reclaimed, StateChange, announce
from .ledger import layout as at
from .ledger.core import LOCK_TIMEOUT_SECONDS, LONG_LOCK_TIMEOUT_SECONDS
from .ledger.dead_workers import ended_text
from .ledger.layout import state_of
from .ledger.ledger import Ledger
from .ledger.record import Record
from .ledger.time_bounds import Deadlines
from .state import thresholds
from .state.machine import StateMachine
from .states import HELD, State

#: reason of the state that a new breaker's configuration names
_INITIAL = "initial state"


class Circuit:
    """Internal: the part that a `CircuitBreaker` and its `BreakerControl` share. Successful calls do not enter it.

    Listeners and logging run after the ledger's lock is released.
    """

    def __init__(
        self,
        name: str,
        config: BreakerConfig | None,
        ledger: Ledger,
        *,
        listeners: Iterable[Listener],
        clock: Callable[[], int],
        wall_clock: Callable[[], int],
    ) -> None:
        self.name = name
        self.listeners: list[Listener] = list(listeners)
        clock = resolve_clock(clock)
        self.clock = clock if clock is monotonic_ns else _forward(clock)
        self.wall_clock = wall_clock
        #: the ledger that was passed; see `apart`
        self.ledger = ledger
        #: thresholds that are still to be put in force; the lock was busy
        self._pending: BreakerConfig | None = config
        self._config = config
        self._degraded: str | None = None
        self._unlogged: list[StateChange] = []  # the caller of the constructor may hold a lock
        self._replaced = ""  # thresholds of another process that this one's have replaced; not logged yet
        self._digest = 0  # CONFIG_DIGEST of the thresholds of this process
        self._overruled = (0, False)  # the one that was logged last in its place, and if as a warning
        self._bind(ledger.core.record(name, clock()))
        ledger.core.report()

    def _bind(self, record: Record) -> None:
        """Use a record, of the ledger that was passed or of an in-memory ledger where that one has no room."""
        self.record, self.head = record, record.head
        self._moves = record.remaps
        #: the internals of the ledger that the record is in
        self.core = record.ledger
        config = self._pending = self._config
        in_force = config or thresholds.read(record, BreakerConfig())
        self.machine = StateMachine(self.name, record, in_force, self.wall_clock)
        self._version = -1
        self._digest = thresholds.digest(config) if config else 0
        if config:  # else the thresholds in force stay
            self._adopt(config)
        self.refresh()
        self.check_times(self.clock())

    @property
    def apart(self) -> bool:
        """True while the ledger has no room for the breaker, so that it guards the calls of this process alone."""
        return self.core is not self.ledger.core

    @property
    def state(self) -> State:
        """The state in the ledger."""
        return state_of(self.head[at.WORD])

    @property
    def config(self) -> BreakerConfig:
        """The thresholds in force."""
        self.refresh()
        return self.machine.config

    def __str__(self) -> str:
        """Name, state and scope, for `repr`."""
        state, until = self.state, self.head[at.UNTIL]
        facts = [str(state)]
        if state is State.OPEN:
            facts.append(f"retry in {max(until - self.clock(), 0) / 1e9:.1f} s")
        elif state in HELD:
            facts.append(f"for {max(until - self.clock(), 0) / 1e9:.1f} s" if until else "until reset")
        scope = "fleet" if self.record.fleet_controlled(self.clock()) else self.core.scope
        return f"{self.name!r} {', '.join(facts)}, shared by {scope}"

    def tick(self) -> None:
        """Do the work that no call triggers: count hanging calls, reap dead workers, end a state that has expired.

        The watchdog calls it a few times a second, unless the breaker has a clock of its own.
        """
        now = self.clock()
        self.core.reap(now)  # first: reading a file that was truncated would end this process
        self.core.check(self.record, now)
        self.check_times(now)
        self.record.tick(now)
        self.record.semaphore.verify()
        if self.apart:
            self._return_home(now)
        self.notify_degraded()
        self.core.shards.report_programs(now)
        self.log_replaced()
        self._log_overruled()
        if self._pending:
            self._adopt(self._pending)
        if calls := self.core.reaped(self.record):
            self.notify([Reclaimed(self.name, len(calls), ended_text(calls))])
        if not self.record.only_calls_matter():
            self.evaluate(now)

    def command(self, state: State, reason: str, seconds: float | None, *, host_only: bool) -> StateChange:
        """Enter a state on an operator's behalf. Raises LedgerBusyError."""
        self.core.check(self.record, self.clock())

        def command_locked() -> StateChange:
            change = self.machine.command(state, self.clock(), reason, seconds)
            self.head[at.PUBLISH] = change.generation if self.core.in_fleet and not host_only else 0
            self.head[at.EXEMPT] = self.head[at.FLEET] if host_only else 0
            return change

        change = self.core.lock.run(command_locked, LONG_LOCK_TIMEOUT_SECONDS)
        self.notify([change])
        self.core.wake_agent()
        return change

    def evaluate(self, now: int) -> None:
        """Change the state if outcomes or time demand it. If the lock is busy, the next evaluation does."""
        WATCHDOG.start()
        self.refresh()
        machine = self.machine
        stats = machine.evaluate_window(now)
        if machine.verdict(stats, now) is None and not machine.would_open_changes(stats):
            return
        try:
            self.notify(self.core.lock.run(lambda: machine.evaluate(now), LOCK_TIMEOUT_SECONDS))
        except LedgerBusyError:
            self._hand_over()

    def _hand_over(self) -> None:
        """Have the watchdog do at once what needs the lock, where this thread runs an event loop and must not wait."""
        if on_event_loop() and self.clock is monotonic_ns:
            WATCHDOG.hand_over(self)

    def refresh(self) -> None:
        """Read thresholds that another process has changed, or those of the record after it has moved."""
        if self._moves != self.record.remaps:
            self._bind(self.record)
        while self._version != (version := thresholds.version(self.head[at.WORD])):
            if not self.head[at.CONFIG]:  # the ledger had to be created anew: restore the thresholds
                self._adopt(self.machine.config)
                version = thresholds.version(self.head[at.WORD])
            self._version = version
            self.machine.config = config = thresholds.read(self.record, self.machine.config)
            self.deadlines = Deadlines.of(config, self.head[at.SLICE])
            #: the longest that a circuit stays OPEN, the duration of a slow call and of a permit, in nanoseconds
            self.longest = self.deadlines.until[State.OPEN]
            self.slow = nanoseconds(config.slow_call_duration)
            self.permit_timeout = nanoseconds(config.permit_timeout)

    def check_times(self, now: int) -> None:
        """Correct deadlines that lie further ahead than the thresholds in force allow."""
        self.refresh()
        if self.deadlines.within_bounds(self.head, now):
            return
        with suppress(LedgerBusyError):  # else the next call or `tick` retries
            self.core.lock.run(self._restore_times_locked, LOCK_TIMEOUT_SECONDS)
        self.refresh()

    def notify(self, events: Sequence[Event]) -> None:
        """Log events and call the listeners. Caller holds no lock."""
        log_events(events)
        announce(self.listeners, events)

    def notify_degraded(self) -> None:
        """Report once that the ledger is degraded, and once that it is restored; log what the constructor changed."""
        if self._unlogged:
            unlogged, self._unlogged = self._unlogged, []
            log_events(unlogged)
        self.ledger.core.report()
        before, reason = self._degraded, self.core.reason
        self._degraded = reason  # first: a listener may call through the breaker
        if reason and reason != before:
            self.notify([LedgerDegraded(self.name, reason)])
        elif before and not reason:
            self.notify([LedgerRestored(self.name)])

    def log_replaced(self) -> None:
        """Log that thresholds of this process have replaced those of another one. Caller holds no lock."""
        if self._replaced:
            replaced, self._replaced = self._replaced, ""
            log_replaced(self.name, replaced, here=True, loud=self.core.shards.beside_others)

    def _log_overruled(self) -> None:
        """Log that thresholds of another process have replaced those of this one."""
        held = self.head[at.CONFIG_DIGEST]
        if self._config is None or self._pending or held in (0, self._digest):
            return
        loud = self.core.shards.beside_others
        if (held, loud) in (self._overruled, (self._overruled[0], False)):
            return
        self._overruled = (held, loud)
        if difference := thresholds.difference(self.config, self._config):
            log_replaced(self.name, difference, here=False, loud=loud)

    def _restore_times_locked(self) -> None:
        now = self.clock()
        self.deadlines.restore_locked(self.head, now)
        # No counters match the new word, so that no call goes on in its old slice.
        thresholds.write(self.record, self.machine.config, now)

    def _return_home(self, now: int) -> None:
        """Move to the ledger that was passed, once it has room. A held state moves along, counts do not."""
        self.ledger.core.retry_open(now)
        record, left, before = self.ledger.core.record(self.name, now), self.record, self.state
        if record is left:
            return
        until, reason = self.head[at.UNTIL], at.get_text(self.head, at.REASON, at.REASON_CELLS)
        self._bind(record)
        left.retire()
        if before in HELD and reason != _INITIAL and self.state not in HELD:
            self.command(before, reason, max(until - now, 1) / 1e9 if until else None, host_only=False)

    def _adopt(self, config: BreakerConfig) -> None:
        try:
            self.core.lock.run(lambda: self._adopt_locked(config), LONG_LOCK_TIMEOUT_SECONDS)
            self._pending = None
        except LedgerBusyError:  # else `tick` retries
            self._hand_over()

    def _adopt_locked(self, config: BreakerConfig) -> None:
        if self.head[at.CONFIG_DIGEST] not in (0, thresholds.digest(config)):
            self._replaced = thresholds.difference(config, thresholds.read(self.record, config))
        if thresholds.adopt(self.record, config, self.clock()) and config.initial_state != State.CLOSED:
            self._unlogged.append(self.machine.command(State(config.initial_state), self.clock(), _INITIAL, None))
            thresholds.adopted(self.record, config)


def _forward(clock: Callable[[], int]) -> Callable[[], int]:
    """Return a clock that stands still while the given one goes back."""
    latest = 0

    def forward() -> int:
        nonlocal latest
        latest = max(latest, clock())
        return latest

    return forward
