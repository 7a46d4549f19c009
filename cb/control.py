"""Operators' actions on a breaker, from the service or from outside it."""

from datetime import timedelta
from typing import TypedDict, Unpack

from .circuit import Circuit
from .config import BreakerConfig, Duration, to_seconds
from .errors import ConfigError
from .event_log import log_thresholds
from .events import StateChange
from .ledger import layout as at
from .ledger.core import LONG_LOCK_TIMEOUT_SECONDS
from .ledger.layout import generation_of, state_of
from .ledger.names import LONGEST_AUTHOR, check_author, check_reason
from .ledger.time_bounds import MAX_HOLD_SECONDS
from .state import thresholds
from .states import State


class BreakerSettings(TypedDict, total=False):
    """The settings of a `BreakerConfig` that `configure` changes while a service runs."""

    max_requests: int
    interval: Duration
    timeout: Duration
    failure_threshold: int | None
    success_threshold: int
    failure_rate_threshold: float | None
    minimum_requests: int
    slow_call_duration: Duration
    slow_call_rate_threshold: float | None
    timeout_multiplier: float
    timeout_max: Duration
    timeout_jitter: float
    half_open_max_duration: Duration
    call_timeout: Duration | None
    probe_timeout: Duration | None
    initial_state: State


class BreakerControl:
    """Operators' actions on one breaker: `breaker.control`, or `registry.control(name)` for one of another process.

    An action applies to all processes that share the ledger and, in a fleet, to all hosts unless `host_only` is given.
    It is written to the log of transitions with its reason and author. All actions raise ConfigError for an argument
    that breaks a rule, and LedgerBusyError if the ledger's lock cannot be acquired.
    """

    def __init__(self, circuit: Circuit) -> None:
        self._circuit = circuit

    def __repr__(self) -> str:
        return f"<BreakerControl {self._circuit}>"

    @property
    def name(self) -> str:
        """The breaker's name."""
        return self._circuit.name

    @property
    def state(self) -> State:
        """The circuit's state."""
        return self._circuit.state

    @property
    def config(self) -> BreakerConfig:
        """The thresholds in force, the same in all processes."""
        return self._circuit.config

    def force_open(
        self, *, reason: str, author: str | None = None, duration: Duration | None = None, host_only: bool = False
    ) -> StateChange:
        """Reject all calls, until `reset` or for a duration, after which the next calls are probes.

        Args:
            reason: Why, for the log; at most 200 characters.
            author: Who, for the log; at most 160 characters. By default the user of this process.
            duration: Time after which the state ends, at most 30 days; None keeps it until `reset`.
            host_only: True leaves the other hosts of a fleet as they are.

        Returns:
            The change that was written to the log, where texts are cut to 256 bytes.
        """
        return self._hold(State.FORCED_OPEN, reason, author, duration, host_only=host_only)

    def disable(
        self, *, reason: str, author: str | None = None, duration: Duration | None = None, host_only: bool = False
    ) -> StateChange:
        """Admit all calls and count none, until `reset` or for a duration. Arguments as of `force_open`."""
        return self._hold(State.DISABLED, reason, author, duration, host_only=host_only)

    def metrics_only(
        self, *, reason: str, author: str | None = None, duration: Duration | None = None, host_only: bool = False
    ) -> StateChange:
        """Admit and count all calls, and report when the circuit would open. Arguments as of `force_open`."""
        return self._hold(State.METRICS_ONLY, reason, author, duration, host_only=host_only)

    def reset(self, *, reason: str, author: str | None = None, host_only: bool = False) -> StateChange:
        """Close the circuit with an empty window. Arguments as of `force_open`."""
        check_reason(reason)
        return self._circuit.command(State.CLOSED, _signed(reason, author), None, host_only=host_only)

    def configure(
        self,
        *,
        reason: str | None = None,
        author: str | None = None,
        host_only: bool = False,
        **settings: Unpack[BreakerSettings],
    ) -> BreakerConfig:
        """Change thresholds in all processes at once. The window is kept, unless its `interval` changes.

        Args:
            reason: Why, for the log.
            author: Who, for the log. By default the user of this process.
            host_only: True leaves the other hosts of a fleet as they are.
            settings: Settings of `BreakerConfig` by name. The others stay as they are.

        Returns:
            The thresholds now in force. After a ConfigError nothing has changed.
        """
        if reason is not None:
            check_reason(reason)
        changes = ", ".join(f"{key} = {_shown(value)}" for key, value in settings.items())
        signed = _signed(changes if reason is None else f"{changes}: {reason}", author)
        circuit = self._circuit
        config, change = circuit.core.lock.run(
            lambda: self._configure_locked(settings, signed, publish=not host_only), LONG_LOCK_TIMEOUT_SECONDS
        )
        circuit.core.wake_agent()
        circuit.refresh()
        log_thresholds(change)
        return config

    def evaluate(self) -> None:
        """Change the state if time demands it: an expired state, a hanging call, a worker that died.

        A background thread does it a few times a second. A test with a clock of its own calls it after advancing the
        clock.
        """
        self._circuit.tick()

    def _hold(
        self, state: State, reason: str, author: str | None, duration: Duration | None, *, host_only: bool
    ) -> StateChange:
        seconds = None if duration is None else to_seconds(duration, "duration")
        if seconds is not None and not 0 < seconds <= MAX_HOLD_SECONDS:
            raise ConfigError("duration", "be above 0 and at most 30 days", duration)
        check_reason(reason)
        return self._circuit.command(state, _signed(reason, author), seconds, host_only=host_only)

    def _configure_locked(
        self, settings: BreakerSettings, reason: str, *, publish: bool
    ) -> tuple[BreakerConfig, StateChange]:
        circuit = self._circuit
        record, head = circuit.record, circuit.head
        config = BreakerConfig.parse(settings, thresholds.read(record, circuit.machine.config))
        thresholds.write(record, config, circuit.clock())
        word = head[at.WORD]
        head[at.PUBLISH_THRESHOLDS] = (thresholds.version(word) or 1) if publish and circuit.core.in_fleet else 0
        change = StateChange(self.name, state_of(word), state_of(word), generation_of(word), reason)
        return config, record.log(change, circuit.wall_clock())


#: the action that enters a state
ACTIONS = {
    State.FORCED_OPEN: BreakerControl.force_open,
    State.DISABLED: BreakerControl.disable,
    State.METRICS_ONLY: BreakerControl.metrics_only,
}


def _signed(reason: str, author: str | None) -> str:
    """Return a reason with its author, cut to the bytes that the log has for both."""
    if author is not None:
        check_author(author)
    else:
        try:
            import getpass  # not above: only a command without an author needs it

            author = getpass.getuser()
        except (KeyError, OSError, ImportError):  # a user id without a name, as containers have
            author = "unknown"
    by = f" (by {at.cut_text(author, LONGEST_AUTHOR)})"
    # The reason is cut, and not the author: neither may take all bytes.
    return at.cut_text(reason, at.REASON_CELLS * 8 - len(by.encode())) + by


def _shown(value: object) -> object:
    return f"{value.total_seconds():g}" if isinstance(value, timedelta) else value
