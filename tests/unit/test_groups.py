"""Exceptions within exceptions: groups, at any depth, and causes."""

import asyncio
from typing import Any

import pytest

from cb import BreakerConfig, CircuitBreaker, CircuitOpenError, ConfigError, State
from cb.resilience import retrying
from cb.resilience.stale import StaleCache
from cb.resilience.stores import MemoryStore

SUCCESS, FAILURE, NEUTRAL = (1, 0, 0), (0, 1, 0), (0, 0, 1)


class NotFound(Exception):
    """An answer."""


class Busy(Exception):
    """An exception that is ignored."""


class Wrapped(Exception):
    """An SDK's error, raised from that of the library below it."""


def outcome(error: BaseException, **rules: Any) -> tuple[int, int, int]:
    breaker = CircuitBreaker("d", **{"failures": (ConnectionError,), "ignored": (Busy,), **rules})
    with pytest.raises(type(error)) as caught:
        breaker.call(raises, error)
    assert caught.value is error
    totals = breaker.snapshot().totals
    return totals.successes, totals.failures, totals.neutral


def raises(error: BaseException) -> None:
    raise error


def group(*errors: BaseException) -> BaseExceptionGroup[BaseException]:
    return BaseExceptionGroup("several", errors)


def from_(cause: BaseException | None, error: BaseException | None = None) -> BaseException:
    error = error or Wrapped()
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (group(ConnectionError()), FAILURE),
        (group(ConnectionResetError(), NotFound()), FAILURE),
        (group(Busy(), ConnectionError()), FAILURE),
        (group(group(group(ConnectionError()))), FAILURE),
        (group(NotFound(), group(Busy(), group(ConnectionError()))), FAILURE),
        (group(KeyboardInterrupt(), ConnectionError()), FAILURE),
        (group(Busy()), NEUTRAL),
        (group(Busy(), group(Busy())), NEUTRAL),
        (group(KeyboardInterrupt()), NEUTRAL),
        (group(KeyboardInterrupt(), Busy()), NEUTRAL),
        (group(asyncio.CancelledError()), NEUTRAL),
        (group(CircuitOpenError("d", 1.0)), NEUTRAL),
        (group(CircuitOpenError("d", 1.0), Busy()), NEUTRAL),
        (group(CircuitOpenError("d", 1.0), ConnectionError()), FAILURE),
        (group(NotFound()), SUCCESS),
        (group(NotFound(), Busy()), SUCCESS),
        (group(from_(ConnectionError())), FAILURE),
    ],
)
def test_group_is_judged_by_its_members(error: BaseException, expected: tuple[int, int, int]) -> None:
    assert outcome(error) == expected


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (from_(ConnectionError()), FAILURE),
        (from_(from_(from_(ConnectionError()))), FAILURE),
        (from_(group(NotFound(), ConnectionError())), FAILURE),
        (from_(ConnectionError(), group(NotFound())), FAILURE),
        (from_(ConnectionError(), group(Busy())), NEUTRAL),
        (from_(ConnectionError(), Busy()), NEUTRAL),
        (from_(ConnectionError(), KeyboardInterrupt()), NEUTRAL),
        (from_(KeyError()), SUCCESS),
        (from_(None), SUCCESS),
        (from_(KeyboardInterrupt()), SUCCESS),
    ],
)
def test_failure_is_a_failure_where_another_exception_was_raised_from_it(
    error: BaseException, expected: tuple[int, int, int]
) -> None:
    assert outcome(error) == expected


def test_exception_during_the_handling_of_a_failure_is_an_answer() -> None:
    breaker = CircuitBreaker("d", failures=ConnectionError)

    def handled() -> None:
        try:
            raise ConnectionError
        except ConnectionError:
            raise NotFound from None

    with pytest.raises(NotFound):
        breaker.call(handled)
    assert breaker.snapshot().totals.successes == 1


def test_causes_in_a_circle_end() -> None:
    first, second = Wrapped(), Wrapped()
    first.__cause__, second.__cause__ = second, first
    assert outcome(first) == SUCCESS
    assert outcome(from_(first, group(second))) == SUCCESS


def test_cause_that_is_ignored_is_no_failure() -> None:
    assert outcome(from_(ConnectionRefusedError()), ignored=ConnectionRefusedError) == SUCCESS


def test_functions_are_asked_about_each_member_and_about_no_cause() -> None:
    def says(error: BaseException) -> bool:
        asked.append(type(error))
        return not isinstance(error, NotFound)

    asked: list[type] = []
    rules: dict[str, Any] = {"failures": says, "ignored": lambda error: error.busy}
    with pytest.raises(AttributeError):
        outcome(group(NotFound()), **rules)  # the function is the caller's own, and its mistake too
    rules["ignored"] = ()
    assert outcome(group(NotFound(), NotFound()), **rules) == SUCCESS
    assert outcome(from_(KeyError(), NotFound()), **rules) == SUCCESS
    assert asked == [NotFound] * 3
    assert outcome(group(NotFound(), KeyError()), **rules) == FAILURE


def test_group_whose_class_is_in_a_rule_matches_with_any_members() -> None:
    assert outcome(ExceptionGroup("g", [NotFound()]), failures=ExceptionGroup) == FAILURE
    assert outcome(ExceptionGroup("g", [ConnectionError()]), ignored=ExceptionGroup) == NEUTRAL


def test_group_counts_by_default_as_its_members_do() -> None:
    assert outcome(group(KeyError()), failures=(Exception,)) == FAILURE
    assert outcome(group(Busy()), failures=(Exception,)) == NEUTRAL
    assert outcome(group(KeyboardInterrupt()), failures=(Exception,)) == NEUTRAL


def test_task_group_whose_tasks_fail_opens_the_circuit() -> None:
    async def bad() -> None:
        raise ConnectionError

    async def main() -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(bad())
            tasks.create_task(bad())

    breaker = CircuitBreaker("d", BreakerConfig(failure_threshold=2), failures=ConnectionError)
    for _ in range(2):
        with pytest.raises(ExceptionGroup):
            breaker.call(asyncio.run, main())
    assert breaker.state is State.OPEN


def test_fallback_stands_in_for_a_group_with_a_failure_or_a_refusal() -> None:
    breaker = CircuitBreaker("d", failures=ConnectionError)
    for error in (group(ConnectionError(), NotFound()), group(CircuitOpenError("d", 1.0))):
        assert breaker(raises, fallback="instead")(error) == "instead"
    with pytest.raises(ExceptionGroup):
        breaker(raises, fallback="instead")(group(NotFound()))


def test_retry_of_a_group_needs_every_member_to_be_worth_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def attempts(error: BaseException) -> int:
        made: list[int] = []

        def fails() -> None:
            made.append(1)
            raise error

        with pytest.raises(BaseException, match=r".*"):
            retrying(Exception if isinstance(error, CircuitOpenError) else (ConnectionError, CircuitOpenError))(fails)
        return len(made)

    monkeypatch.setattr("time.sleep", lambda _: None)
    assert attempts(group(ConnectionError(), ConnectionError())) == 3
    assert attempts(group(ConnectionError(), NotFound())) == 1
    assert attempts(group(ConnectionError(), CircuitOpenError("d", 1.0))) == 1
    assert attempts(CircuitOpenError("d", 1.0)) == 1


def test_stale_value_stands_in_for_a_group_with_one_of_the_errors() -> None:
    cache: StaleCache[int] = StaleCache("c", MemoryStore(), max_stale_age=60)
    cache.call("k", lambda: 7)
    assert cache.call("k", raises, group(ConnectionError(), NotFound())).value == 7
    with pytest.raises(ExceptionGroup):
        cache.call("k", raises, group(NotFound()))


def test_rule_that_is_no_rule_is_refused() -> None:
    with pytest.raises(ConfigError, match="be classes of exceptions"):
        CircuitBreaker("d", failures=("ConnectionError",))  # type: ignore[arg-type]  # the subject
