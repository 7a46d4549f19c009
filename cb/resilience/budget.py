"""How many retries are too many: a budget, which every call adds to and every retry takes from."""

import threading
from collections.abc import Callable

from cb.background.fork import detect_fork, register_fork_reset
from cb.clocks import monotonic_ns
from cb.errors import ConfigError
from cb.handles import ProcessBound


class RetryBudget(ProcessBound):
    """Allows `ratio` retries for each call, and at least `min_per_second` a second, in this process.

    When a dependency is down, each call fails and asks for all its attempts: three of them are three times the load, at
    the worst moment. With a budget it is 1.1 times. A token bucket: each call puts `ratio` of a token in and each
    second `min_per_second`, each retry takes one out, and more than `burst` are never in it. It starts with
    `min_per_second`. Share one budget among all that retry the same dependency.

    After RetryBudget of Finagle (finagle.github.io/blog/2016/02/08/retry-budgets: a share of the calls, and a minimum a
    second for clients that call seldom), the retry throttling of gRPC (gRFC A6: a capped count of tokens), and the
    per-client retry budget of "Handling Overload" in Site Reliability Engineering (sre.google/sre-book: 10 %).
    """

    def __init__(
        self,
        ratio: float = 0.1,
        *,
        min_per_second: float = 1.0,
        burst: float = 10.0,
        clock: Callable[[], int] = monotonic_ns,
    ) -> None:
        if not 0 <= ratio <= 1:
            raise ConfigError("ratio", "be from 0 to 1", ratio)
        if not 0 <= min_per_second <= 1000:
            raise ConfigError("min_per_second", "be from 0 to 1000 retries a second", min_per_second)
        if not 1 <= burst <= 10_000:
            raise ConfigError("burst", "be from 1 to 10000 retries", burst)
        self._ratio, self._min_per_second, self._burst = ratio, min_per_second, burst
        self._clock = clock
        self._tokens = min(min_per_second, burst)
        self._since = clock()
        self.reset_after_fork()
        register_fork_reset(self)

    @property
    def available(self) -> float:
        """Retries that are allowed now."""
        detect_fork()
        with self._lock:
            return self._fill_locked(0.0)

    def record_call(self) -> None:
        """Count a call. Its retries are not calls."""
        detect_fork()
        with self._lock:
            self._tokens = self._fill_locked(self._ratio)

    def try_acquire(self) -> bool:
        """Take a retry out. Return False, and take nothing, if there is none."""
        detect_fork()
        with self._lock:
            self._tokens = self._fill_locked(0.0)
            # Tenths do not add up to one: without the grain, ten calls would not be enough for a retry.
            if self._tokens < 1 - 1e-9:
                return False
            self._tokens = max(0.0, self._tokens - 1)
            return True

    def _fill_locked(self, more: float) -> float:
        now = self._clock()
        passed, self._since = max(0, now - self._since), now
        return min(self._burst, self._tokens + more + self._min_per_second * passed / 1e9)

    def reset_after_fork(self) -> None:
        """Forget, in a forked child, which thread of the parent is at work."""
        self._lock = threading.RLock()
