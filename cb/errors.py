"""Errors of the core and of what composes around a breaker.

CircuitError
 +- RejectedError               not called, try again later
 |   +- CircuitOpenError        the circuit is open
 |   +- BulkheadFullError       too many calls are running
 |   +- RateLimitedError        too many calls have been made lately
 |   +- RetryBudgetExhaustedError  too many of the latest calls were retries
 +- ConfigError                 a setting breaks a rule (also a ValueError)
 +- LedgerError                 the shared state cannot be used
     +- LedgerBusyError
     +- LedgerFullError
"""

from typing import TYPE_CHECKING

from .pickling import PortableError

#: longest part of a wrong value that its error repeats, in characters
_MAX_SHOWN = 200


class CircuitError(PortableError):
    """Root of all errors of this package."""


class RejectedError(CircuitError):
    """A call was rejected: the function was not called, and the caller may try again later.

    Args:
        name: Name of the breaker, bulkhead, rate limit or retry budget that rejected the call.
        retry_after: Seconds until a call may be admitted; None if that is unknown.
    """

    # No __init__ at run time: an open circuit raises very many of these, and each nanosecond of them is paid in an
    # outage. BaseException.__new__ keeps the arguments, and the properties read them.
    if TYPE_CHECKING:

        def __init__(self, name: str, retry_after: float | None = None) -> None: ...

    @property
    def name(self) -> str:
        """The name of the breaker, bulkhead, rate limit or retry budget."""
        name: str = self.args[0] if self.args else "?"
        return name

    @property
    def retry_after(self) -> float | None:
        """Seconds until a call may be admitted; None if that is unknown."""
        seconds: float | None = self.args[1] if len(self.args) > 1 else None
        return seconds

    def __str__(self) -> str:
        return f"{self.name!r} rejects calls{_for(self.retry_after)}"


class CircuitOpenError(RejectedError):
    """The circuit is open, or half-open without a permit left.

    `retry_after` is None while an operator holds the circuit open without end, and at most a second while it is
    half-open, since a permit may be returned at any moment.
    """

    #: when a half-open circuit had no permit left, in nanoseconds of the breaker's clock; else 0
    refused_at = 0

    def __str__(self) -> str:
        until = " until an operator closes it" if self.retry_after is None else _for(self.retry_after)
        return f"circuit {self.name!r} rejects calls{until}"


class BulkheadFullError(RejectedError):
    """As many calls are running as the bulkhead permits.

    Args:
        name: Name of the breaker behind the bulkhead.
        limit: Number of calls that may run at once.
    """

    if TYPE_CHECKING:

        def __init__(self, name: str, limit: int = 0) -> None: ...

    @property
    def limit(self) -> int:
        """Number of calls that may run at once."""
        limit: int = self.args[1] if len(self.args) > 1 else 0
        return limit

    @property
    def retry_after(self) -> float:
        """One second: a permit may be returned at any moment."""
        return 1.0

    def __str__(self) -> str:
        return f"bulkhead {self.name!r} rejects calls: {self.limit} are running, which is its limit"


class RateLimitedError(RejectedError):
    """More calls were made lately than the rate limit admits."""

    @property
    def retry_after(self) -> float:
        """Seconds until there may be room for another call."""
        return super().retry_after or 0.0

    def __str__(self) -> str:
        return f"rate limit {self.name!r} rejects calls{_for(self.retry_after)}"


class RetryBudgetExhaustedError(RejectedError):
    """Too large a share of the latest calls were retries."""

    def __str__(self) -> str:
        return f"retry budget {self.name!r} rejects retries{_for(self.retry_after)}"


class ConfigError(CircuitError, ValueError):
    """A setting that breaks a rule.

    Args:
        field: Dotted path of the setting.
        rule: The rule, worded to follow "must".
        value: The value that breaks it.
    """

    def __init__(self, field: str, rule: str, value: object) -> None:
        super().__init__(field, rule, value)
        #: dotted path of the setting
        self.field = field
        #: the rule, worded to follow "must"
        self.rule = rule
        #: the value that breaks the rule
        self.value = value

    def __str__(self) -> str:
        return f"{_shortened(self.field)} must {self.rule}, got {_shortened(repr(self.value))}"


class LedgerError(CircuitError):
    """A ledger file that cannot or must not be used.

    Args:
        path: The file, or `memory`.
        reason: The reason, in words.
    """

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(path, reason)
        #: the file, or `memory`
        self.path = path
        #: the reason, in words
        self.reason = reason

    def __str__(self) -> str:
        return f"ledger {self.path}: {self.reason}"


class LedgerBusyError(LedgerError):
    """The lock was not acquired in time; the process that holds it may have been stopped."""


class LedgerFullError(LedgerError):
    """No room for another breaker, or no memory behind the file."""


def _for(seconds: float | None) -> str:
    return "" if seconds is None else f" for {seconds:.3g} s"


def _shortened(text: str) -> str:
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}... ({len(text)} characters)"
