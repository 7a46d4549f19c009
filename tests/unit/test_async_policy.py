"""Policies around coroutines. No part of one holds the event loop. docs/rules.md, rule 26."""

import asyncio
import inspect
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
import tenacity
import trio

from cb import BreakerConfig, BulkheadFullError, CircuitBreaker, CircuitOpenError, Policy, RateLimitedError, State
from cb.resilience import RateLimit, RetryBudget, StaleCache, open_store, retrying


def run(work: Callable[[], Coroutine[Any, Any, Any]], library: str = "asyncio") -> Any:
    return trio.run(work) if library == "trio" else asyncio.run(work())


@pytest.fixture(params=["asyncio", "trio"])
def library(request: pytest.FixtureRequest) -> str:
    return str(request.param)


class Vendor:
    """A dependency that raises the errors it is given, and then returns its number of calls."""

    def __init__(self, *errors: BaseException) -> None:
        self.errors = list(errors)
        self.calls = 0

    async def __call__(self, symbol: str = "A") -> str:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return f"{symbol}{self.calls}"


def breaker(**settings: Any) -> CircuitBreaker:
    return CircuitBreaker("vendor", BreakerConfig(**settings))


def retry(attempts: int = 3, budget: RetryBudget | None = None) -> Any:
    return retrying(ConnectionError, attempts=attempts, budget=budget, wait_initial=0.001)


class Trace:
    """A part of each kind that records when it runs, and in which thread."""

    def __init__(self) -> None:
        self.steps: list[str] = []

    def acquire(self) -> None:
        assert threading.current_thread() is not threading.main_thread()
        self.steps.append("rate limit")

    def __call__(self, _: Any) -> Any:
        raise AssertionError

    async def retry(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        self.steps.append("retry")
        return await fn(*args, **kwargs)

    def call(self, *_: Any) -> Any:
        raise AssertionError

    async def acall(self, key: str, fetch: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        self.steps.append(f"cache {key}")
        self.value = await fetch(*args, **kwargs)
        return self


def test_parts_stand_in_the_order_that_they_have_around_a_function(library: str) -> None:
    trace, guard = Trace(), breaker()
    policy = Policy(guard, rate_limit=trace, cache=trace, bulkhead=2, retry=trace.retry, cache_key=str, fallback=None)

    @policy
    async def vendor(symbol: str) -> str:
        trace.steps.append(f"call with {guard.snapshot().in_flight} in flight")
        return symbol

    assert inspect.iscoroutinefunction(vendor)
    assert run(lambda: vendor("A"), library) == "A"
    assert trace.steps == ["cache A", "retry", "rate limit", "call with 1 in flight"]


@pytest.mark.parametrize("kind", ["ours", "tenacity's"])
def test_every_attempt_is_admitted_and_counted(library: str, kind: str) -> None:
    guard, vendor = breaker(), Vendor(ConnectionError(), ConnectionError())
    theirs = tenacity.AsyncRetrying(stop=tenacity.stop_after_attempt(3), wait=tenacity.wait_fixed(0.001))
    policy = Policy(guard, retry=retry() if kind == "ours" else theirs)
    assert run(lambda: policy.acall(vendor, "B"), library) == "B3"
    assert (guard.stats().totals.failures, guard.stats().totals.successes) == (2, 1)


def test_rejection_is_never_retried() -> None:
    guard, vendor = breaker(), Vendor()
    guard.control.force_open(reason="test")
    policy = Policy(guard, retry=tenacity.AsyncRetrying())  # would retry anything, for ever
    with pytest.raises(CircuitOpenError):
        run(lambda: policy.acall(vendor))
    assert vendor.calls == 0


def test_cancellation_is_not_retried_and_leaves_nothing_behind() -> None:
    guard, vendor = breaker(), Vendor(asyncio.CancelledError())

    async def work() -> None:
        with pytest.raises(asyncio.CancelledError):
            await Policy(guard, retry=retry(attempts=9), fallback=1, bulkhead=1).acall(vendor)

    run(work)
    assert (vendor.calls, guard.snapshot().in_flight, guard.stats().totals.neutral) == (1, 0, 1)


def test_concurrent_calls_of_one_policy_are_retried_each_by_itself() -> None:
    guard = breaker(failure_threshold=None, failure_rate_threshold=1.0)
    vendors = [Vendor(*[ConnectionError()] * number) for number in range(3)]
    policies = [
        Policy(guard, retry=retry(), fallback="none"),
        Policy(guard, retry=tenacity.AsyncRetrying(stop=tenacity.stop_after_attempt(3), reraise=True), fallback="none"),
    ]

    async def work(policy: Policy) -> list[str]:
        return await asyncio.gather(*(policy.acall(vendor) for vendor in vendors))

    for policy in policies:
        for number, vendor in enumerate(vendors):
            vendor.errors, vendor.calls = [ConnectionError()] * number, 0
        assert run(lambda: work(policy)) == ["A1", "A2", "A3"]  # noqa: B023 - it is called in this iteration


async def stale(error: Exception) -> str:
    return type(error).__name__


@pytest.mark.parametrize("fallback", [stale, lambda error: type(error).__name__])
def test_fallback_covers_rejections_and_failures_and_nothing_else(fallback: Any, library: str) -> None:
    guard = CircuitBreaker("vendor", failures=ConnectionError)
    policy = Policy(guard, fallback=fallback)
    assert run(lambda: policy.acall(Vendor(ConnectionError())), library) == "ConnectionError"
    with pytest.raises(ValueError, match="x"):
        run(lambda: policy.acall(Vendor(ValueError("x"))), library)
    guard.control.force_open(reason="test")
    assert run(lambda: policy.acall(Vendor()), library) == "CircuitOpenError"
    assert run(lambda: Policy(guard, fallback=None).acall(Vendor()), library) is None


def test_block_and_generator_are_limited_and_admitted(library: str) -> None:
    guard = breaker(failure_threshold=1)
    policy = Policy(guard, rate_limit=RateLimit("3/hour", name="vendor"), bulkhead=1)

    @policy
    async def items() -> AsyncIterator[int]:
        with pytest.raises(BulkheadFullError):
            await policy.acall(Vendor())
        yield 1

    async def work() -> None:
        async with policy as call:
            assert not call.probe
        assert [each async for each in items()] == [1]
        with pytest.raises(RateLimitedError):
            await policy.acall(Vendor())

    run(work, library)
    assert guard.snapshot().in_flight == 0
    assert guard.stats().totals.successes == 2


@pytest.mark.parametrize("part", ["retry", "cache", "fallback"])
def test_block_and_generator_cannot_be_retried_cached_or_replaced(part: str) -> None:
    parts: dict[str, Any] = {"retry": retry(), "cache": Trace(), "fallback": 1}
    policy = Policy(breaker(), **{part: parts[part]})

    async def items() -> AsyncIterator[int]:
        yield 1

    async def block() -> None:
        async with policy:
            pass

    with pytest.raises(TypeError, match="needs a coroutine function"):
        run(block)
    with pytest.raises(TypeError, match="needs a function or a coroutine function"):
        policy(items)


def retry_of_functions(fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    return fn(*args, **kwargs)


@pytest.mark.parametrize(
    "parts", [{"retry": retry_of_functions}, {"cache": type("Cache", (), {"call": retry_of_functions})()}]
)
def test_part_that_cannot_await_is_refused_before_the_call(parts: dict[str, Any]) -> None:
    guard, vendor = breaker(), Vendor()
    policy = Policy(guard, **parts)
    with pytest.raises(TypeError, match="cannot await"):
        policy(vendor)
    with pytest.raises(TypeError, match="cannot await"):
        run(lambda: policy.acall(vendor))
    assert vendor.calls == guard.stats().totals.requests == 0


@pytest.mark.parametrize(
    ("parts", "message"),
    [({"retry": tenacity.AsyncRetrying()}, "coroutines only"), ({"fallback": stale}, "is a coroutine")],
)
def test_part_that_must_be_awaited_is_refused_around_a_function(parts: dict[str, Any], message: str) -> None:
    policy = Policy(breaker(), **parts)
    for use in (policy, policy.call):
        with pytest.raises(TypeError, match=message):
            use(str)


def test_half_open_circuit_closes_by_the_attempts_of_a_policy() -> None:
    guard = breaker(failure_threshold=1, timeout=0.001, timeout_jitter=0, success_threshold=1)
    vendor = Vendor(ConnectionError(), ConnectionError())
    policy = Policy(guard, fallback="none")

    async def work() -> None:
        while await policy.acall(vendor) == "none":
            await asyncio.sleep(0.002)

    run(work)
    assert guard.state is State.CLOSED


# The parts by themselves


def test_coroutine_is_retried_with_the_waits_that_were_asked_for() -> None:
    slept: list[float] = []
    retrier = retrying(ConnectionError, sleep=slept.append, uniform=lambda _, high: high)
    vendor = Vendor(ConnectionError(), ConnectionError())
    assert run(lambda: retrier.acall(vendor, "B")) == "B3"
    wrapped = retrier.wraps(vendor)
    vendor.errors = [ConnectionError()]
    assert inspect.iscoroutinefunction(wrapped)
    assert run(wrapped) == "A5"
    assert slept == [0.1, 0.2, 0.1]


def test_error_of_the_last_attempt_of_a_coroutine_is_raised_as_it_is(library: str) -> None:
    last = ConnectionError()
    with pytest.raises(ConnectionError) as raised:
        run(lambda: retry().acall(Vendor(ConnectionError(), ConnectionError(), last)), library)
    assert raised.value is last


@pytest.mark.parametrize("storage", ["memory://", "file://"])
def test_rate_of_coroutines_is_limited_and_only_a_shared_storage_is_asked_in_a_thread(
    tmp_path: Path, library: str, storage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[threading.Thread] = []
    acquire = RateLimit.acquire
    monkeypatch.setattr(
        RateLimit, "acquire", lambda *args: (threads.append(threading.current_thread()), acquire(*args))[1]
    )
    with RateLimit("2/hour", storage if storage == "memory://" else f"file://{tmp_path}/rates", name="a") as limit:

        @limit
        async def limited() -> int:
            return 1

        async def work() -> None:
            assert (await limited(), await limit.acall(limited.__wrapped__)) == (1, 1)  # type: ignore[attr-defined]  # of wraps
            with pytest.raises(RateLimitedError):
                await limited()

        assert inspect.iscoroutinefunction(limited)
        run(work, library)
    assert all((each is threading.main_thread()) == (storage == "memory://") for each in threads)
    assert len(threads) == 3


def test_rate_limit_refuses_an_asynchronous_generator() -> None:
    async def items() -> AsyncIterator[int]:
        yield 1

    with pytest.raises(TypeError, match="limit it by a Policy"):
        RateLimit("2/hour", name="a")(items)


@pytest.mark.parametrize("url", ["memory://", "file://"])
def test_coroutine_that_fails_is_replaced_by_the_last_good_value(tmp_path: Path, library: str, url: str) -> None:
    with open_store(url if url == "memory://" else f"file://{tmp_path}/stale") as store:
        cache: StaleCache[str] = StaleCache("c", store, max_stale_age=60)
        vendor = Vendor()

        async def work() -> None:
            assert (await cache.acall("A", vendor)).value == "A1"
            vendor.errors = [ConnectionError(), LookupError()]
            replaced = await cache.acall("A", vendor)
            assert (replaced.value, replaced.stale) == ("A1", True)
            with pytest.raises(LookupError):
                await cache.acall("A", vendor)
            vendor.errors = [ConnectionError()]
            with pytest.raises(ConnectionError):
                await cache.acall("B", vendor)

        run(work, library)


def test_fresh_value_is_returned_without_a_call_of_the_coroutine() -> None:
    cache: StaleCache[str] = StaleCache("c", "memory://", max_stale_age=60, max_age=30)
    vendor = Vendor()

    async def work() -> None:
        for _ in range(2):
            assert (await cache.acall("A", vendor)).value == "A1"

    run(work)
    assert vendor.calls == 1


def test_store_that_other_processes_share_is_used_in_a_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store(f"file://{tmp_path}/stale")
    threads: list[threading.Thread] = []
    for name in ("get", "put"):
        method = getattr(store, name)
        monkeypatch.setattr(
            store, name, lambda *args, method=method: (threads.append(threading.current_thread()), method(*args))[1]
        )
    cache: StaleCache[str] = StaleCache("c", store, max_stale_age=60, max_age=30)
    run(lambda: cache.acall("A", Vendor()))
    assert len(threads) == 2
    assert threading.main_thread() not in threads
    store.close()
