"""Late results, interruptions, and the length of the open time. docs/rules.md, rules 1, 5, 7, 8 and 15."""

from collections.abc import Callable
from typing import Any

import pytest

from cb import (
    CircuitBreaker,
    CircuitOpenError,
    ConfigError,
    State,
)
from cb.testing import FakeClock
from tests.unit.conftest import ONE, Dependency
from tests.unit.test_machine import CONSECUTIVE, opened

Make = Callable[..., Dependency]


def test_late_failure_of_a_call_admitted_when_closed_does_not_decide_a_half_open_round(
    make: Make, clock: FakeClock
) -> None:
    dependency = make(**CONSECUTIVE, max_requests=1, success_threshold=1)
    with pytest.raises(TimeoutError), dependency.breaker:
        for _ in range(3):
            dependency.fail()
        clock.advance(30)
        with dependency.running():
            assert dependency.breaker.state is State.HALF_OPEN
            with pytest.raises(CircuitOpenError):
                dependency.answer()
        assert dependency.breaker.state is State.CLOSED
        raise TimeoutError
    snapshot = dependency.breaker.snapshot()
    assert snapshot.state is State.CLOSED
    assert (snapshot.totals.late, snapshot.window.failures) == (1, 0)


def test_late_success_of_a_call_admitted_when_closed_does_not_close_an_open_circuit(make: Make) -> None:
    dependency = make(**CONSECUTIVE)
    with dependency.breaker:
        for _ in range(3):
            dependency.fail()
    assert dependency.breaker.state is State.OPEN
    assert dependency.breaker.snapshot().totals.late == 1


def test_open_time_grows_with_each_failed_round_up_to_its_cap_and_resets_on_close(make: Make) -> None:
    dependency = opened(make, timeout_multiplier=2, timeout_max="100s", max_requests=1, success_threshold=1)
    waits = []
    for _ in range(4):
        wait = dependency.breaker.snapshot().retry_after
        assert wait is not None
        waits.append(wait)
        dependency.clock.advance(wait)
        dependency.fail()
    assert waits == [30, 60, 100, 100]
    dependency.clock.advance(100)
    dependency.answer()
    for _ in range(3):
        dependency.fail()
    assert dependency.breaker.snapshot().retry_after == 30


def test_open_time_with_jitter_is_never_shorter_and_at_most_its_share_longer(make: Make) -> None:
    waits = []
    for number in range(30):
        dependency = make(f"d{number}", failure_threshold=1, timeout="10s", timeout_jitter=0.5)
        dependency.fail()
        waits.append(dependency.breaker.snapshot().retry_after or 0)
    assert all(10 <= wait <= 15 for wait in waits)
    assert len(set(waits)) > 20


def test_open_time_is_at_least_what_the_dependency_asked_for(make: Make) -> None:
    asked = ConnectionError("busy")
    asked.retry_after = 120  # type: ignore[attr-defined]  # what cb.http sets from the Retry-After header
    dependency = make(failure_threshold=1)
    dependency.fail(asked)
    assert dependency.breaker.snapshot().retry_after == 120


def test_open_time_that_the_dependency_asked_for_is_capped(make: Make) -> None:
    asked = ConnectionError("busy")
    asked.retry_after = float("inf")  # type: ignore[attr-defined]  # what cb.http sets from the Retry-After header
    dependency = make(failure_threshold=1, timeout_max="2m")
    dependency.fail(asked)
    assert dependency.breaker.snapshot().retry_after == 120


def test_ignored_exceptions_touch_no_counter(make: Make) -> None:
    dependency = make(**CONSECUTIVE, rules={"ignored": (LookupError,)})
    dependency.fail()
    dependency.fail()
    dependency.fail(KeyError())
    snapshot = dependency.breaker.snapshot()
    assert (snapshot.window.requests, snapshot.consecutive_failures, snapshot.totals.neutral) == (2, 2, 1)
    dependency.fail()
    assert dependency.breaker.state is State.OPEN


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_interruption_that_comes_early_is_no_outcome(make: Make, interruption: type[BaseException]) -> None:
    dependency = make(failure_threshold=1, slow_call_duration="2s")
    dependency.fail(interruption(), seconds=1.9)
    snapshot = dependency.breaker.snapshot()
    assert (snapshot.state, snapshot.totals.neutral, snapshot.totals.requests) == (State.CLOSED, 1, 0)


def test_interruption_after_the_slow_threshold_is_a_slow_failure(make: Make) -> None:
    dependency = make(failure_threshold=1, slow_call_duration="2s")
    dependency.fail(SystemExit(1), seconds=2)
    snapshot = dependency.breaker.snapshot()
    assert (snapshot.state, snapshot.totals.failures, snapshot.totals.slow) == (State.OPEN, 1, 1)


def test_caller_gets_its_own_exception_also_from_the_call_that_opens_the_circuit(make: Make) -> None:
    error = ValueError("mine")
    dependency = make(failure_threshold=1)
    with pytest.raises(ValueError, match="mine") as raised:
        dependency.breaker.call(_raise, error)
    assert raised.value is error
    assert dependency.breaker.state is State.OPEN


def test_clock_that_goes_back_is_clamped(make: Make, clock: FakeClock) -> None:
    dependency = make()
    clock.advance(-500)
    dependency.answer()
    dependency.fail(seconds=-1)
    snapshot = dependency.breaker.snapshot()
    assert (snapshot.window.requests, snapshot.window.failures, snapshot.age, snapshot.latency.sum) == (2, 1, 0, 0)


def _raise(error: Exception) -> None:
    raise error


class Misbehaving(Exception):
    @property
    def retry_after(self) -> float:
        raise LookupError("no such header")


def test_exception_whose_attributes_fail_reaches_the_caller_as_it_is() -> None:
    breaker = CircuitBreaker("d", ONE)

    def fail() -> None:
        raise Misbehaving

    with pytest.raises(Misbehaving):
        breaker.call(fail)
    assert breaker.state is State.OPEN


@pytest.mark.parametrize("kinds", [KeyError, [KeyError], (KeyError,), lambda error: isinstance(error, KeyError)])
def test_kinds_of_errors_are_a_class_or_classes_or_a_function(kinds: Any) -> None:
    breaker = CircuitBreaker("d", failures=kinds, ignored=kinds)
    with pytest.raises(KeyError):
        breaker.call({}.__getitem__, "none")
    with pytest.raises(ZeroDivisionError):
        breaker.call(divmod, 1, 0)
    totals = breaker.snapshot().totals
    assert (totals.neutral, totals.successes, totals.failures) == (1, 1, 0)


@pytest.mark.parametrize("kinds", [int, ["KeyError"], 7])
def test_other_kinds_of_errors_are_refused_when_the_breaker_is_created(kinds: Any) -> None:
    with pytest.raises(ConfigError, match="ignored must be classes of exceptions, or a function"):
        CircuitBreaker("d", ignored=kinds)


def test_rejection_raised_by_hand_without_arguments_reaches_the_caller() -> None:
    def refuse() -> None:
        raise CircuitOpenError

    with pytest.raises(CircuitOpenError) as raised:
        CircuitBreaker("d").call(refuse)
    assert str(raised.value) == "circuit '?' rejects calls until an operator closes it"


@pytest.mark.parametrize("name", ["TimeoutX", "Störfälle"])
def test_last_failure_has_the_whole_name_of_its_exception(make: Make, name: str) -> None:
    dependency = make()
    dependency.fail(type(name, (ConnectionError,), {})())
    failure = dependency.breaker.snapshot().last_failure
    assert failure is not None and failure.type == name
