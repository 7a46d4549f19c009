"""Every error that `cb.resilience` raises, besides ConfigError.

cb.CircuitError
 +- RateLimitedError   a call was refused
 +- StoreError         what is kept for others cannot be had now; no caller of a cache or a rate limit sees it
"""

from cb.errors import CircuitError


class RateLimitedError(CircuitError):
    """A call was refused, the function was not called: there were enough of them lately."""

    def __init__(self, name: str, retry_after: float) -> None:
        super().__init__(name, retry_after)
        #: name of the rate limit
        self.name = name
        #: seconds until there may be room for another call
        self.retry_after = retry_after

    def __str__(self) -> str:
        return f"rate limit {self.name!r} refuses calls for {self.retry_after:.3g} s"


class StoreError(CircuitError):
    """A file or a server that cannot be used now."""

    def __init__(self, place: str, reason: str) -> None:
        super().__init__(place, reason)
        #: the file, or the server's URL
        self.place = place
        #: why, in words
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.place}: {self.reason}"
