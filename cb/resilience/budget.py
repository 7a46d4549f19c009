"""A retry budget: limits retries to a share of the calls."""

import threading
from collections.abc import Callable

from cb import ConfigError, RetryBudgetExhaustedError
from cb.background.fork import detect_fork, register_fork_reset
from cb.clocks import monotonic_ns
from cb.handles import ProcessBound

#: tenths do not add up to one: without this grain, ten calls would not be enough for a retry
_GRAIN = 1e-9


class RetryBudget(ProcessBound):
    """A token bucket that limits the retries of this process to a share of its calls.

    When a dependency is down, three attempts per call are three times the load, at the worst moment. With the default
    budget the load is 1.1 times. Each call adds `ratio` tokens and each second adds `min_per_second`; each retry takes
    one token. The bucket starts with `min_per_second` tokens. Share one budget among all callers that retry the same
    dependency.

    After RetryBudget of Finagle (finagle.github.io/blog/2016/02/08/retry-budgets: a share of the calls, and a minimum a
    second for clients that call seldom), the retry throttling of gRPC (gRFC A6: a capped count of tokens), and the
    per-client retry budget of "Handling Overload" in Site Reliability Engineering (sre.google/sre-book: 10 %).

    Args:
        ratio: Retries allowed per call, from 0 to 1.
        min_per_second: Retries allowed per second without regard to the calls, from 0 to 1000.
        burst: Most retries that can be saved up, from 1 to 10000.
        name: Name in the error of `acquire`.
        clock: Monotonic clock, in nanoseconds.

    Raises:
        ConfigError: A parameter is out of range.
    """

    def __init__(
        self,
        ratio: float = 0.1,
        *,
        min_per_second: float = 1.0,
        burst: float = 10.0,
        name: str = "retries",
        clock: Callable[[], int] = monotonic_ns,
    ) -> None:
        if not 0 <= ratio <= 1:
            raise ConfigError("ratio", "be from 0 to 1", ratio)
        if not 0 <= min_per_second <= 1000:
            raise ConfigError("min_per_second", "be from 0 to 1000 retries a second", min_per_second)
        if not 1 <= burst <= 10_000:
            raise ConfigError("burst", "be from 1 to 10000 retries", burst)
        #: name in the error of `acquire`
        self.name = name
        self._ratio, self._min_per_second, self._burst = ratio, min_per_second, burst
        self._clock = clock
        self._tokens = min(min_per_second, burst)
        self._refilled_at = clock()
        self.reset_after_fork()
        register_fork_reset(self)

    def __repr__(self) -> str:
        return f"<RetryBudget {self.name!r} {self.available:.3g} of {self._burst:g} retries available>"

    @property
    def available(self) -> float:
        """Number of retries that may be made now."""
        detect_fork()
        with self._lock:
            return self._refill_locked(0.0)

    def record_call(self) -> None:
        """Count a call. Its retries are not calls."""
        detect_fork()
        with self._lock:
            self._tokens = self._refill_locked(self._ratio)

    def try_acquire(self) -> bool:
        """Take one retry. Return False, and take nothing, if none is available."""
        return self._wait() == 0

    def acquire(self) -> None:
        """Take one retry, in a retry loop of your own.

        Raises:
            RetryBudgetExhaustedError: None is available; `retry_after` is None if only calls add more.
        """
        wait = self._wait()
        if wait != 0:
            raise RetryBudgetExhaustedError(self.name, wait)

    def _wait(self) -> float | None:
        """Take one retry and return 0, or return the seconds until one is available, None if time adds none."""
        detect_fork()
        with self._lock:
            self._tokens = self._refill_locked(0.0)
            missing = 1 - self._tokens
            if missing > _GRAIN:
                return missing / self._min_per_second if self._min_per_second else None
            self._tokens = max(0.0, self._tokens - 1)
            return 0

    def _refill_locked(self, added: float) -> float:
        now = self._clock()
        passed, self._refilled_at = max(0, now - self._refilled_at), now
        return min(self._burst, self._tokens + added + self._min_per_second * passed / 1e9)

    def reset_after_fork(self) -> None:
        """Replace the lock in a forked child: a thread of the parent may hold it."""
        self._lock = threading.RLock()
