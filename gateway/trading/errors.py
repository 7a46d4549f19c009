"""What a request to the gateway can fail of, besides an open circuit.

GatewayError
 +- Unavailable      a dependency failed
 +- UnknownSymbol    nobody quotes it
 +- UnknownUser      nobody of that id has an account
 +- UnknownTrade     no trade has that id
 +- RiskRefusal      the order is beyond a limit
 +- KeyReused        the Idempotency-Key belongs to another order
 +- InProgress       the order with that Idempotency-Key is being worked on
 +- OrderTimeout     an order could not be placed in time, and was not sent
"""

from cb.pickling import PortableError


class GatewayError(PortableError):
    """Root of the gateway's errors."""


class Unavailable(GatewayError):
    """A dependency could not do its part."""

    def __init__(self, dependency: str, reason: str, sent: bool = True) -> None:
        super().__init__(dependency, reason, sent)
        self.dependency = dependency
        #: why, in words
        self.reason = reason
        #: False only if surely nothing reached the dependency
        self.sent = sent

    def __str__(self) -> str:
        return f"{self.dependency}: {self.reason}"


class UnknownSymbol(GatewayError):
    def __init__(self, symbol: str) -> None:
        super().__init__(symbol)
        self.symbol = symbol

    def __str__(self) -> str:
        return f"nobody quotes {self.symbol}"


class UnknownUser(GatewayError):
    def __init__(self, user_id: str) -> None:
        super().__init__(user_id)
        self.user_id = user_id

    def __str__(self) -> str:
        return f"{self.user_id} has no account"


class UnknownTrade(GatewayError):
    def __init__(self, trade_id: str) -> None:
        super().__init__(trade_id)
        self.trade_id = trade_id

    def __str__(self) -> str:
        return f"there is no trade {self.trade_id}"


class RiskRefusal(GatewayError):
    """An order beyond a limit."""

    def __init__(self, code: str, detail: str, limit: str, value: str) -> None:
        super().__init__(code, detail, limit, value)
        #: problem code of the limit
        self.code = code
        #: a sentence for people
        self.detail = detail
        #: the limit, and what the order makes of it
        self.limit = limit
        self.value = value

    def __str__(self) -> str:
        return self.detail


class KeyReused(GatewayError):
    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.key = key

    def __str__(self) -> str:
        return f"Idempotency-Key {self.key} belongs to another order"


class InProgress(GatewayError):
    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.key = key

    def __str__(self) -> str:
        return f"the order with Idempotency-Key {self.key} is being worked on"


class OrderTimeout(GatewayError):
    """An order was given up before anything of it was sent to the portfolio."""

    def __init__(self, timeout: float) -> None:
        super().__init__(timeout)
        #: seconds that an order may take
        self.timeout = timeout

    def __str__(self) -> str:
        return f"the order could not be placed within {self.timeout:g} s, and was not sent"
