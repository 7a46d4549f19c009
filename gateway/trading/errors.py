"""Errors of a request to the gateway, besides an open circuit.

GatewayError
 +- DependencyError     a dependency failed
 +- UnknownSymbolError  the symbol is not quoted
 +- UnknownUserError    the user has no account
 +- UnknownTradeError   the trade does not exist
 +- RiskLimitError      the order exceeds a limit
 +- KeyReusedError      the Idempotency-Key belongs to another order
 +- InProgressError     the order with that Idempotency-Key is in progress
 +- OrderTimeoutError   the order could not be placed in time and was not sent
"""

from servicekit import PortableError


class GatewayError(PortableError):
    """Root of the gateway's errors."""


class DependencyError(GatewayError):
    """A call to a dependency failed."""

    def __init__(self, dependency: str, reason: str, sent: bool = True) -> None:
        super().__init__(dependency, reason, sent)
        self.dependency = dependency
        #: a sentence
        self.reason = reason
        #: False only if certainly nothing reached the dependency
        self.sent = sent

    def __str__(self) -> str:
        return f"{self.dependency}: {self.reason}"


class UnknownSymbolError(GatewayError):
    def __init__(self, symbol: str) -> None:
        super().__init__(symbol)
        self.symbol = symbol

    def __str__(self) -> str:
        return f"{self.symbol} is not quoted"


class UnknownUserError(GatewayError):
    def __init__(self, user_id: str) -> None:
        super().__init__(user_id)
        self.user_id = user_id

    def __str__(self) -> str:
        return f"{self.user_id} has no account"


class UnknownTradeError(GatewayError):
    def __init__(self, trade_id: str) -> None:
        super().__init__(trade_id)
        self.trade_id = trade_id

    def __str__(self) -> str:
        return f"there is no trade {self.trade_id}"


class RiskLimitError(GatewayError):
    """An order exceeds a limit."""

    def __init__(self, code: str, detail: str, limit: str, value: str) -> None:
        super().__init__(code, detail, limit, value)
        #: problem code of the limit
        self.code = code
        #: a sentence
        self.detail = detail
        self.limit = limit
        #: the value that exceeds the limit
        self.value = value

    def __str__(self) -> str:
        return self.detail


class KeyReusedError(GatewayError):
    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.key = key

    def __str__(self) -> str:
        return f"Idempotency-Key {self.key} belongs to another order"


class InProgressError(GatewayError):
    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.key = key

    def __str__(self) -> str:
        return f"the order with Idempotency-Key {self.key} is in progress"


class OrderTimeoutError(GatewayError):
    """An order timed out before anything was sent to the portfolio."""

    def __init__(self, timeout: float) -> None:
        super().__init__(timeout)
        #: seconds
        self.timeout = timeout

    def __str__(self) -> str:
        return f"the order could not be placed within {self.timeout:g} s, and was not sent"
