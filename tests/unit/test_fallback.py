"""Fallback values; the breaker counts calls as it does without them."""

from typing import Any

import pytest

from cb import BreakerConfig, CircuitBreaker, CircuitOpenError, State
from cb.testing import breaker_in

ONCE = BreakerConfig(failure_threshold=1)


class Down(Exception):
    pass


def fail(error: BaseException = Down()) -> str:  # noqa: B008  # one exception is as good as another
    raise error


def counted(breaker: CircuitBreaker) -> tuple[int, int, int, int]:
    totals = breaker.snapshot().totals
    return totals.successes, totals.failures, totals.neutral, totals.rejected


def test_answer_is_returned_as_it_is_and_the_function_keeps_its_name_and_arguments() -> None:
    breaker = CircuitBreaker("d")

    @breaker(fallback=0)
    def add(one: int, *, other: int) -> int:
        """Add."""
        return one + other

    assert add(1, other=2) == 3
    assert (add.__name__, add.__doc__) == ("add", "Add.")
    assert counted(breaker) == (1, 0, 0, 0)


def test_failure_is_answered_by_the_value_and_counts_all_the_same() -> None:
    breaker, nothing = CircuitBreaker("d", ONCE), list[str]()
    guarded = breaker(fallback=nothing)(fail)
    assert guarded() is nothing
    assert counted(breaker) == (0, 1, 0, 0)
    assert breaker.state is State.OPEN


def test_refusal_is_answered_by_the_value_and_the_function_is_not_called() -> None:
    breaker = breaker_in(State.OPEN)
    assert breaker(fallback=None)(lambda: pytest.fail("an open circuit let a call through"))() is None
    assert counted(breaker)[3] == 1


def test_function_makes_the_answer_of_the_exception() -> None:
    breaker, down = CircuitBreaker("d", ONCE), Down("for maintenance")
    seen = list[Exception]()

    def stale(error: Exception) -> str:
        seen.append(error)
        return "stale"

    guarded = breaker(fallback=stale)(fail)
    assert (guarded(down), guarded(down)) == ("stale", "stale")
    assert seen[0] is down
    assert isinstance(seen[1], CircuitOpenError) and seen[1].name == "d"


def test_fallback_that_fails_itself_is_heard_of() -> None:
    with pytest.raises(ZeroDivisionError) as raised:
        CircuitBreaker("d")(fallback=lambda _: 1 // 0)(fail)()
    assert isinstance(raised.value.__context__, Down)


@pytest.mark.parametrize(
    ("error", "outcome"),
    [(KeyError(), (1, 0, 0, 0)), (LookupError(), (0, 0, 1, 0)), (KeyboardInterrupt(), (0, 0, 1, 0))],
    ids=["answer", "ignored", "interruption"],
)
def test_exception_that_is_no_failure_is_raised(error: BaseException, outcome: tuple[int, ...]) -> None:
    breaker = CircuitBreaker("d", failures=(Down,), ignored=lambda raised: type(raised) is LookupError)
    with pytest.raises(type(error)) as raised:
        breaker(fallback="instead")(fail)(error)
    assert raised.value is error
    assert counted(breaker) == outcome


def test_refusal_of_another_circuit_is_a_failure_like_any_other() -> None:
    guarded = breaker_in(State.OPEN)(lambda: "unreachable")
    assert CircuitBreaker("a")(fallback="instead")(guarded)() == "instead"
    with pytest.raises(CircuitOpenError):
        CircuitBreaker("b", failures=(Down,))(fallback="instead")(guarded)()


def test_refusal_of_its_own_circuit_by_a_call_within_the_call_is_answered() -> None:
    breaker = CircuitBreaker("d", ONCE, failures=(Down,))

    def outer() -> str:
        breaker(fallback=None)(fail)()
        return breaker.call(str)

    assert breaker(fallback="instead")(outer)() == "instead"


def test_result_that_counts_as_failed_is_returned_as_it_is() -> None:
    breaker = CircuitBreaker("d", failed_result=lambda status: status >= 500)
    assert breaker(fallback=200)(lambda: 503)() == 503
    assert counted(breaker) == (0, 1, 0, 0)


def test_function_may_be_given_at_once() -> None:
    assert CircuitBreaker("d")(fail, fallback="instead")() == "instead"


@pytest.mark.parametrize("wrong", ["text", 7])
def test_decorating_no_function_raises_and_counts_nothing(wrong: Any) -> None:
    breaker = CircuitBreaker("d")
    for use in (breaker, breaker.call, breaker(fallback=1)):
        with pytest.raises(TypeError, match=r"is not a function: write `@breaker`, or `@breaker\(fallback=...\)`"):
            use(wrong)
    assert counted(breaker) == (0, 0, 0, 0)


def test_decorator_with_brackets_and_no_fallback_raises_with_the_right_form() -> None:
    guard: Any = CircuitBreaker("d")
    with pytest.raises(TypeError, match="None is not a function: write `@breaker`"):
        guard()
