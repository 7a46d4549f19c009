"""Calls that fail."""

from contextlib import suppress

from cb import CircuitBreaker


def fail(breaker: CircuitBreaker, times: int = 1) -> None:
    """Make calls that fail. Raises CircuitOpenError if one is rejected."""
    for _ in range(times):
        with suppress(ZeroDivisionError):
            breaker.call(divmod, 1, 0)


def cannot_start(*_: object) -> None:
    """Raise the error of a machine that has no further thread, in place of a function that starts one."""
    raise RuntimeError("can't start new thread")
