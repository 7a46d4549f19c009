"""A small circuit breaker for the store behind a cache or a rate limit."""

from collections.abc import Callable
from typing import Generic, TypeVar

from cb.clocks import monotonic_ns
from cb.log import Log

log = Log(__name__)

#: nanoseconds during which a store that has failed is not called
OPEN_NS = 1_000_000_000
R = TypeVar("R")
D = TypeVar("D")


class StoreBreaker(Generic[D]):
    """A small circuit breaker that opens for one second after each failure.

    It has no window, thresholds or shared state, and a rejected call returns a default instead of raising. A
    `CircuitBreaker` would need a ledger and a watchdog for each cache. The first failure of an outage and the first
    success after it are logged. While the store is failing, one call per second probes it.

    Args:
        owner: Description of the cache or rate limit, for the log.
        clock: Monotonic clock, in nanoseconds.
    """

    def __init__(self, owner: str, clock: Callable[[], int] = monotonic_ns) -> None:
        self._owner = owner
        self._clock = clock
        self._open_until = clock()
        self._failing = False

    def __repr__(self) -> str:
        return f"<StoreBreaker of {self._owner}{', store unavailable' if self._failing else ''}>"

    def call(self, fn: Callable[[], R], default: D) -> R | D:
        """Return fn(), or `default` if it raises, or if a call has failed within the last second."""
        now = self._clock()
        if now < self._open_until <= now + OPEN_NS:  # beyond that, the clock was set back
            return default
        probes = self._failing
        if probes:
            self._open_until = now + OPEN_NS  # others do not wait for a probe
        try:
            result = fn()
        except Exception as error:  # noqa: BLE001 - a user's store, or a damaged one, may raise anything
            self._open_until = self._clock() + OPEN_NS
            if not self._failing:
                self._failing = True
                log.warning("%s: store unavailable: %s", self._owner, str(error) or repr(error))
            return default
        if probes:  # a call that began before the failure does not end the outage
            self._failing = False
            self._open_until = now
            log.warning("%s: store available again", self._owner)
        return result
