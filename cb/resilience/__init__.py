"""Policies that compose with a breaker: stale responses, retries and rate limits.

`RateLimit` needs the package `limits`, and `retrying` needs `tenacity`: both come with the extra `resilience`, and are
imported when the name is first used. docs/resilience.md explains the order in which the policies compose.
"""

from typing import TYPE_CHECKING, Any

from cb.extras import needs

from .budget import RetryBudget
from .errors import RateLimitedError, RetryBudgetExhaustedError, StoreError
from .stale import CachedValue, StaleCache
from .stores import Store, open_store

if TYPE_CHECKING:
    from .rate_limit import RateLimit
    from .retry import Retrier, retrying

__all__ = [
    "CachedValue",
    "RateLimit",
    "RateLimitedError",
    "Retrier",
    "RetryBudget",
    "RetryBudgetExhaustedError",
    "StaleCache",
    "Store",
    "StoreError",
    "open_store",
    "retrying",
]


def __getattr__(name: str) -> Any:
    if name == "RateLimit":
        with needs("resilience", "limits"):
            from .rate_limit import RateLimit

        return RateLimit
    if name in ("retrying", "Retrier"):
        with needs("resilience", "tenacity"):
            from . import retry

        return getattr(retry, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
