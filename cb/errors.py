"""Every error that cb's core raises.

CircuitError
 +- CircuitOpenError   a call was refused
 +- BulkheadFullError  a call was refused because too many run
 +- ConfigError        a setting is wrong (also a ValueError)
 +- LedgerError        the shared state cannot be used
     +- LedgerBusyError
     +- LedgerFullError
"""

from .pickling import PortableError

#: characters of a wrong value that its error repeats
_LONGEST = 200


class CircuitError(PortableError):
    """Root of all errors of this package."""


class CircuitOpenError(CircuitError):
    """A call was refused, the function was not called. Made of `name` and `retry_after`.

    It has no `__init__`, because an open circuit raises very many of them and should cost nothing.
    """

    #: when a half-open circuit had no permit for it, in nanoseconds of the breaker's clock; else 0
    refused_at = 0

    @property
    def name(self) -> str:
        """The breaker's name."""
        name: str = self.args[0] if self.args else "?"
        return name

    @property
    def retry_after(self) -> float | None:
        """Seconds until a call may be admitted again; None while an operator holds the circuit open.

        A circuit that tries again admits calls at any moment, as its probes end: it says a second, or less.
        """
        seconds: float | None = self.args[1] if len(self.args) > 1 else None
        return seconds

    def __str__(self) -> str:
        when = "until an operator closes it" if self.retry_after is None else f"for {self.retry_after:.3g} s"
        return f"circuit {self.name!r} refuses calls {when}"


class BulkheadFullError(CircuitError):
    """A call was refused because as many run as may, the function was not called. Made of `name` and `limit`."""

    #: seconds after which it makes sense to try again; a place may come free at any time
    retry_after = 1.0

    @property
    def name(self) -> str:
        """The breaker's name."""
        name: str = self.args[0] if self.args else "?"
        return name

    @property
    def limit(self) -> int:
        """Calls that may run at once."""
        limit: int = self.args[1] if len(self.args) > 1 else 0
        return limit

    def __str__(self) -> str:
        return f"{self.name!r} has {self.limit} calls in flight, as many as it may have"


class ConfigError(CircuitError, ValueError):
    """A setting that breaks a rule."""

    def __init__(self, field: str, rule: str, value: object) -> None:
        super().__init__(field, rule, value)
        #: dotted path of the setting
        self.field = field
        #: what the value must satisfy, as in "must <rule>"
        self.rule = rule
        #: what breaks it
        self.value = value

    def __str__(self) -> str:
        return f"{_short(self.field)} must {self.rule}, got {_short(repr(self.value))}"


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}... ({len(text)} characters)"


class LedgerError(CircuitError):
    """A ledger file that cannot or must not be used."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(path, reason)
        #: the file, or `memory`
        self.path = path
        #: why, in words
        self.reason = reason

    def __str__(self) -> str:
        return f"ledger {self.path}: {self.reason}"


class LedgerBusyError(LedgerError):
    """The lock cannot be had in time: the process that holds it may be stopped for good."""


class LedgerFullError(LedgerError):
    """No room for another breaker, or no memory behind the file."""
