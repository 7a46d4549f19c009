"""Rate limits for calls to a dependency, with `limits`: for this process, this host, or all hosts."""

import threading
from collections.abc import Awaitable, Callable
from functools import partial, wraps
from typing import Any, ParamSpec, Self, TypeVar

import limits
from limits.errors import ConfigurationError
from limits.storage import MemoryStorage, Storage, storage_from_string
from limits.strategies import (
    FixedWindowRateLimiter,
    MovingWindowRateLimiter,
    RateLimiter,
    SlidingWindowCounterRateLimiter,
)

from cb import ConfigError, RateLimitedError
from cb.asynchronous import completing, is_coroutine_function, is_generator_function
from cb.background.event_loop import in_thread
from cb.background.fork import detect_fork, register_fork_reset
from cb.clocks import wall
from cb.extras import needs
from cb.handles import ProcessBound
from cb.log import Log

from .rate_limit_file import FileStorage
from .store_breaker import StoreBreaker

log = Log(__name__)

__all__ = ["FileStorage", "RateLimit"]

P = ParamSpec("P")
R = TypeVar("R")
#: seconds to wait for a server: longer than a cache waits, since without an answer the rate is exceeded
_TIMEOUT_SECONDS = 0.25
_SERVERS = ("redis://", "rediss://", "redis+unix://")
#: the most exact first: the last two may admit up to twice the rate where two windows meet
_STRATEGIES = (MovingWindowRateLimiter, SlidingWindowCounterRateLimiter, FixedWindowRateLimiter)


class RateLimit(ProcessBound):
    """A limit on the rate of calls. It rejects calls beyond the rate before anything else sees them.

    Coroutines use `aacquire`, `acall` or the decorator, which do not hold the event loop: a storage that other
    processes share is asked in a thread. While the storage is unavailable, each process limits its own calls to the
    rate.

    Args:
        rate: The rate, such as "100/second" or "10 per 5 minutes".
        storage: Where calls are counted: `memory://` for all threads of this process, `file:///PATH` for all processes
            of this host, `redis://`, `rediss://` or `unix://` for all hosts; or any storage of `limits`.
        name: Name of the limit. Limits with the same name and storage count together.

    Raises:
        ConfigError: The rate or the storage is invalid.
    """

    def __init__(self, rate: str, storage: str | Storage = "memory://", *, name: str) -> None:
        try:
            (self._rate,) = limits.parse_many(rate)
        except ValueError as error:
            raise ConfigError("rate", "be like 100/second or 10 per 5 minutes", rate) from error
        #: name of the limit
        self.name = name
        self._owned = None if isinstance(storage, Storage) or storage == "memory://" else _open(storage)
        given = storage if isinstance(storage, Storage) else self._owned
        self._shared = None if given is None else _limiter(given)
        self._waits = given is not None and not isinstance(given, MemoryStorage)
        self._breaker: StoreBreaker[None] = StoreBreaker(f"rate limit {name!r}")
        self.reset_after_fork()
        register_fork_reset(self)

    def __repr__(self) -> str:
        return f"<RateLimit {self.name!r} {self._rate}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file or the connections that a URL has opened. A later call opens them again."""
        opened: Any = self._owned
        if isinstance(opened, FileStorage):
            opened.close()
        elif close := getattr(getattr(opened, "storage", None), "close", None):
            close()

    def acquire(self, caller: str = "") -> None:
        """Count a call.

        Args:
            caller: Key under which the call is counted; each caller has the whole rate.

        Raises:
            RateLimitedError: The rate is exceeded.
        """
        detect_fork()
        shared = self._shared
        wait = None if shared is None else self._breaker.call(lambda: self._hit(shared, caller), None)
        if wait is None:
            wait = self._hit_own(caller)
        if wait:
            raise RateLimitedError(self.name, wait)

    async def aacquire(self, caller: str = "") -> None:
        """Count a call as `acquire` does, without holding the event loop. Raises RateLimitedError."""
        if self._waits:
            await in_thread(partial(self.acquire, caller))
        else:
            self.acquire(caller)

    def call(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Return fn(*args, **kwargs). Raises RateLimitedError, without calling fn, if the rate is exceeded."""
        self.acquire()
        return fn(*args, **kwargs)

    async def acall(self, fn: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Return await fn(*args, **kwargs). Raises RateLimitedError, without calling fn, if the rate is exceeded."""
        await self.aacquire()
        return await completing(fn)(*args, **kwargs)  # type: ignore[no-any-return]  # of the type of fn

    def __call__(self, fn: Callable[P, R]) -> Callable[P, R]:
        """Limit the calls of a function or a coroutine function, as a decorator.

        Raises TypeError for an asynchronous generator function, which a `Policy` limits.
        """
        if is_coroutine_function(fn):

            @wraps(fn)
            async def awaited(*args: Any, **kwargs: Any) -> Any:
                return await self.acall(fn, *args, **kwargs)  # type: ignore[arg-type]  # as just found

            return awaited  # type: ignore[return-value]  # of the type of fn
        if is_generator_function(fn):
            raise TypeError(f"{fn!r} is an asynchronous generator function: limit it by a Policy")

        @wraps(fn)
        def limited(*args: P.args, **kwargs: P.kwargs) -> R:
            self.acquire()
            return fn(*args, **kwargs)

        return limited

    def reset_after_fork(self) -> None:
        """Replace lock and counts of this process in a forked child: threads of the parent may hold their locks."""
        self._lock = threading.RLock()
        self._own: RateLimiter | None = None
        self._uncounted_logged = False

    def _hit(self, limiter: RateLimiter, caller: str) -> float:
        """Return the seconds to wait, 0 if the call is admitted."""
        identifiers = (self.name, caller) if caller else (self.name,)
        if limiter.hit(self._rate, *identifiers):
            return 0.0
        wait = limiter.get_window_stats(self._rate, *identifiers).reset_time - wall()
        return min(max(0.001, wait), self._rate.get_expiry())  # a storage may be damaged, or its clock ahead

    def _hit_own(self, caller: str) -> float:
        try:
            return self._hit(self._own_limiter(), caller)
        except RuntimeError as error:  # its storage cannot start a thread, which is no reason to reject the call
            logged, self._uncounted_logged = self._uncounted_logged, True
            if not logged:
                log.warning("rate limit %r: calls are not counted: %s", self.name, error)
            return 0.0

    def _own_limiter(self) -> RateLimiter:
        with self._lock:  # created on demand: it starts a thread
            self._own = self._own or _limiter(MemoryStorage())
            return self._own


def _open(storage: str) -> Storage:
    url = storage.replace("unix://", "redis+unix://", 1) if storage.startswith("unix://") else storage
    options: dict[str, Any] = {}
    if url.startswith(_SERVERS):
        with needs("redis", "redis"):
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
            pool.connection_class(**pool.connection_kwargs)  # not connected: finds an invalid option now, not at a call
    except (ConfigurationError, ValueError, TypeError):  # its text is dropped: it may quote a password
        opened = None
    if not isinstance(opened, Storage):  # or a storage for asyncio
        rule = "be memory://, file:///PATH, redis://, rediss://, unix://, or another that limits supports"
        raise ConfigError("storage", rule, f"{storage.partition('://')[0]}://...") from None
    return opened


def _limiter(storage: Storage) -> RateLimiter:
    for strategy in _STRATEGIES[:-1]:
        try:
            return strategy(storage)
        except NotImplementedError:  # raised by `limits` for a storage that does not support the strategy
            continue
    return _STRATEGIES[-1](storage)
