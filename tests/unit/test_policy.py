"""Policy: the order of its parts, refusals that are never retried, and the entry points of a breaker."""

from collections.abc import Callable
from typing import Any

import pytest

from cb import (
    BreakerConfig,
    Bulkhead,
    BulkheadFullError,
    CircuitBreaker,
    CircuitOpenError,
    ConfigError,
    Policy,
    RateLimitedError,
    State,
)
from cb.resilience import RateLimit, RetryBudget, StaleCache, open_store, retrying
from cb.testing import FakeClock


class Vendor:
    """A dependency that raises the errors it is given, and then returns its number of calls."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.calls = 0

    def __call__(self, symbol: str = "A") -> str:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return f"{symbol}{self.calls}"


class Trace:
    """A part of each kind that records when it runs."""

    def __init__(self) -> None:
        self.steps: list[str] = []

    def acquire(self) -> None:
        self.steps.append("rate limit")

    def retry(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        self.steps.append("retry")
        return fn(*args, **kwargs)

    def call(self, key: str, fetch: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        self.steps.append(f"cache {key}")
        self.value = fetch(*args, **kwargs)
        return self


def retry_always(fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    """Retry after any exception, a hundred times."""
    for _ in range(100):
        try:
            return fn(*args, **kwargs)
        except Exception as error:  # noqa: BLE001 - the mistake that a policy must not let through
            last = error
    raise last


def breaker(**settings: Any) -> CircuitBreaker:
    return CircuitBreaker("vendor", BreakerConfig(**settings), clock=FakeClock())


def retry(attempts: int = 3, budget: RetryBudget | None = None) -> Any:
    return retrying(ConnectionError, attempts=attempts, budget=budget, sleep=lambda _: None)


def test_parts_stand_in_one_order_however_they_are_given() -> None:
    trace = Trace()
    guard = breaker()
    policy = Policy(guard, rate_limit=trace, cache=trace, bulkhead=2, retry=trace.retry, cache_key=str, fallback=None)

    def vendor(symbol: str) -> str:
        trace.steps.append(f"call with {guard.snapshot().in_flight} in flight")
        return symbol

    assert policy.call(vendor, "A") == "A"
    assert trace.steps == ["cache A", "retry", "rate limit", "call with 1 in flight"]


def test_policy_of_a_breaker_alone_is_the_breaker() -> None:
    guard, vendor = breaker(failure_threshold=2), Vendor(ConnectionError(), ConnectionError())
    policy = Policy(guard)
    for _ in range(2):
        with pytest.raises(ConnectionError):
            policy.call(vendor)
    with pytest.raises(CircuitOpenError):
        policy.call(vendor)
    assert (policy.name, policy.config, guard.state) == ("vendor", guard.config, State.OPEN)


def test_every_attempt_is_limited_admitted_and_counted() -> None:
    guard, vendor, trace = breaker(), Vendor(ConnectionError(), ConnectionError()), Trace()
    policy = Policy(guard, retry=retry(), rate_limit=trace)
    assert policy(vendor)("B") == "B3"
    assert trace.steps == ["rate limit"] * 3
    assert (guard.stats().totals.failures, guard.stats().totals.successes) == (2, 1)


def test_retry_ends_at_the_attempt_that_opens_the_circuit() -> None:
    guard, vendor = breaker(failure_threshold=2), Vendor(*[ConnectionError()] * 9)
    with pytest.raises(CircuitOpenError):
        Policy(guard, retry=retry(attempts=9)).call(vendor)
    assert vendor.calls == 2


@pytest.mark.parametrize("rejects", ["circuit", "bulkhead", "rate limit"])
def test_rejection_is_never_retried_whatever_the_retry_says(rejects: str) -> None:
    guard, vendor, attempts = breaker(), Vendor(), []
    limit = RateLimit("1/hour", name="vendor")
    held, running = Bulkhead(guard, 1), None

    def counting(fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        return retry_always(lambda *a, **k: (attempts.append(1), fn(*a, **k))[1], *args, **kwargs)

    if rejects == "circuit":
        guard.control.force_open(reason="test")
        policy, error = Policy(guard, retry=counting), CircuitOpenError
    elif rejects == "bulkhead":
        running = held.begin()
        policy, error = Policy(guard, retry=counting, bulkhead=held), BulkheadFullError  # type: ignore[assignment]  # a sibling
    else:
        limit.acquire()
        policy, error = Policy(guard, retry=counting, rate_limit=limit), RateLimitedError  # type: ignore[assignment]  # a sibling
    with pytest.raises(error):
        policy.call(vendor)
    assert (len(attempts), vendor.calls) == (1, 0)
    if running:
        running.discard()


def test_group_of_rejections_is_a_rejection_and_a_mixed_group_is_not() -> None:
    rejections = ExceptionGroup("both", [CircuitOpenError("a", 1.0), BulkheadFullError("b", 2)])
    vendor = Vendor(*[rejections] * 9)
    with pytest.raises(ExceptionGroup):
        Policy(breaker(), retry=retry_always).call(vendor)
    assert vendor.calls == 1
    assert Policy(breaker(), fallback="instead").call(Vendor(rejections)) == "instead"
    mixed = ExceptionGroup("mixed", [CircuitOpenError("a", 1.0), ConnectionError()])
    assert Policy(breaker(failure_threshold=None), retry=retry_always).call(Vendor(mixed), "A") == "A2"


def test_budget_that_is_spent_ends_the_retries_with_the_error_of_the_call() -> None:
    vendor = Vendor(*[ConnectionError()] * 50)
    policy = Policy(
        breaker(failure_threshold=None), retry=retry(attempts=10, budget=RetryBudget(0.1, min_per_second=0))
    )
    with pytest.raises(ConnectionError):
        policy.call(vendor)
    assert vendor.calls < 10


def test_cache_answers_after_the_retries_and_for_a_rejection() -> None:
    guard, vendor = breaker(), Vendor()
    cache: StaleCache[str] = StaleCache("vendor", open_store("memory://"), max_stale_age=60)
    policy = Policy(guard, cache=cache, retry=retry(), cache_key=lambda symbol: symbol)
    assert policy.call(vendor, "A") == "A1"
    vendor.errors = [ConnectionError()] * 3
    assert policy.call(vendor, "A") == "A1"
    assert vendor.calls == 4
    guard.control.force_open(reason="test")
    assert policy.call(vendor, "A") == "A1"
    with pytest.raises(CircuitOpenError):
        policy.call(vendor, "B")
    assert vendor.calls == 4


def test_key_of_the_cache_is_by_default_the_arguments() -> None:
    trace = Trace()
    Policy(breaker(), cache=trace).call(lambda *_, **__: 1, "A", 2, side="buy")
    assert trace.steps == ["cache (('A', 2), [('side', 'buy')])"]


def test_fallback_covers_rejections_and_failures_and_nothing_else() -> None:
    guard = CircuitBreaker("vendor", failures=ConnectionError, ignored=LookupError)
    policy = Policy(guard, fallback=lambda error: type(error).__name__)
    assert policy.call(Vendor(ConnectionError())) == "ConnectionError"
    for error in (KeyError("x"), ValueError("x")):
        with pytest.raises(type(error)):
            policy.call(Vendor(error))
    guard.control.force_open(reason="test")
    assert policy(Vendor())() == "CircuitOpenError"
    assert Policy(guard, fallback=7).call(Vendor()) == 7
    assert Policy(guard, fallback=None).call(Vendor()) is None


def test_block_and_begin_are_limited_and_admitted_as_a_call_is() -> None:
    guard, trace = breaker(failure_threshold=1), Trace()
    policy = Policy(guard, rate_limit=trace, bulkhead=1)
    with policy as call:
        assert not call.probe
        with pytest.raises(BulkheadFullError):
            policy.begin()
    with policy.guard(), pytest.raises(BulkheadFullError), policy:
        pass
    policy.begin().succeed()
    with pytest.raises(ConnectionError), policy:
        raise ConnectionError
    assert guard.state is State.OPEN
    assert trace.steps == ["rate limit"] * 6


@pytest.mark.parametrize("part", ["retry", "cache", "fallback"])
def test_block_cannot_be_retried_cached_or_replaced(part: str) -> None:
    parts: dict[str, Any] = {"retry": retry(), "cache": Trace(), "fallback": 1}
    guard = breaker()
    policy = Policy(guard, **{part: parts[part]})
    for use in (policy.begin, policy.guard().__enter__, policy.__enter__):
        with pytest.raises(TypeError, match="needs a function"):
            use()
    assert guard.snapshot().in_flight == 0


def test_client_that_runs_its_attempts_itself_is_retried() -> None:
    guard, vendor = breaker(), Vendor(ConnectionError())
    policy = Policy(guard, retry=retry())

    def attempt() -> str:
        call = policy.attempt()
        try:
            result = vendor()
        except ConnectionError as error:
            call.fail(error)
            raise
        call.succeed(result)
        return result

    assert policy.around(attempt) == "A2"
    assert guard.stats().totals.requests == 2


@pytest.mark.parametrize(
    ("parts", "field"),
    [
        ({"retry": 3}, "retry"),
        ({"rate_limit": "100/second"}, "rate_limit"),
        ({"cache": {}}, "cache"),
        ({"bulkhead": 0}, "limit"),
        ({"bulkhead": Bulkhead(CircuitBreaker("other"), 1)}, "bulkhead"),
        ({"bulkhead": "3"}, "bulkhead"),
        ({"bulkhead": True}, "limit"),
        ({"cache_key": str}, "cache_key"),
    ],
)
def test_part_that_cannot_be_one_is_refused_by_its_name(parts: dict[str, Any], field: str) -> None:
    with pytest.raises(ConfigError, match=f"{field} must"):
        Policy(breaker(), **parts)


async def coroutine() -> None: ...


def test_coroutine_function_is_refused_by_call_as_a_breaker_refuses_it() -> None:
    with pytest.raises(TypeError):
        Policy(breaker()).call(coroutine)


def test_repr_names_the_parts_from_the_outside_in() -> None:
    policy = Policy(breaker(), retry=retry(), fallback=1, bulkhead=3)
    assert repr(policy).startswith("<Policy of fallback, retry, ")
