"""Thresholds of a breaker, and durations."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Self

from .errors import ConfigError
from .states import State

#: seconds, or a timedelta
Duration = float | timedelta

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION = r"([0-9]+(?:\.[0-9]+)?) ?(ms|s|m|h)"  # compiled when it is first used: `import cb` is measured
_DAY = 86_400.0  # the longest useful duration; all of them then fit the integers of the ledger


def parse_duration(value: object, field: str) -> float:
    """Return seconds, from a number, a timedelta, or text such as `30s`, `500ms`, `2m`, `1h` in a settings file.

    Args:
        value: The duration as it was read.
        field: Name of the setting, for the error.

    Raises:
        ConfigError: The value is no duration.
    """
    if isinstance(value, str) and (match := re.fullmatch(_DURATION, value)):
        return float(match[1]) * _UNITS[match[2]]
    return to_seconds(value, field, "be a duration such as 30s, 500ms, 2m or a number of seconds")


def to_seconds(value: object, field: str, rule: str = "be a number of seconds or a timedelta") -> float:
    """Return the seconds of a `Duration`. Raises ConfigError for anything else, text included."""
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e100:
        return float(value)
    raise ConfigError(field, rule, value)


class _DefaultInt(int):
    """A default that gives way to a setting that contradicts it."""


class _DefaultFloat(float):
    """A default duration or rate that gives way to a setting that contradicts it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerConfig:
    """Thresholds: when a circuit opens, how long it stays open, and what closes it.

    Durations are seconds or a timedelta, and read as seconds; rates are from 0 to 1. `None` turns off one of the three
    strategies (failure_threshold, failure_rate_threshold, slow_call_rate_threshold); at least one must be left. Two
    settings that contradict each other are an error, but a default gives way to a setting: with max_requests=1 one
    success closes, and with timeout=3600 timeout_max is 3600.

    Slow calls open nothing unless they are asked for, by slow_call_rate_threshold or slow_call_duration or both.

    Args:
        max_requests: Probes in a half-open round.
        interval: Length of the sliding window.
        timeout: Time in OPEN before recovery is tried.
        failure_threshold: Consecutive failures that open the circuit.
        success_threshold: Successful probes that close it.
        failure_rate_threshold: Rate of failures in the window that opens it.
        minimum_requests: Calls in the window before the rates count.
        slow_call_duration: Duration from which a call is slow.
        slow_call_rate_threshold: Rate of slow calls in the window that opens the circuit. By default 0.8 if
            slow_call_duration is given, else None.
        timeout_multiplier: Growth of the time in OPEN with each failed round.
        timeout_max: Longest time in OPEN, also for a dependency's Retry-After.
        timeout_jitter: Random share added to the time in OPEN, so that hosts do not probe at once.
        half_open_max_duration: Time after which a half-open round without a verdict opens the circuit again.
        call_timeout: Duration from which a running call counts as failed; None waits for its end.
        probe_timeout: The same for a probe; None means call_timeout, or else half_open_max_duration.
        initial_state: State of a breaker that is new in its ledger.

    Raises:
        ConfigError: A setting breaks a rule.
    """

    #: probes in a half-open round; by default success_threshold, but at least 5
    max_requests: int = _DefaultInt(5)
    #: length of the sliding window, in seconds
    interval: float = 60.0
    #: seconds in OPEN before recovery is tried; by default 30, or timeout_max if that is shorter
    timeout: float = _DefaultFloat(30.0)
    #: consecutive failures that open the circuit
    failure_threshold: int | None = 10
    #: successful probes that close it; by default 3, or max_requests if that is less
    success_threshold: int = _DefaultInt(3)
    #: rate of failures in the window that opens it
    failure_rate_threshold: float | None = 0.6
    #: calls in the window before the rates count
    minimum_requests: int = 5
    #: seconds from which a call is slow
    slow_call_duration: float = _DefaultFloat(2.0)
    #: rate of slow calls in the window that opens the circuit; by default 0.8 if slow_call_duration is given, else None
    slow_call_rate_threshold: float | None = _DefaultFloat(0.8)
    #: growth of the time in OPEN with each failed round
    timeout_multiplier: float = 1.0
    #: longest time in OPEN in seconds, also for a dependency's Retry-After; by default 300, or timeout if longer
    timeout_max: float = _DefaultFloat(300.0)
    #: random share added to the time in OPEN, so that hosts do not probe at once
    timeout_jitter: float = 0.1
    #: seconds after which a half-open round without a verdict opens the circuit again; by default 30, or the time that
    #: a probe may take if that is longer
    half_open_max_duration: float = _DefaultFloat(30.0)
    #: seconds from which a running call counts as failed; None waits for its end
    call_timeout: float | None = None
    #: seconds from which a running probe counts as failed; None means call_timeout, or else half_open_max_duration
    probe_timeout: float | None = None
    #: state of a breaker that is new in its ledger; METRICS_ONLY or DISABLED for a careful roll-out
    initial_state: State = State.CLOSED

    if TYPE_CHECKING:  # a duration may be given as a timedelta, and is read as seconds

        def __init__(
            self,
            *,
            max_requests: int = ...,
            interval: Duration = ...,
            timeout: Duration = ...,
            failure_threshold: int | None = ...,
            success_threshold: int = ...,
            failure_rate_threshold: float | None = ...,
            minimum_requests: int = ...,
            slow_call_duration: Duration = ...,
            slow_call_rate_threshold: float | None = ...,
            timeout_multiplier: float = ...,
            timeout_max: Duration = ...,
            timeout_jitter: float = ...,
            half_open_max_duration: Duration = ...,
            call_timeout: Duration | None = ...,
            probe_timeout: Duration | None = ...,
            initial_state: State | str = ...,
        ) -> None: ...

    def __post_init__(self) -> None:
        self._ask_for_slow_calls()
        for name in ("max_requests", "success_threshold", "minimum_requests"):
            self._whole(name)
        if self.failure_threshold is not None:
            self._whole("failure_threshold")
        for name in _DURATIONS:
            if getattr(self, name) is not None or name not in _OPTIONAL_DURATIONS:
                self._number(name, 0.001, _DAY, "be a duration from 1ms to 24h")
        for name in ("failure_rate_threshold", "slow_call_rate_threshold"):
            if getattr(self, name) is not None:
                self._number(name, 1e-6, 1.0, "be a rate above 0 and at most 1")
        self._number("timeout_multiplier", 1.0, 100.0, "be from 1 to 100")
        self._number("timeout_jitter", 0.0, 1.0, "be from 0 to 1")
        if self.initial_state not in _INITIAL:
            raise ConfigError("initial_state", f"be one of {', '.join(_INITIAL)}", f"{self.initial_state}")
        object.__setattr__(self, "initial_state", State(self.initial_state))
        self._reconcile()
        if self.failure_threshold is self.failure_rate_threshold is self.slow_call_rate_threshold is None:
            raise ConfigError("failure_threshold", "be set where no rate is, or the breaker can never trip", None)

    @property
    def permit_timeout(self) -> float:
        """Seconds after which a probe counts as failed."""
        return self.probe_timeout or self.call_timeout or self.half_open_max_duration

    def _ask_for_slow_calls(self) -> None:
        """Replace the default of slow_call_rate_threshold: slow calls count only where a setting asks for them."""
        if isinstance(rate := self.slow_call_rate_threshold, _DefaultFloat):
            asked = not isinstance(self.slow_call_duration, _DefaultFloat)
            object.__setattr__(self, "slow_call_rate_threshold", float(rate) if asked else None)

    def _reconcile(self) -> None:
        if not self._agree("success_threshold", "max_requests"):
            rule = f"be at most max_requests ({self.max_requests}), or the circuit can never close"
            raise ConfigError("success_threshold", rule, self.success_threshold)
        if not self._agree("timeout", "timeout_max"):
            raise ConfigError("timeout_max", f"be at least timeout ({self.timeout:g} s)", self.timeout_max)
        if isinstance(self.half_open_max_duration, _DefaultFloat):  # a probe must be able to end within its round
            longest = max(self.half_open_max_duration, self.permit_timeout)
            object.__setattr__(self, "half_open_max_duration", _DefaultFloat(longest))

    def _agree(self, lower: str, upper: str) -> bool:
        """Replace the default of two settings where `lower` exceeds `upper`. Return False if neither is a default."""
        low, high = getattr(self, lower), getattr(self, upper)
        if low > high:
            for name, mine, other in ((upper, high, low), (lower, low, high)):
                if isinstance(mine, _DefaultInt | _DefaultFloat):
                    object.__setattr__(self, name, type(mine)(other))
                    return True
        return bool(low <= high)

    def _whole(self, name: str) -> None:
        value = getattr(self, name)
        if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= 1_000_000:
            raise ConfigError(name, "be a whole number from 1 to 1000000", value)

    def _number(self, name: str, low: float, high: float, rule: str) -> None:
        value = getattr(self, name)
        if isinstance(value, timedelta) and name in _DURATIONS:
            value = value.total_seconds()
            object.__setattr__(self, name, value)
        if not isinstance(value, int | float) or isinstance(value, bool) or not low <= value <= high:
            raise ConfigError(name, rule, value)
        if not isinstance(value, float):  # equal settings are the same text in the ledger
            object.__setattr__(self, name, float(value))

    @classmethod
    def parse(cls, settings: Mapping[str, object], defaults: Self | None = None) -> Self:
        """Return `defaults` changed by settings as read from YAML, JSON or the environment.

        Args:
            settings: Values by the names of the parameters; durations may be text such as `30s`.
            defaults: Values for all other parameters. They give way to settings that contradict them.

        Raises:
            ConfigError: A setting is unknown or breaks a rule.
        """
        known = {field.name for field in fields(cls)}
        changes: dict[str, Any] = {}
        for key, value in settings.items():
            if key not in known:
                raise ConfigError(str(key), f"be one of {', '.join(sorted(known))}", value)
            changes[key] = parse_duration(value, key) if key in _DURATIONS and value is not None else value
        base = defaults or cls()
        defaults_again: dict[str, Any] = {name: kind(getattr(base, name)) for name, kind in _GIVES_WAY.items()}
        if base.slow_call_rate_threshold is None and isinstance(base.slow_call_duration, _DefaultFloat):
            defaults_again["slow_call_rate_threshold"] = _DefaultFloat(0.8)  # nothing has asked for slow calls so far
        return replace(base, **{**defaults_again, **changes})


_OPTIONAL_DURATIONS = ("call_timeout", "probe_timeout")
_DURATIONS = (
    *("interval", "timeout", "slow_call_duration", "timeout_max", "half_open_max_duration"),
    *_OPTIONAL_DURATIONS,
)
#: settings that must not contradict another one
_GIVES_WAY = {
    "max_requests": _DefaultInt,
    "success_threshold": _DefaultInt,
    "timeout": _DefaultFloat,
    "timeout_max": _DefaultFloat,
}
_INITIAL = (State.CLOSED, State.METRICS_ONLY, State.DISABLED, State.FORCED_OPEN)


def nanoseconds(seconds: float) -> int:
    """Return nanoseconds, the unit of the ledger."""
    return round(seconds * 1_000_000_000)
