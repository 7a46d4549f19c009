"""Errors of `cb.resilience`.

cb.CircuitError
 +- cb.RejectedError
 |   +- cb.RateLimitedError
 +- StoreError   a store cannot be used now; callers of a cache or a rate limit never see it
"""

from cb.errors import CircuitError, RateLimitedError

__all__ = ["RateLimitedError", "StoreError"]


class StoreError(CircuitError):
    """A file or a server that cannot be used now.

    Args:
        place: The file, or the URL of the server.
        reason: The reason, in words.
    """

    def __init__(self, place: str, reason: str) -> None:
        super().__init__(place, reason)
        #: the file, or the URL of the server
        self.place = place
        #: the reason, in words
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.place}: {self.reason}"
