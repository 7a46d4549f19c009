"""Retries: conditions, number and waits."""

from collections.abc import Callable
from typing import Any

import pytest

from cb import BreakerConfig, CircuitBreaker, CircuitError, CircuitOpenError, ConfigError, State
from cb.resilience import RateLimitedError, RetryBudget, retrying
from cb.testing import breaker_in


class Flaky:
    """A function that raises these errors in turn, then succeeds."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.calls = 0

    def __call__(self) -> str:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return "done"


class AskedToWait(Exception):
    def __init__(self, retry_after: Any) -> None:
        self.retry_after = retry_after


class Full(CircuitError):
    """A rejection by another part."""


@pytest.fixture
def slept() -> list[float]:
    return []


def longest(_: float, high: float) -> float:
    return high


def test_call_that_succeeds_is_made_once(slept: list[float]) -> None:
    fn = Flaky()
    assert retrying(OSError, sleep=slept.append)(fn) == "done"
    assert (fn.calls, slept) == (1, [])


def test_failed_call_is_retried_until_it_succeeds(slept: list[float]) -> None:
    fn = Flaky(OSError(), OSError())
    assert retrying(OSError, sleep=slept.append)(fn) == "done"
    assert (fn.calls, len(slept)) == (3, 2)


def test_error_of_the_last_attempt_is_raised_as_it_is(slept: list[float]) -> None:
    last = OSError("third")
    fn = Flaky(OSError("first"), OSError("second"), last, OSError("fourth"))
    with pytest.raises(OSError, match="third") as raised:
        retrying(OSError, sleep=slept.append)(fn)
    assert raised.value is last and fn.calls == 3


@pytest.mark.parametrize(
    "errors", [(OSError,), OSError, lambda error: isinstance(error, OSError)], ids=["classes", "class", "function"]
)
def test_other_errors_are_not_retried(errors: Any, slept: list[float]) -> None:
    fn = Flaky(OSError(), KeyError("answer"))
    with pytest.raises(KeyError):
        retrying(errors, sleep=slept.append)(fn)
    assert fn.calls == 2


@pytest.mark.parametrize(
    "refusal", [CircuitOpenError("other", 0.01), RateLimitedError("d", 0.01), Full()], ids=["open", "rate", "full"]
)
def test_rejection_by_any_part_is_never_retried(refusal: Exception, slept: list[float]) -> None:
    fn = Flaky(refusal)
    with pytest.raises(type(refusal)):
        retrying(Exception, sleep=slept.append)(fn)
    assert (fn.calls, slept) == (1, [])


def test_interruption_is_never_retried(slept: list[float]) -> None:
    calls = []

    def interrupt() -> None:
        calls.append(1)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        retrying(BaseException, sleep=slept.append)(interrupt)
    assert (len(calls), slept) == (1, [])


def test_breaker_inside_sees_each_attempt_and_ends_the_retries_when_it_opens(slept: list[float]) -> None:
    breaker = CircuitBreaker("d", BreakerConfig(failure_threshold=2))
    fn = Flaky(*(OSError() for _ in range(9)))
    with pytest.raises(CircuitOpenError):
        retrying(OSError, attempts=9, sleep=slept.append)(breaker.call, fn)
    assert (fn.calls, breaker.snapshot().totals.failures, len(slept)) == (2, 2, 2)


def test_open_breaker_is_called_once(slept: list[float]) -> None:
    breaker = breaker_in(State.OPEN)
    rejected = breaker.snapshot().totals.rejected
    with pytest.raises(CircuitOpenError):
        retrying(Exception, sleep=slept.append)(breaker.call, int)
    assert breaker.snapshot().totals.rejected == rejected + 1


def test_wait_doubles_up_to_wait_max(slept: list[float]) -> None:
    fn = Flaky(*(OSError() for _ in range(5)))
    retrying(OSError, attempts=6, wait_initial=0.5, wait_max=3, sleep=slept.append, uniform=longest)(fn)
    assert slept == [0.5, 1, 2, 3, 3]


def test_wait_initial_above_the_default_of_wait_max_replaces_it(slept: list[float]) -> None:
    fn = Flaky(AskedToWait(6), OSError(), OSError())
    retrying((AskedToWait, OSError), attempts=4, wait_initial=6, sleep=slept.append, uniform=longest)(fn)
    assert slept == [12, 6, 6]


def test_wait_is_random_from_zero(slept: list[float]) -> None:
    for _ in range(50):
        retrying(OSError, wait_initial=1, sleep=slept.append)(Flaky(OSError()))
    assert 0 <= min(slept) < 0.3 and 0.7 < max(slept) <= 1


def test_retry_after_of_an_error_is_added_to_the_wait(slept: list[float]) -> None:
    fn = Flaky(AskedToWait(2), AskedToWait(0.5))
    retrying(AskedToWait, wait_initial=0.25, sleep=slept.append, uniform=longest)(fn)
    assert slept == [2.25, 1.0]


def test_error_with_a_retry_after_beyond_wait_max_is_raised_at_once(slept: list[float]) -> None:
    fn = Flaky(AskedToWait(5.5))
    with pytest.raises(AskedToWait):
        retrying(AskedToWait, wait_max=5, sleep=slept.append)(fn)
    assert (fn.calls, slept) == (1, [])


@pytest.mark.parametrize("unreadable", [None, "soon", -1, float("nan"), True, []])
def test_unreadable_retry_after_is_ignored(unreadable: object, slept: list[float]) -> None:
    retrying(AskedToWait, wait_initial=0.25, sleep=slept.append, uniform=longest)(Flaky(AskedToWait(unreadable)))
    assert slept == [0.25]


class Unreadable(ConnectionError):
    @property
    def retry_after(self) -> float:
        raise RuntimeError("unreadable")


def test_error_with_an_unreadable_retry_after_is_raised_unchanged(slept: list[float]) -> None:
    with pytest.raises(Unreadable):
        retrying(Unreadable, attempts=2, sleep=slept.append)(Flaky(*[Unreadable()] * 2))
    with pytest.raises(AskedToWait):
        retrying(AskedToWait, sleep=slept.append)(Flaky(*[AskedToWait(10**400)] * 3))


def test_wraps_of_tenacity_decorates_a_function(slept: list[float]) -> None:
    fn = Flaky(OSError())

    @retrying(OSError, sleep=slept.append).wraps
    def fetch() -> str:
        return fn()

    assert fetch() == "done" and fn.calls == 2


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: retrying(OSError, attempts=0), "attempts"),
        (lambda: retrying(OSError, wait_initial=6, wait_max=5), "wait_initial"),
        (lambda: retrying(OSError, wait_initial=float("inf")), "wait_initial"),
        (lambda: retrying("OSError"), "errors"),  # type: ignore[arg-type]  # the error under test
        (lambda: RetryBudget(1.5), "ratio"),
        (lambda: RetryBudget(min_per_second=-1), "min_per_second"),
        (lambda: RetryBudget(burst=0), "burst"),
    ],
)
def test_invalid_parameter_is_a_config_error(make: Callable[[], object], field: str) -> None:
    with pytest.raises(ConfigError) as refused:
        make()
    assert refused.value.field == field
