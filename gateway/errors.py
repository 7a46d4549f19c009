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


class GatewayError(Exception):
    """Root of the gateway's errors."""


class Unavailable(GatewayError):
    """A dependency could not do its part."""

    def __init__(self, dependency: str, reason: str, *, sent: bool = True) -> None:
        super().__init__(f"{dependency}: {reason}")
        self.dependency = dependency
        #: False only if surely nothing reached the dependency
        self.sent = sent


class UnknownSymbol(GatewayError):
    def __init__(self, symbol: str) -> None:
        super().__init__(f"nobody quotes {symbol}")


class UnknownUser(GatewayError):
    def __init__(self, user_id: str) -> None:
        super().__init__(f"{user_id} has no account")


class UnknownTrade(GatewayError):
    def __init__(self, trade_id: str) -> None:
        super().__init__(f"there is no trade {trade_id}")


class RiskRefusal(GatewayError):
    """An order beyond a limit."""

    def __init__(self, code: str, detail: str, *, limit: str, value: str) -> None:
        super().__init__(detail)
        #: problem code of the limit
        self.code = code
        #: the limit, and what the order makes of it
        self.limit = limit
        self.value = value


class KeyReused(GatewayError):
    def __init__(self, key: str) -> None:
        super().__init__(f"Idempotency-Key {key} belongs to another order")


class InProgress(GatewayError):
    def __init__(self, key: str) -> None:
        super().__init__(f"the order with Idempotency-Key {key} is being worked on")


class OrderTimeout(GatewayError):
    """An order was given up before anything of it was sent to the portfolio."""

    def __init__(self, timeout: float) -> None:
        super().__init__(f"the order could not be placed within {timeout:g} s, and was not sent")
        #: seconds that an order may take
        self.timeout = timeout
