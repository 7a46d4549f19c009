"""Limits of HTTP requests."""

from cb import ConfigError, Duration
from cb.config import to_seconds

#: default seconds for a request and its response, body included
TIMEOUT = 30.0
#: default bytes of the largest body
MAX_BODY_BYTES = 10 << 20
_DAY = 86_400.0


def seconds(field: str, value: Duration) -> float:
    """Return a timeout in seconds. Raises ConfigError for a value that is not above 0 and at most a day."""
    rule = "be a number of seconds above 0, at most a day"
    found = to_seconds(value, field, rule)
    if not 0 < found <= _DAY:
        raise ConfigError(field, rule, value)
    return found
