"""The thresholds of a breaker, checked once."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Self

from .errors import ConfigError

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?(ms|s|m|h)", re.ASCII)
_DAY = 86_400.0  # no duration here is useful beyond a day, and every one of them then fits the ledger's integers


def parse_duration(value: object, field: str) -> float:
    """Return seconds, from a number of seconds or text such as `30s`, `500ms`, `2m`, `1h`. Raises ConfigError."""
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e100:
        return float(value)
    if isinstance(value, str) and (match := _DURATION.fullmatch(value)):
        return float(match[1]) * _UNITS[match[2]]
    raise ConfigError(field, "be a duration such as 30s, 500ms, 2m or a number of seconds", value)


class _Whole(int):
    """A whole number that is a default: it gives way to a setting that it does not agree with."""


class _Seconds(float):
    """A duration that is a default: it gives way to a setting that it does not agree with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerConfig:
    """When a circuit opens, how long it stays open, and what closes it. Durations are seconds, rates 0 to 1.

    `None` switches off one of the three strategies (failure_threshold, failure_rate_threshold,
    slow_call_rate_threshold); a breaker with none left could never trip and is refused. Two settings that contradict
    each other are refused; a default gives way: with max_requests=1 one success closes, with timeout=3600 timeout_max
    is 3600.
    """

    #: probes in a half-open round; by default as many as success_threshold asks for, at least 5
    max_requests: int = _Whole(5)
    #: statistical window, sliding
    interval: float = 60.0
    #: time in OPEN before recovery is tried; by default 30, at most timeout_max
    timeout: float = _Seconds(30.0)
    #: consecutive failures that open
    failure_threshold: int | None = 10
    #: probe successes that close; by default 3, at most max_requests
    success_threshold: int = _Whole(3)
    #: failure rate in the window that opens
    failure_rate_threshold: float | None = 0.6
    #: calls in the window before the rates count
    minimum_requests: int = 5
    #: a call at least this long is slow
    slow_call_duration: float = 2.0
    #: rate of slow calls in the window that opens
    slow_call_rate_threshold: float | None = 0.8
    #: growth of the open time with each failed round
    timeout_multiplier: float = 1.0
    #: what the open time grows to at most; also the longest Retry-After that is heeded; by default 300, or timeout if
    #: that is longer
    timeout_max: float = _Seconds(300.0)
    #: random share added to the open time, so that hosts do not come all at once
    timeout_jitter: float = 0.1
    #: a half-open round without a verdict reopens after this time; by default 30, or what a probe may take if that is
    #: longer
    half_open_max_duration: float = _Seconds(30.0)
    #: a call that runs this long counts as failed while it still runs; None waits for its end
    call_timeout: float | None = None
    #: how long a probe may take before its permit is taken back; None: call_timeout, else half_open_max_duration
    probe_timeout: float | None = None
    #: the state of a breaker that is new in its ledger: CLOSED, or METRICS_ONLY and DISABLED for a careful roll-out
    initial_state: str = "CLOSED"

    def __post_init__(self) -> None:
        for name in ("max_requests", "success_threshold", "minimum_requests"):
            self._whole(name)
        if self.failure_threshold is not None:
            self._whole("failure_threshold")
        for name in ("interval", "timeout", "slow_call_duration", "timeout_max", "half_open_max_duration"):
            self._number(name, 0.001, _DAY, "be a duration from 1ms to 24h")
        for name in ("call_timeout", "probe_timeout"):
            if getattr(self, name) is not None:
                self._number(name, 0.001, _DAY, "be a duration from 1ms to 24h")
        for name in ("failure_rate_threshold", "slow_call_rate_threshold"):
            if getattr(self, name) is not None:
                self._number(name, 1e-6, 1.0, "be a rate above 0 and at most 1")
        self._number("timeout_multiplier", 1.0, 100.0, "be from 1 to 100")
        self._number("timeout_jitter", 0.0, 1.0, "be from 0 to 1")
        if self.initial_state not in _INITIAL:
            raise ConfigError("initial_state", f"be one of {', '.join(_INITIAL)}", self.initial_state)
        self._reconcile()
        if self.failure_threshold is self.failure_rate_threshold is self.slow_call_rate_threshold is None:
            raise ConfigError("failure_threshold", "be set where no rate is, or the breaker can never trip", None)

    @property
    def permit_timeout(self) -> float:
        """Seconds after which a probe counts as failed."""
        return self.probe_timeout or self.call_timeout or self.half_open_max_duration

    def _reconcile(self) -> None:
        if not self._agree("success_threshold", "max_requests"):
            rule = f"be at most max_requests ({self.max_requests}), or the circuit can never close"
            raise ConfigError("success_threshold", rule, self.success_threshold)
        if not self._agree("timeout", "timeout_max"):
            raise ConfigError("timeout_max", f"be at least timeout ({self.timeout:g} s)", self.timeout_max)
        if isinstance(self.half_open_max_duration, _Seconds):  # a probe must be able to end within its round
            longest = max(self.half_open_max_duration, self.permit_timeout)
            object.__setattr__(self, "half_open_max_duration", _Seconds(longest))

    def _agree(self, lower: str, upper: str) -> bool:
        """Have the default of two settings give way where `lower` exceeds `upper`. Return False if there is none."""
        low, high = getattr(self, lower), getattr(self, upper)
        if low > high:
            for name, mine, other in ((upper, high, low), (lower, low, high)):
                if isinstance(mine, _Whole | _Seconds):
                    object.__setattr__(self, name, type(mine)(other))
                    return True
        return bool(low <= high)

    def _whole(self, name: str) -> None:
        value = getattr(self, name)
        if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= 1_000_000:
            raise ConfigError(name, "be a whole number from 1 to 1000000", value)

    def _number(self, name: str, low: float, high: float, rule: str) -> None:
        value = getattr(self, name)
        if not isinstance(value, int | float) or isinstance(value, bool) or not low <= value <= high:
            raise ConfigError(name, rule, value)
        if not isinstance(value, float):  # equal settings are the same text in the ledger
            object.__setattr__(self, name, float(value))

    @classmethod
    def parse(cls, settings: Mapping[str, object], defaults: Self | None = None) -> Self:
        """Return `defaults` changed by the settings, as read from YAML or JSON. Raises ConfigError.

        What `defaults` say gives way to the settings, where the two do not agree.
        """
        known = {field.name for field in fields(cls)}
        changes: dict[str, Any] = {}
        for key, value in settings.items():
            if key not in known:
                raise ConfigError(str(key), f"be one of {', '.join(sorted(known))}", value)
            changes[key] = parse_duration(value, key) if key in _DURATIONS and value is not None else value
        base = defaults or cls()
        yielding = {name: kind(getattr(base, name)) for name, kind in _YIELDING.items()}
        return replace(base, **{**yielding, **changes})


_DURATIONS = frozenset(
    {
        "interval",
        "timeout",
        "slow_call_duration",
        "timeout_max",
        "half_open_max_duration",
        "call_timeout",
        "probe_timeout",
    }
)
#: settings that must agree with another one
_YIELDING = {"max_requests": _Whole, "success_threshold": _Whole, "timeout": _Seconds, "timeout_max": _Seconds}
_INITIAL = ("CLOSED", "METRICS_ONLY", "DISABLED", "FORCED_OPEN")


def nanoseconds(seconds: float) -> int:
    """Return whole nanoseconds, the unit of the ledger."""
    return round(seconds * 1_000_000_000)
