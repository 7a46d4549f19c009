"""Limits of HTTP requests."""

from cb import ConfigError, Duration
from cb.config import to_seconds

#: default seconds for a request and its response, body included
TIMEOUT = 30.0
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
