"""Policy: fallback, cache, retry, rate limit, bulkhead and breaker around a call, in the one right order."""

from collections.abc import Awaitable, Callable
from functools import partial, wraps
from typing import Any, Final, ParamSpec, Protocol, TypeVar, overload

from .asynchronous import completed, completing, guard_generator, is_coroutine_function, is_generator_function
from .background.event_loop import in_thread
from .breaker import CircuitBreaker
from .bulkhead import Bulkhead
from .call import Call
from .config import BreakerConfig
from .errors import ConfigError, RejectedError
from .fallback import instead
from .guard import BlockGuard, CallGuard, ContextGuards, begin_async
from .handles import ProcessBound
from .state.deferred import UnseenOutcomeError, require_now
from .state.outcome import leaves

P = ParamSpec("P")
R = TypeVar("R")

_NO_FALLBACK: Final = object()


class Retry(Protocol):
    """Calls a function until it succeeds or no attempt is left, such as `cb.resilience.retrying`.

    For coroutines it has a method `acall(fn, *args, **kwargs)`, or is itself called with `await`, as tenacity's
    `AsyncRetrying` is.
    """

    def __call__(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any: ...


class RateLimit(Protocol):
    """Counts calls, such as `cb.resilience.RateLimit`.

    For coroutines it has a method `aacquire()`; otherwise `acquire` is called in a thread, because it may wait.
    """

    def acquire(self) -> None:
        """Count a call. Raises RejectedError if it is one too many."""


class Cached(Protocol):
    """A value of a cache."""

    @property
    def value(self) -> Any:
        """The value."""


class Cache(Protocol):
    """Returns values of earlier calls, such as `cb.resilience.StaleCache`.

    For coroutines it has a method `acall(key, fetch, *args, **kwargs)`.
    """

    def call(self, key: str, fetch: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Cached:
        """Return fetch(*args, **kwargs), or the value that an earlier call with this key has returned."""


class _Rejection:
    """A rejected attempt on its way past the retries."""

    __slots__ = ("error",)

    def __init__(self, error: Exception) -> None:
        self.error = error


class Policy(ProcessBound, BlockGuard):
    """Composes the protections of a call. The order of the arguments does not matter; the order of the parts is fixed.

    From the outside to the call: fallback, cache, retry, rate limit, bulkhead, breaker. Every attempt of a retry is
    limited, admitted and counted by itself. A rejection is never retried: it goes to the cache and the
    fallback at once. docs/policy.md gives the reason for each place.

    A policy can stand wherever a breaker can, with the same entry points. `begin`, `guard` and `with` guard one attempt
    by rate limit, bulkhead and breaker; retry, cache and fallback need a function to call, so a policy that has one of
    them raises TypeError there. `around` applies them to an attempt that its caller admits by `attempt()`.

    Args:
        breaker: The breaker of the dependency.
        retry: Calls a function again, such as `retrying(ConnectionError)` of `cb.resilience`. For coroutines alone also
            tenacity's `AsyncRetrying`.
        rate_limit: An object with `acquire()`, such as `RateLimit` of `cb.resilience`.
        bulkhead: Number of calls that may run at once, or a `Bulkhead` of the same breaker.
        cache: An object with `call(key, fetch, *args)`, such as `StaleCache` of `cb.resilience`.
        cache_key: Function of the arguments of a call that returns its key; by default their `repr`.
        fallback: A value, or a function of the error (for coroutines also a coroutine function), for calls that
            were rejected or failed. Exceptions that the breaker does not count as failures are raised.

    Raises:
        ConfigError: A part lacks its method, the bulkhead has another breaker, or `cache_key` is given without `cache`.
    """

    def __init__(
        self,
        breaker: CircuitBreaker,
        *,
        retry: Retry | None = None,
        rate_limit: RateLimit | None = None,
        bulkhead: int | Bulkhead | None = None,
        cache: Cache | None = None,
        cache_key: Callable[..., str] | None = None,
        fallback: Any = _NO_FALLBACK,
    ) -> None:
        if not isinstance(breaker, CircuitBreaker):
            raise ConfigError("breaker", "be a CircuitBreaker", breaker)
        if retry is not None and not callable(retry):
            raise ConfigError("retry", "be callable, as `retrying(...)` is", retry)
        if rate_limit is not None and not hasattr(rate_limit, "acquire"):
            raise ConfigError("rate_limit", "have a method `acquire`", rate_limit)
        if cache is not None and not hasattr(cache, "call"):
            raise ConfigError("cache", "have a method `call`", cache)
        if bulkhead is not None and not isinstance(bulkhead, int | Bulkhead):
            raise ConfigError("bulkhead", "be a number of calls or a Bulkhead", bulkhead)
        if isinstance(bulkhead, Bulkhead) and bulkhead.breaker is not breaker:
            raise ConfigError("bulkhead", f"be of the breaker {breaker.name!r}", bulkhead)
        if cache_key is not None and cache is None:
            raise ConfigError("cache_key", "be given together with cache", cache_key)
        #: the breaker of the dependency
        self.breaker = breaker
        #: the bulkhead; None without one
        self.bulkhead = Bulkhead(breaker, bulkhead) if isinstance(bulkhead, int) else bulkhead
        self._inner: CircuitBreaker | Bulkhead = self.bulkhead or breaker
        self._retry = retry
        self._rate_limit = rate_limit
        self._cache = cache
        self._cache_key = cache_key or _repr_of
        self._fallback = fallback
        self._entered = ContextGuards(self)

    def __repr__(self) -> str:
        parts = {
            "fallback": self._fallback is not _NO_FALLBACK,
            "cache": self._cache is not None,
            "retry": self._retry is not None,
            "rate limit": self._rate_limit is not None,
        }
        return f"<Policy of {', '.join([*(part for part, there in parts.items() if there), repr(self._inner)])}>"

    @property
    def name(self) -> str:
        """The name of the breaker."""
        return self.breaker.name

    @property
    def config(self) -> BreakerConfig:
        """The thresholds of the breaker."""
        return self.breaker.config

    def call(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Return fn(*args, **kwargs), a cached value, or the fallback.

        Raises:
            RejectedError: The call was rejected, and there is neither a cached value nor a fallback.
        """
        require_now(fn)
        self._require_sync()
        return self.around(partial(self._attempt, self._inner(fn)), *args, **kwargs)  # type: ignore[no-any-return]  # the parts are untyped

    @overload
    async def acall(self, fn: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs) -> R: ...
    @overload
    async def acall(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R: ...
    async def acall(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Return the result of fn(*args, **kwargs), as `CircuitBreaker.acall` does, a cached value, or the fallback.

        Raises RejectedError if the call was rejected, and there is neither a cached value nor a fallback.
        """
        self._require_async()
        attempt = partial(self._attempt_async, self._inner(completing(fn)))
        return await self.around_async(attempt, *args, **kwargs)

    def __call__(self, fn: Callable[P, R]) -> Callable[P, R]:
        """Decorate a function, a coroutine function or an asynchronous generator function, as `@breaker` does.

        Raises TypeError for a generator function, for an asynchronous generator if the policy has a retry, a cache or a
        fallback, and for a coroutine function if the retry or the cache cannot await.
        """
        if is_coroutine_function(fn):
            self._require_async()
            attempt_async = partial(self._attempt_async, self._inner(completing(fn)))

            @wraps(fn)
            async def awaited(*args: Any, **kwargs: Any) -> Any:
                return await self.around_async(attempt_async, *args, **kwargs)

            return awaited  # type: ignore[return-value]  # of the type of fn
        if is_generator_function(fn):
            self._require_plain("a function or a coroutine function")
            return guard_generator(self._begin_async, fn)  # type: ignore[return-value,arg-type]  # of the type of fn
        require_now(fn)
        self._require_sync()
        attempt = partial(self._attempt, self._inner(fn))

        @wraps(fn)
        def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
            return self.around(attempt, *args, **kwargs)  # type: ignore[no-any-return]  # the parts are untyped

        return guarded

    def around(self, attempt: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Return attempt(*args, **kwargs) under fallback, cache and retry alone.

        For clients that run their attempts themselves: each attempt must be admitted by `attempt`.
        """
        if self._fallback is _NO_FALLBACK:
            return self._cached(attempt, *args, **kwargs)
        try:
            return self._cached(attempt, *args, **kwargs)
        except Exception as error:
            if not _is_rejection(error) and not self.breaker.is_failure(error):
                raise
            return instead(self._fallback, error)

    async def around_async(self, attempt: Callable[..., Awaitable[Any]], /, *args: Any, **kwargs: Any) -> Any:
        """Return await attempt(*args, **kwargs) under fallback, cache and retry alone, as `around` does."""
        self._require_async()
        if self._fallback is _NO_FALLBACK:
            return await self._cached_async(attempt, *args, **kwargs)
        try:
            return await self._cached_async(attempt, *args, **kwargs)
        except Exception as error:
            if not _is_rejection(error) and not self.breaker.is_failure(error):
                raise
            return await completed(instead(self._fallback, error))

    def attempt(self) -> Call:
        """Admit one attempt by rate limit, bulkhead and breaker. Settle it exactly once. Raises RejectedError."""
        if self._rate_limit is not None:
            self._rate_limit.acquire()
        return self._inner.begin()

    async def attempt_async(self) -> Call:
        """Admit one attempt as `attempt` does, without holding the event loop."""
        await self._acquire_async()
        return await begin_async(self._inner)

    def begin(self) -> Call:
        """Admit a call that the caller runs itself. Settle it exactly once. Raises RejectedError."""
        self._require_plain("a function")
        return self.attempt()

    async def _begin_async(self) -> Call:
        self._require_plain("a coroutine function")
        return await self.attempt_async()

    def _require_plain(self, kind: str) -> None:
        """Raise TypeError if the policy has a part that needs a function to call."""
        outer = {"retry": self._retry, "cache": self._cache}
        names = [name for name, part in outer.items() if part is not None]
        if names or self._fallback is not _NO_FALLBACK:
            raise TypeError(
                f"a policy with {' and '.join(names) or 'a fallback'} needs {kind}: use `call` or decorate it"
            )

    def _require_sync(self) -> None:
        """Raise TypeError if a part can only be awaited."""
        if is_coroutine_function(self._retry):
            raise UnseenOutcomeError(f"the retry {self._retry!r} retries coroutines only")
        if self._fallback is not _NO_FALLBACK and is_coroutine_function(self._fallback):
            raise UnseenOutcomeError(f"the fallback {self._fallback!r} is a coroutine function, the function is none")

    def _require_async(self) -> None:
        """Raise TypeError if a part cannot be awaited."""
        if self._retry is not None and not hasattr(self._retry, "acall") and not is_coroutine_function(self._retry):
            raise UnseenOutcomeError(
                f"the retry {self._retry!r} cannot await: use `retrying` of cb.resilience, or tenacity.AsyncRetrying"
            )
        if self._cache is not None and not hasattr(self._cache, "acall"):
            raise UnseenOutcomeError(f"the cache {self._cache!r} cannot await: it has no method `acall`")

    def guard(self) -> CallGuard:
        """Return a context manager that guards one block of code, as `begin` does."""
        return CallGuard(self)

    def _attempt(self, guarded: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        if self._rate_limit is not None:
            self._rate_limit.acquire()
        return guarded(*args, **kwargs)

    def _cached(self, attempt: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        if self._cache is None:
            return self._retried(attempt, *args, **kwargs)
        key = self._cache_key(*args, **kwargs)
        return self._cache.call(key, self._retried, attempt, *args, **kwargs).value

    def _retried(self, attempt: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        if self._retry is None:
            return attempt(*args, **kwargs)
        result = self._retry(_past_retries, attempt, *args, **kwargs)
        if isinstance(result, _Rejection):
            raise result.error
        return result

    async def _acquire_async(self) -> None:
        limit: Any = self._rate_limit
        if limit is None:
            return
        if hasattr(limit, "aacquire"):
            await limit.aacquire()
        elif is_coroutine_function(limit.acquire):
            await limit.acquire()
        else:
            await in_thread(limit.acquire)

    async def _attempt_async(self, guarded: Callable[..., Awaitable[Any]], /, *args: Any, **kwargs: Any) -> Any:
        await self._acquire_async()
        return await guarded(*args, **kwargs)

    async def _cached_async(self, attempt: Callable[..., Awaitable[Any]], /, *args: Any, **kwargs: Any) -> Any:
        cache: Any = self._cache
        if cache is None:
            return await self._retried_async(attempt, *args, **kwargs)
        found = await cache.acall(self._cache_key(*args, **kwargs), self._retried_async, attempt, *args, **kwargs)
        return found.value

    async def _retried_async(self, attempt: Callable[..., Awaitable[Any]], /, *args: Any, **kwargs: Any) -> Any:
        retry: Any = self._retry
        if retry is None:
            return await attempt(*args, **kwargs)
        # A copy: an AsyncRetrying of tenacity has the state of one call at a time.
        retry = retry.acall if hasattr(retry, "acall") else retry.copy() if hasattr(retry, "copy") else retry
        result = await retry(_past_retries_async, attempt, *args, **kwargs)
        if isinstance(result, _Rejection):
            raise result.error
        return result


async def _past_retries_async(attempt: Callable[..., Awaitable[Any]], /, *args: Any, **kwargs: Any) -> Any:
    """Return a rejection instead of raising it, as `_past_retries` does."""
    try:
        return await attempt(*args, **kwargs)
    except Exception as error:
        if not _is_rejection(error):
            raise
        return _Rejection(error)


def _past_retries(attempt: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    """Return a rejection instead of raising it: the retry then has nothing to retry."""
    try:
        return attempt(*args, **kwargs)
    except Exception as error:
        if not _is_rejection(error):
            raise
        return _Rejection(error)


def _is_rejection(error: Exception) -> bool:
    """Return True for a RejectedError, and for a group of which each member is one."""
    return all(isinstance(each, RejectedError) for each in leaves(error))


def _repr_of(*args: Any, **kwargs: Any) -> str:
    return repr((args, sorted(kwargs.items())))
