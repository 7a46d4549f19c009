"""Errors of `cb.resilience`.

cb.CircuitError
 +- cb.RejectedError
 |   +- cb.RateLimitedError
 |   +- cb.RetryBudgetExhaustedError
 +- StoreError   a store cannot be used now; callers of a cache or a rate limit never see it
"""

from cb import CircuitError, RateLimitedError, RetryBudgetExhaustedError

__all__ = ["RateLimitedError", "RetryBudgetExhaustedError", "StoreError"]


class StoreError(CircuitError):
    """A file or a server that cannot be used now.

    Args:
        location: The file, or the URL of the server without its password.
        reason: The reason, in words.
    """

    def __init__(self, location: str, reason: str) -> None:
        super().__init__(location, reason)
        #: the file, or the URL of the server without its password
        self.location = location
        #: the reason, in words
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.location}: {self.reason}"
