"""Retries around a breaker, with tenacity."""

import random
from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar, cast

from tenacity import AsyncRetrying, RetryCallState, Retrying

from cb import CircuitError, ConfigError, Duration, ErrorFilter
from cb.asynchronous import completed, completing, is_coroutine_function
from cb.background import event_loop
from cb.clocks import sleep
from cb.config import to_seconds
from cb.state.deferred import require_done
from cb.state.outcome import is_interruption, leaves, predicate
from cb.state.retry_after import of_error

from .budget import RetryBudget

P = ParamSpec("P")
R = TypeVar("R")
_WAIT_MAX, _DAY = 5.0, 86_400.0


class Retrier(Retrying):
    """A `tenacity.Retrying` that retries coroutines too: `await retrier.acall(fn, ...)`, or `@retrier.wraps`.

    Between two attempts of a coroutine it waits without holding the event loop, of asyncio or trio.
    """

    async def acall(self, fn: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Return await fn(*args, **kwargs), called again as the rules of this object say."""
        asynchronous = AsyncRetrying(
            sleep=self._pause,
            stop=self.stop,
            wait=self.wait,
            retry=self.retry,
            before=self.before,
            after=self.after,
            before_sleep=self.before_sleep,
            reraise=self.reraise,
            retry_error_cls=self.retry_error_cls,
            retry_error_callback=self.retry_error_callback,
        )
        return cast("R", await asynchronous(completing(fn), *args, **kwargs))

    def wraps(self, f: Callable[..., Any]) -> Any:
        """Wrap a function or a coroutine function."""
        if not is_coroutine_function(f):
            return super().wraps(f)

        @wraps(f)
        async def retried(*args: Any, **kwargs: Any) -> Any:
            return await self.acall(f, *args, **kwargs)

        return retried

    async def _pause(self, seconds: float) -> None:
        if self.sleep is sleep:
            await event_loop.sleep(seconds)
        else:
            await completed(self.sleep(seconds))


def retrying(
    errors: ErrorFilter,
    *,
    attempts: int = 3,
    budget: RetryBudget | None = None,
    wait_initial: Duration = 0.1,
    wait_max: Duration | None = None,
    sleep: Callable[[float], Any] = sleep,
    uniform: Callable[[float, float], float] = random.uniform,
) -> Retrier:
    """Return a `tenacity.Retrying`: call it with a function, decorate with its `wraps`, or iterate over it.

    For coroutines it has `acall`, and `wraps` decorates coroutine functions.

    Retries belong outside the breaker, which then counts each attempt: `retrying(errors)(breaker.call, fetch)`. A
    `CircuitError` (an open circuit, a full bulkhead, a rate limit) is never retried, even if `errors` includes it: a
    rejection is there to reduce the load. The error of the last attempt is raised unchanged; so is an error for which
    the budget has no retry left.

    The wait before attempt n + 1 is random, from 0 to `wait_initial` times 2^(n-1) seconds, at most `wait_max` (full
    jitter: aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter). The `retry_after` of an error, in
    seconds, is added to it; an error whose `retry_after` exceeds `wait_max` is raised at once.

    Args:
        errors: Exception types to retry, or a predicate. Name only errors of calls that may safely be repeated.
        attempts: Most attempts in total, from 1 to 100.
        budget: Limit on the retries of all callers that share it.
        wait_initial: Longest wait before the second attempt, in seconds or as a timedelta.
        wait_max: Longest wait before any attempt; by default 5 s, or `wait_initial` if that is longer.
        sleep: Function that waits, for tests; for coroutines also a coroutine function.
        uniform: Function that draws the wait, for tests.

    Raises:
        ConfigError: A parameter is out of range.
    """
    if not isinstance(attempts, int) or not 1 <= attempts <= 100:
        raise ConfigError("attempts", "be a whole number from 1 to 100", attempts)
    first = to_seconds(wait_initial, "wait_initial")
    longest = max(_WAIT_MAX, min(first, _DAY)) if wait_max is None else to_seconds(wait_max, "wait_max")
    if not 0 <= first <= longest:
        raise ConfigError("wait_initial", f"be from 0 to wait_max ({longest:g} s)", wait_initial)
    is_retryable = predicate("errors", errors)

    # Tenacity 8 passes the argument by name.
    def before(retry_state: RetryCallState) -> None:
        if budget is not None and retry_state.attempt_number == 1:
            budget.record_call()

    def retry(retry_state: RetryCallState) -> bool:
        error = _error(retry_state)
        if error is None:
            require_done(retry_state.outcome and retry_state.outcome.result())
            return False
        members = list(leaves(error))
        if any(is_interruption(each) or isinstance(each, CircuitError) for each in members):
            return False
        return (is_retryable(error) or all(map(is_retryable, members))) and of_error(error) <= longest

    def stop(retry_state: RetryCallState) -> bool:
        return retry_state.attempt_number >= attempts or not (budget is None or budget.try_acquire())

    def wait(retry_state: RetryCallState) -> float:
        limit = min(longest, first * 2 ** (retry_state.attempt_number - 1))
        return of_error(_error(retry_state)) + uniform(0, limit)

    return Retrier(sleep=sleep, before=before, retry=retry, stop=stop, wait=wait, reraise=True)


def _error(state: RetryCallState) -> BaseException | None:
    return state.outcome.exception() if state.outcome else None
