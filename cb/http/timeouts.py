"""Limits of HTTP requests."""

from cb import ConfigError, Duration
from cb.clocks import monotonic
from cb.config import to_seconds

#: default seconds for a request and its response, body included
TIMEOUT = 30.0
#: seconds for a connection attempt to one address while others are left to try (RFC 8305, section 8)
ATTEMPT_SECONDS = 2.0
_DAY = 86_400.0


def seconds(field: str, value: Duration) -> float:
    """Return a timeout in seconds. Raises ConfigError for a value that is not above 0 and at most a day."""
    rule = "be a number of seconds above 0, at most a day"
    found = to_seconds(value, field, rule)
    if not 0 < found <= _DAY:
        raise ConfigError(field, rule, value)
    return found


def body_limit(value: int) -> int:
    """Return `max_body_bytes`. Raises ConfigError for a value that is not a number of bytes above 0."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ConfigError("max_body_bytes", "be a whole number of bytes above 0", value)
    return value


class Deadline:
    """The deadline of the current request of a connection."""

    #: point in time, in seconds of the monotonic clock; None without a deadline
    at: float | None = None
    _paused_at: float | None = None

    def pause(self) -> None:
        """Stop the time until `resume`."""
        self._paused_at = monotonic()

    def resume(self) -> None:
        """Move the deadline by the time since `pause`."""
        if self.at is not None and self._paused_at is not None:
            self.at += monotonic() - self._paused_at
        self._paused_at = None

    def left(self, timeout: float | None) -> float | None:
        """Return the shorter of a timeout and the time left. Raises TimeoutError after the deadline."""
        if self.at is None:
            return timeout
        left = self.at - monotonic()
        if left <= 0:
            raise TimeoutError("the request has exceeded its deadline")
        return left if timeout is None else min(timeout, left)
