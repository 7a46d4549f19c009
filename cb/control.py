"""What changes a circuit besides its calls: time, the operator, new thresholds."""

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress

from .background.watchdog import WATCHDOG
from .clocks import monotonic_ns, resolve_clock
from .config import BreakerConfig
from .errors import ConfigError, LedgerBusyError
from .events import Event, LedgerDegraded, LedgerRestored, Listener, Reclaimed, StateChange, announce
from .ledger import layout as at
from .ledger.core import LOCK_TIMEOUT_SECONDS, LONG_LOCK_TIMEOUT_SECONDS
from .ledger.layout import generation_of, state_of
from .ledger.ledger import Ledger
from .ledger.names import LONGEST_AUTHOR, check_author, check_reason
from .ledger.record import Record
from .ledger.time_bounds import LONGEST_HOLD, Deadlines
from .state import thresholds
from .state.machine import StateMachine
from .states import HELD, State

#: why a new breaker is in a state that its configuration names
_INITIAL = "initial state"


class BreakerControl:
    """One circuit, its lock and its listeners. Nothing here runs on the way of a call that succeeds."""

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
        #: the dependency, the same in all processes
        self.name = name
        #: the ledger that was given; see `apart`
        self.ledger = ledger
        #: called with every Event of this process; add to it or remove from it at will
        self.listeners: list[Listener] = list(listeners)
        clock = resolve_clock(clock)
        self._clock = clock if clock is monotonic_ns else _forward(clock)
        self._wall_clock = wall_clock
        self._asked: BreakerConfig | None = config
        self._config = config
        self._degraded: str | None = None
        self._settle_in(ledger.core.record(name, clock()))
        ledger.core.report()

    def _settle_in(self, row: Record) -> None:
        """Go on in a row, of the ledger that was given, or of one of this process where that has no room."""
        self._row, self._head, self._idle = row, row.head, row.idle
        self._moves = row.remaps
        self._core = row.ledger
        config = self._asked = self._config
        self._circuit = StateMachine(self.name, row, config or thresholds.read(row, BreakerConfig()), self._wall_clock)
        self._version = -1
        if config:  # else whatever is in force stays so
            self._adopt(config)
        self._refresh()
        self._check_times(self._clock())

    @property
    def apart(self) -> bool:
        """True while the given ledger has no room for the breaker, so that this process guards it alone."""
        return self._core is not self.ledger.core

    def _come_home(self, now: int) -> None:
        """Go over to the ledger that was given, once it can be had. Counts made apart are dropped, a hold is not."""
        self.ledger.core.retry_open(now)
        row, left, before = self.ledger.core.record(self.name, now), self._row, self.state
        if row is left:
            return
        until, reason = self._head[at.UNTIL], at.get_text(self._head, at.REASON, at.REASON_CELLS)
        self._settle_in(row)
        left.retire()
        if before in HELD and reason != _INITIAL and self.state not in HELD:
            self._put_in_force(before, reason, max(until - now, 1) / 1e9 if until else None, host_only=False)

    def _adopt(self, config: BreakerConfig) -> None:
        with suppress(LedgerBusyError):  # else `tick` tries again
            self._core.lock.run(lambda: self._adopt_locked(config), LONG_LOCK_TIMEOUT_SECONDS)
            self._asked = None

    def _adopt_locked(self, config: BreakerConfig) -> None:
        if thresholds.adopt(self._row, config, self._clock()) and config.initial_state != State.CLOSED:
            self._circuit.command(State(config.initial_state), self._clock(), _INITIAL, None)
            thresholds.adopted(self._row, config)

    @property
    def state(self) -> State:
        """The circuit's state. Reading it changes nothing: an OPEN whose time is up stays so until a call comes."""
        return state_of(self._head[at.WORD])

    @property
    def config(self) -> BreakerConfig:
        """The thresholds in force, the same for all processes."""
        self._refresh()
        return self._circuit.config

    def hold(
        self,
        state: State,
        *,
        reason: str,
        author: str | None = None,
        seconds: float | None = None,
        host_only: bool = False,
    ) -> StateChange:
        """Put the circuit into FORCED_OPEN, DISABLED or METRICS_ONLY, for all processes, until `reset` or for seconds.

        It holds for all hosts of a fleet, where there is one, unless `host_only`. After a FORCED_OPEN that expires come
        probes, after the others the circuit is closed. `reason` is at most 200 characters; `author`, at most 160, is by
        default the user of this process. Returns what was written to the log, which cuts what takes more than 256
        bytes. Raises ConfigError, and LedgerBusyError if the ledger's lock cannot be had.
        """
        if state not in HELD:
            raise ConfigError("state", f"be one of {', '.join(sorted(HELD))}", str(state))
        if seconds is not None and not 0 < seconds <= LONGEST_HOLD:
            raise ConfigError("seconds", "be above 0 and at most 30 days", seconds)
        return self._command(state, reason, author, seconds, host_only=host_only)

    def reset(self, *, reason: str, author: str | None = None, host_only: bool = False) -> StateChange:
        """Close the circuit, as far as `hold` reaches, with an empty window. Raises LedgerBusyError as `hold` does."""
        return self._command(State.CLOSED, reason, author, None, host_only=host_only)

    def configure(self, author: str | None = None, *, host_only: bool = False, **settings: object) -> BreakerConfig:
        """Change thresholds in all processes at once, as `BreakerConfig.parse` reads them; the window stays.

        A new `interval` begins a new window, because its slices have another length. Reaches as far as `hold`. Returns
        what is now in force. Raises ConfigError, and then nothing has changed; LedgerBusyError as `hold` does.
        """
        reason = _by(", ".join(f"{key} = {value}" for key, value in settings.items()), author)
        config = self._core.lock.run(
            lambda: self._configure_locked(settings, reason, publish=not host_only), LONG_LOCK_TIMEOUT_SECONDS
        )
        self._core.wake_agent()
        self._refresh()
        return config

    def _configure_locked(self, settings: Mapping[str, object], reason: str, *, publish: bool) -> BreakerConfig:
        config = BreakerConfig.parse(settings, thresholds.read(self._row, self._circuit.config))
        thresholds.write(self._row, config, self._clock())
        word = self._head[at.WORD]
        self._head[at.PUBLISH_THRESHOLDS] = (thresholds.version(word) or 1) if publish and self._core.in_fleet else 0
        note = StateChange(self.name, state_of(word), state_of(word), generation_of(word), reason)
        self._row.log(note, self._wall_clock())
        return config

    def tick(self) -> None:
        """Do what no call reports: count calls that hang, bury dead workers, end a hold that has expired.

        A thread of this process does it a few times a second, unless the breaker has a clock of its own.
        """
        now = self._clock()
        self._core.reap(now)  # first: where the file was cut, to read it would end this process
        self._core.check(self._row, now)
        self._check_times(now)
        self._row.tick(now)
        self._row.semaphore.verify()
        if self.apart:
            self._come_home(now)
        self._tell_degraded()
        if self._asked:
            self._adopt(self._asked)
        if calls := self._core.reaped(self._row):
            self._tell([Reclaimed(self.name, calls)])
        if not self._row.only_calls_matter():
            self._evaluate(now)

    def _command(
        self, state: State, reason: str, author: str | None, seconds: float | None, *, host_only: bool
    ) -> StateChange:
        check_reason(reason)
        return self._put_in_force(state, _by(reason, author), seconds, host_only=host_only)

    def _put_in_force(self, state: State, reason: str, seconds: float | None, *, host_only: bool) -> StateChange:
        self._core.check(self._row, self._clock())

        def command_locked() -> StateChange:
            change = self._circuit.command(state, self._clock(), reason, seconds)
            self._head[at.PUBLISH] = change.generation if self._core.in_fleet and not host_only else 0
            self._head[at.EXEMPT] = self._head[at.FLEET] if host_only else 0
            return change

        change = self._core.lock.run(command_locked, LONG_LOCK_TIMEOUT_SECONDS)
        self._tell([change])
        self._core.wake_agent()
        return change

    def _evaluate(self, now: int) -> None:
        """Change the state if outcomes or time demand it. Without the lock they wait for the next evaluation."""
        WATCHDOG.start()
        self._refresh()
        circuit = self._circuit
        reading = circuit.evaluate_window(now)
        if circuit.verdict(reading, now) is None and not circuit.shadow_moves(reading):
            return
        with suppress(LedgerBusyError):
            self._tell(self._core.lock.run(lambda: circuit.evaluate(now), LOCK_TIMEOUT_SECONDS))

    def _refresh(self) -> None:
        """Take over thresholds that another process has changed, or that stand where the row has gone."""
        if self._moves != self._row.remaps:
            self._settle_in(self._row)
        while self._version != (version := thresholds.version(self._head[at.WORD])):
            if not self._head[at.CONFIG]:  # the ledger had to be made anew: what was in force here is so again
                self._adopt(self._circuit.config)
                version = thresholds.version(self._head[at.WORD])
            self._version = version
            self._circuit.config = config = thresholds.read(self._row, self._circuit.config)
            self._deadlines = Deadlines.of(config, self._head[at.SLICE])
            self._longest = self._deadlines.until[State.OPEN]
            self._apply(config)

    def _check_times(self, now: int) -> None:
        """Set back what lies further ahead than the thresholds in force allow."""
        self._refresh()
        if self._deadlines.hold(self._head, now):
            return
        with suppress(LedgerBusyError):  # else the next call, or `tick`, tries again
            self._core.lock.run(self._restore_times_locked, LOCK_TIMEOUT_SECONDS)
        self._refresh()

    def _restore_times_locked(self) -> None:
        now = self._clock()
        self._deadlines.restore_locked(self._head, now)
        thresholds.write(
            self._row, self._circuit.config, now
        )  # no tally knows the new word, nor goes on in its old slice

    def _apply(self, config: BreakerConfig) -> None:
        """Be told of new thresholds."""

    def _tell_degraded(self) -> None:
        """Tell once that the breaker is degraded, and once that it no longer is."""
        self.ledger.core.report()
        before, reason = self._degraded, self._core.reason
        self._degraded = reason  # first: a listener may call through the breaker
        if reason and reason != before:
            self._tell([LedgerDegraded(self.name, reason)])
        elif before and not reason:
            self._tell([LedgerRestored(self.name)])

    def _tell(self, events: Iterable[Event]) -> None:
        announce(self.listeners, events)


def _forward(clock: Callable[[], int]) -> Callable[[], int]:
    """Return a clock that stands still while the given one goes back. Nobody else may see time go back."""
    latest = 0

    def forward() -> int:
        nonlocal latest
        latest = max(latest, clock())
        return latest

    return forward


def _by(reason: str, author: str | None) -> str:
    if author is not None:
        check_author(author)
    else:
        try:
            import getpass  # not above: only a command without an author needs it

            author = getpass.getuser()
        except (KeyError, OSError, ImportError):  # a user id without a name, as containers have
            author = "unknown"
    # The bytes are shared out: neither who did it nor why must be all that is left.
    by = f" (by {at.cut_text(author, LONGEST_AUTHOR)})"
    return at.cut_text(reason, at.REASON_CELLS * 8 - len(by.encode())) + by  # who did it must not be what is cut off
