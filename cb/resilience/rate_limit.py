"""Limits to the flow of calls to a dependency, by `limits`: of this process, of this host, or of all hosts."""

import threading
from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import limits
from limits.errors import ConfigurationError
from limits.storage import MemoryStorage, Storage, storage_from_string
from limits.strategies import (
    FixedWindowRateLimiter,
    MovingWindowRateLimiter,
    RateLimiter,
    SlidingWindowCounterRateLimiter,
)

from cb.background.fork import detect_fork, register_fork_reset
from cb.clocks import wall
from cb.errors import ConfigError
from cb.handles import ProcessBound
from cb.log import Log

from .errors import RateLimitedError
from .rate_limit_file import FileStorage
from .store_breaker import StoreBreaker

log = Log(__name__)

__all__ = ["FileStorage", "RateLimit", "RateLimitedError"]

P = ParamSpec("P")
R = TypeVar("R")
#: seconds that a call waits for a server: on a busy host an answer may take its time, and without it the rate is broken
_TIMEOUT_SECONDS = 0.25
_SERVERS = ("redis://", "rediss://", "redis+unix://")
#: the most exact first: the last two may let up to twice the rate through where two windows meet
_STRATEGIES = (MovingWindowRateLimiter, SlidingWindowCounterRateLimiter, FixedWindowRateLimiter)


class RateLimit(ProcessBound):
    """Lets so many calls through, such as "100/second", and refuses the others before anything else is asked.

    `storage` says who shares the limit by the same `name`: `memory://` all threads of this process, `file:///PATH` all
    processes of this host, `redis://`, `rediss://` or `unix://` all hosts; or it is any storage of `limits`. While the
    storage is away, each process keeps to the rate by itself. Raises ConfigError.
    """

    def __init__(self, rate: str, storage: str | Storage = "memory://", *, name: str) -> None:
        try:
            (self._rate,) = limits.parse_many(rate)
        except ValueError as error:
            raise ConfigError("rate", "be like 100/second or 10 per 5 minutes", rate) from error
        #: what those who share the limit have in common
        self.name = name
        self._shared = None if storage == "memory://" else _limiter(_open(storage))
        self._breaker: StoreBreaker[None] = StoreBreaker(f"rate limit {name!r}")
        self.reset_after_fork()
        register_fork_reset(self)

    def acquire(self, caller: str = "") -> None:
        """Count a call, of each caller by itself. Raises RateLimitedError if it is one too many."""
        detect_fork()
        shared = self._shared
        wait = None if shared is None else self._breaker.call(lambda: self._ask(shared, caller), None)
        if wait is None:
            wait = self._ask_own(caller)
        if wait:
            raise RateLimitedError(self.name, wait)

    def call(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Return fn(*args, **kwargs). Raises RateLimitedError, without calling fn, if it is one too many."""
        self.acquire()
        return fn(*args, **kwargs)

    def __call__(self, fn: Callable[P, R]) -> Callable[P, R]:
        """Limit a function."""

        @wraps(fn)
        def limited(*args: P.args, **kwargs: P.kwargs) -> R:
            self.acquire()
            return fn(*args, **kwargs)

        return limited

    def reset_after_fork(self) -> None:
        """Count anew, in a forked child, what it calls by itself: the parent's threads may hold locks of a storage."""
        self._lock = threading.RLock()
        self._alone: RateLimiter | None = None
        self._told = False

    def _ask(self, limiter: RateLimiter, caller: str) -> float:
        """Return the seconds to wait, 0 if the call may be made."""
        counted = (self.name, caller) if caller else (self.name,)
        if limiter.hit(self._rate, *counted):
            return 0.0
        wait = limiter.get_window_stats(self._rate, *counted).reset_time - wall()
        return min(max(0.001, wait), self._rate.get_expiry())  # a storage may be damaged, or another clock ahead

    def _ask_own(self, caller: str) -> float:
        try:
            return self._ask(self._own(), caller)
        except RuntimeError as error:  # no thread left for what it is kept in: that is no reason to refuse
            told, self._told = self._told, True
            if not told:
                log.warning("rate limit %r: calls are not counted: %s", self.name, error)
            return 0.0

    def _own(self) -> RateLimiter:
        with self._lock:  # made when it is needed: it starts a thread
            self._alone = self._alone or _limiter(MemoryStorage())
            return self._alone


def _open(storage: str | Storage) -> Storage:
    if isinstance(storage, Storage):
        return storage
    url = storage.replace("unix://", "redis+unix://", 1) if storage.startswith("unix://") else storage
    options: dict[str, Any] = {}
    if url.startswith(_SERVERS):
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        options = {
            "socket_timeout": _TIMEOUT_SECONDS,
            "socket_connect_timeout": _TIMEOUT_SECONDS,
            "retry": Retry(NoBackoff(), 0),
        }
    try:
        opened = storage_from_string(url, **options)
        if pool := getattr(getattr(opened, "storage", None), "connection_pool", None):
            pool.connection_class(**pool.connection_kwargs)  # not connected: else the first call finds what is wrong
    except (ConfigurationError, ValueError, TypeError):  # not its text: it may quote a password
        opened = None
    if not isinstance(opened, Storage):  # one of another kind is for asyncio
        rule = "be memory://, file:///PATH, redis://, rediss://, unix://, or another that limits knows"
        raise ConfigError("storage", rule, f"{storage.partition('://')[0]}://...") from None
    return opened


def _limiter(storage: Storage) -> RateLimiter:
    for strategy in _STRATEGIES[:-1]:
        try:
            return strategy(storage)
        except NotImplementedError:  # so `limits` says that a storage cannot do what a strategy needs
            continue
    return _STRATEGIES[-1](storage)
