"""Responses to rejected calls: 503 for an open circuit, 429 for a full bulkhead or a rate limit, with `Retry-After`."""

import math
from collections.abc import Callable
from typing import Any

from cb.errors import BulkheadFullError, CircuitOpenError, LedgerBusyError, RateLimitedError, RejectedError

from .problem import Problem

#: `Retry-After` in seconds for a circuit that an operator holds open without end
_HELD_OPEN_RETRY_AFTER = 60


def problem_of(error: Exception) -> Problem:
    """Return the Problem for an error of one of the classes in `REJECTIONS`, or of a subclass."""
    return next(REJECTIONS[kind] for kind in type(error).__mro__ if kind in REJECTIONS)(error)


def find_problem(error: Exception) -> Problem | None:
    """Return the Problem for an error, None if there is none.

    That of a group, as a task group raises it, is the one with the longest wait, if each of its errors has one.
    """
    if not isinstance(error, ExceptionGroup):
        return problem_of(error) if isinstance(error, tuple(REJECTIONS)) else None
    found = [find_problem(each) for each in error.exceptions]
    problems = [each for each in found if each is not None]
    return max(problems, key=_wait) if len(problems) == len(found) else None


def _wait(problem: Problem) -> int:
    return int(problem.headers.get("Retry-After", 0))


def _circuit_open(error: CircuitOpenError) -> Problem:
    detail = f"{error.name} is not called while its circuit is open"
    wait = _HELD_OPEN_RETRY_AFTER if error.retry_after is None else error.retry_after
    return _retry_later(503, "circuit-open", detail, wait, breaker=error.name)


def _bulkhead_full(error: BulkheadFullError) -> Problem:
    detail = f"{error.name} has as many calls at once as it may have"
    return _retry_later(429, "bulkhead-full", detail, error.retry_after, breaker=error.name, limit=error.limit)


def _rate_limited(error: RateLimitedError) -> Problem:
    detail = f"{error.name} has had as many calls as it may have"
    return _retry_later(429, "rate-limited", detail, error.retry_after, limit=error.name)


def _rejected(error: RejectedError) -> Problem:
    return _retry_later(503, "rejected", str(error), error.retry_after or 0)


def _retry_later(status: int, code: str, detail: str, wait: float, **facts: Any) -> Problem:
    seconds = max(math.ceil(wait), 1)
    headers = {"Retry-After": str(seconds)}
    return Problem(status, code, detail, headers, **facts, retry_after_seconds=seconds)


def _ledger_busy(_: LedgerBusyError) -> Problem:
    detail = "the state that all workers share is locked by a process that does not go on"
    return Problem(503, "ledger-busy", detail, headers={"Retry-After": "1"})


def _itself(problem: Problem) -> Problem:
    return problem


#: the errors that have a response, and functions that return their Problem
REJECTIONS: dict[type[Exception], Callable[[Any], Problem]] = {
    Problem: _itself,
    CircuitOpenError: _circuit_open,
    BulkheadFullError: _bulkhead_full,
    RateLimitedError: _rate_limited,
    RejectedError: _rejected,
    LedgerBusyError: _ledger_busy,
}
