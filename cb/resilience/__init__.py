"""What composes around a breaker: the last good answers, retries, and limits to the flow of calls.

Retries are in `cb.resilience.retry`, rate limits in `cb.resilience.rate_limit`: each needs a package of its own, which
nothing here imports. docs/resilience.md has the order in which all of it composes, and why.
"""

from .errors import RateLimitedError, StoreError
from .stale import CachedValue, StaleCache
from .stores import Store, open_store

__all__ = ["CachedValue", "RateLimitedError", "StaleCache", "Store", "StoreError", "open_store"]
