"""Calls that fail."""

from contextlib import suppress

from cb import CircuitBreaker


def fail(breaker: CircuitBreaker, times: int = 1) -> None:
    """Make calls that fail. Raises CircuitOpenError if one is rejected."""
    for _ in range(times):
        with suppress(ZeroDivisionError):
            breaker.call(divmod, 1, 0)
