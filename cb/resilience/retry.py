"""Retries around a breaker, by tenacity: never of a refusal, never sooner than was asked for, never too many."""

import random
from collections.abc import Callable

from tenacity import RetryCallState, Retrying

from cb.clocks import sleep
from cb.errors import CircuitError, ConfigError
from cb.state.deferred import require_done
from cb.state.outcome import Kinds, leaves, predicate
from cb.state.retry_after import of_error

from .budget import RetryBudget

__all__ = ["RetryBudget", "retrying"]

_LONGEST, _DAY = 5.0, 86_400.0


def retrying(
    errors: Kinds,
    *,
    attempts: int = 3,
    budget: RetryBudget | None = None,
    wait_initial: float = 0.1,
    wait_max: float | None = None,
    sleep: Callable[[float], None] = sleep,
    uniform: Callable[[float, float], float] = random.uniform,
) -> Retrying:
    """Return what calls, decorates or loops as tenacity does, and retries `errors` up to so many attempts in all.

    It goes outside the breaker, which then sees each attempt: `retrying(errors)(breaker.call, fetch)`. Name only errors
    of calls that may be made twice. Refusals (CircuitError: an open circuit, a full bulkhead, a rate limit) are never
    retried, whatever `errors` says: to ask again at once is what they are there to prevent. The error of the last
    attempt is raised as it is; so is one for which the `budget` has no retry left.

    The wait before attempt n + 1 is random, from 0 to `wait_initial` times 2^(n-1) seconds, at most `wait_max` (full
    jitter: aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter). It comes on top of the `retry_after` of
    an error that has one, in seconds; an error that asks for more than `wait_max` is raised at once. By default
    `wait_max` is 5, or `wait_initial` if that is longer.
    """
    if not isinstance(attempts, int) or not 1 <= attempts <= 100:
        raise ConfigError("attempts", "be a whole number from 1 to 100", attempts)
    longest = max(_LONGEST, min(wait_initial, _DAY)) if wait_max is None else wait_max
    if not 0 <= wait_initial <= longest:
        raise ConfigError("wait_initial", f"be from 0 to wait_max ({longest:g} s)", wait_initial)
    is_passing = predicate("errors", errors)

    def begin(state: RetryCallState) -> None:
        if budget is not None and state.attempt_number == 1:
            budget.record_call()

    def retry(state: RetryCallState) -> bool:
        error = _error(state)
        if error is None:
            require_done(state.outcome and state.outcome.result())
            return False
        members = list(leaves(error))
        if any(not isinstance(each, Exception) or isinstance(each, CircuitError) for each in members):
            return False
        return (is_passing(error) or all(map(is_passing, members))) and of_error(error) <= longest

    def stop(state: RetryCallState) -> bool:
        return state.attempt_number >= attempts or not (budget is None or budget.try_acquire())

    def wait(state: RetryCallState) -> float:
        limit = min(longest, wait_initial * 2 ** (state.attempt_number - 1))
        return of_error(_error(state)) + uniform(0, limit)

    return Retrying(sleep=sleep, before=begin, retry=retry, stop=stop, wait=wait, reraise=True)


def _error(state: RetryCallState) -> BaseException | None:
    return state.outcome.exception() if state.outcome else None
