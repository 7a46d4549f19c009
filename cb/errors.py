"""Every error that cb's core raises.

CircuitError
 +- CircuitOpenError   a call was refused
 +- ConfigError        a setting is wrong (also a ValueError)
 +- LedgerError        the shared state cannot be used
     +- LedgerFullError
"""


class CircuitError(Exception):
    """Root of all errors of this package."""


class CircuitOpenError(CircuitError):
    """A call was refused, the function was not called."""

    def __init__(self, name: str, retry_after: float | None) -> None:
        super().__init__(name, retry_after)
        #: the breaker's name
        self.name = name
        #: seconds until a call may be admitted again; None while an operator holds the circuit open
        self.retry_after = retry_after

    def __str__(self) -> str:
        when = "until an operator closes it" if self.retry_after is None else f"for {self.retry_after:.3g} s"
        return f"circuit {self.name!r} refuses calls {when}"


class ConfigError(CircuitError, ValueError):
    """A setting that breaks a rule."""

    def __init__(self, field: str, rule: str, value: object) -> None:
        super().__init__(field, rule, value)
        #: dotted path of the setting
        self.field = field
        #: what the value must satisfy, as in "must <rule>"
        self.rule = rule
        self.value = value

    def __str__(self) -> str:
        return f"{self.field} must {self.rule}, got {self.value!r}"


class LedgerError(CircuitError):
    """A ledger file that cannot or must not be used."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(path, reason)
        self.path = path
        self.reason = reason

    def __str__(self) -> str:
        return f"ledger {self.path}: {self.reason}"


class LedgerFullError(LedgerError):
    """No room for another breaker, or no memory behind the file."""
