"""Calls that return something whose work is done later: no outcome can be seen, so none is counted."""

import asyncio
import functools
import gc
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from multiprocessing.pool import ThreadPool
from typing import Any

import pytest
from werkzeug.local import LocalProxy

from cb import (
    BreakerConfig,
    Bulkhead,
    CircuitBreaker,
    ConfigError,
    Monitor,
    State,
)
from cb.resilience import retrying
from cb.resilience.stale import StaleCache
from cb.resilience.stores import MemoryStore
from cb.state.deferred import PROMPT, require_done


async def coroutine() -> None:
    raise ConnectionError


async def pieces() -> Any:
    yield 1


@contextmanager
def manager() -> Iterator[None]:
    yield


@asynccontextmanager
async def async_manager() -> Any:
    yield


class Awaitable:
    def __await__(self) -> Any:
        yield


class Promise:
    """A future of another library."""

    def add_done_callback(self, _: Any) -> None:
        pass


class Loose(Future[int]):
    pass


def wrapped(fn: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(fn)
    def inner(*args: Any) -> Any:
        return fn(*args)

    return inner


def iter_pieces() -> Iterator[int]:
    yield 1


class Service:
    def __call__(self) -> Any:
        return coroutine()

    @property
    def answer(self) -> Any:
        return coroutine()


LATE = {
    "function": wrapped(coroutine),
    "partial": functools.partial(lambda fn: fn(), coroutine),
    "wraps twice": wrapped(wrapped(coroutine)),
    "object": Service(),
    "property": functools.partial(getattr, Service(), "answer"),
    "future": Future,
    "future of a subclass": Loose,
    "future of asyncio": lambda: asyncio.Future(loop=LOOP),
    "task": lambda: LOOP.create_task(asyncio.Event().wait()),
    "gather": lambda: asyncio.gather(asyncio.Future(loop=LOOP)),
    "generator": lambda: (each for each in [1]),
    "generator function": wrapped(iter_pieces),
    "asynchronous generator": wrapped(pieces),
    "awaitable": Awaitable,
    "future of another library": Promise,
    "context manager of a generator": wrapped(manager),
    "asynchronous context manager": wrapped(async_manager),
    "proxy": lambda: LocalProxy(Future),
}
LOOP = asyncio.new_event_loop()


@pytest.mark.parametrize("fn", LATE.values(), ids=LATE)
def test_result_that_is_still_to_come_is_refused_and_counts_as_nothing(fn: Callable[[], Any]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # of a coroutine that was never awaited
        for guard in (CircuitBreaker("d"), Bulkhead(CircuitBreaker("d"), 1)):
            breaker = guard if isinstance(guard, CircuitBreaker) else guard.breaker
            for call in (lambda guard=guard: guard.call(fn), guard(fn)):
                with pytest.raises(TypeError, match="done later"):
                    call()
            assert guard.call(str) == ""  # a quick one is counted again
            totals = breaker.snapshot().totals
            assert (totals.successes, totals.failures, totals.neutral) == (1, 0, 2)
            assert breaker.snapshot().in_flight == 0
        gc.collect(0)  # a coroutine of this test is young; all generations take a second


def test_future_of_a_pool_is_refused() -> None:
    breaker = CircuitBreaker("d")
    with ThreadPoolExecutor(1) as executor, ThreadPool(1) as pool:
        for submit in (executor.submit, pool.apply_async):
            with pytest.raises(TypeError, match="done later"):
                breaker.call(submit, int)  # type: ignore[arg-type]  # of both signatures
    assert breaker.snapshot().totals.neutral == 2


def test_result_that_is_late_at_last_is_refused_after_a_thousand_that_were_not() -> None:
    breaker = CircuitBreaker("d", BreakerConfig(failure_threshold=1))
    results: list[Any] = [None] * 1000 + [{}, "text", Future()]
    guarded = breaker(functools.partial(next, iter(results)))
    for _ in results[:-1]:
        guarded()
    with pytest.raises(TypeError, match="Future"):
        guarded()
    assert breaker.snapshot().totals.successes == 1002


@pytest.mark.parametrize(
    "result",
    [
        None,
        1,
        {},
        object(),
        LocalProxy(lambda: 3),
        iter([1]),
        map(abs, [1]),
        range(3),
        int,
        coroutine,
        open,
    ],
    ids=lambda value: type(value).__name__,
)
def test_result_that_is_complete_is_returned_as_it_is(result: object) -> None:
    breaker = CircuitBreaker("d")
    for _ in range(3):
        assert breaker.call(lambda: result) is result
    assert breaker.snapshot().totals.successes == 3


def test_classes_without_end_are_not_kept() -> None:
    for number in range(3000):
        require_done(type(f"Class{number}", (), {})())
    assert len(PROMPT) < 1500


@pytest.mark.parametrize("rule", ["failures", "ignored", "failed_result"])
def test_rule_that_answers_later_is_refused(rule: str) -> None:
    async def says(_: object) -> bool:
        return True

    with pytest.raises(ConfigError, match=f"{rule} must return its result"):
        CircuitBreaker("d", **{rule: says})  # type: ignore[arg-type]  # the subject

    breaker = CircuitBreaker("d", **{rule: wrapped(says)})  # type: ignore[arg-type]  # the subject
    with pytest.raises(TypeError, match="done later"):
        breaker.call(fails if rule != "failed_result" else int)
    totals = breaker.snapshot().totals
    assert (totals.successes, totals.failures, totals.neutral) == (0, 0, 1)


def fails() -> None:
    raise ConnectionError


def test_health_check_that_returns_a_coroutine_is_a_failure() -> None:
    breaker = CircuitBreaker("d")
    monitor = Monitor()
    with pytest.raises(TypeError, match="after the call"):
        monitor.add(breaker, coroutine)
    monitor.add(breaker, wrapped(coroutine))
    monitor.turn()
    health = breaker.snapshot().health
    assert health is not None and health.up is False and breaker.state is State.CLOSED


def test_retry_of_what_answers_later_is_refused() -> None:
    with pytest.raises(TypeError, match="done later"):
        retrying(ConnectionError)(wrapped(coroutine))


def test_mistake_of_the_caller_is_not_hidden_by_a_fallback_and_is_no_failure_of_a_breaker_around_it() -> None:
    breaker, around = CircuitBreaker("d"), CircuitBreaker("around", BreakerConfig(failure_threshold=1))
    for guarded in (breaker(wrapped(coroutine), fallback=0), breaker(wrapped(pieces), fallback=lambda _: 0)):
        with pytest.raises(TypeError, match="done later"):
            around.call(guarded)
    with pytest.raises(TypeError, match="after the call has returned"):
        around.call(lambda: breaker.call(coroutine))
    assert around.state is State.CLOSED
    assert (around.snapshot().totals.neutral, around.snapshot().totals.failures) == (3, 0)


def test_mistake_of_the_caller_is_not_hidden_by_a_stale_value() -> None:
    cache: StaleCache[Any] = StaleCache("c", MemoryStore(), max_stale_age=60, errors=Exception)
    cache.call("key", lambda: 1)
    with pytest.raises(TypeError, match="done later"):
        cache.call("key", lambda: CircuitBreaker("d").call(wrapped(coroutine)))


async def fetch() -> None: ...


class Fetch:
    async def __call__(self) -> None: ...


@pytest.mark.parametrize("later", [fetch, partial(fetch), Fetch()])
def test_callable_that_works_after_its_call_has_returned_is_refused(later: Callable[[], object]) -> None:
    breaker = CircuitBreaker("d")
    with pytest.raises(TypeError, match="does its work after the call has returned"):
        breaker.call(later)
    assert breaker.snapshot().totals.requests == 0
