"""Coroutines and asynchronous generators, guarded until they are done. docs/rules.md, rules 7 and 21."""

import asyncio
import functools
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace
from functools import partial
from typing import Any
from unittest.mock import AsyncMock

import pytest
import trio

from cb import BreakerConfig, CircuitBreaker, CircuitOpenError, State
from cb.testing import FakeClock
from tests.unit.conftest import ONE, due

RUNNERS = {"asyncio": asyncio.run, "trio": trio.run}


def run(work: Callable[[], Coroutine[Any, Any, Any]], library: str = "asyncio") -> Any:
    return trio.run(work) if library == "trio" else asyncio.run(work())


async def fetch(value: int = 1, error: BaseException | None = None) -> int:
    await asyncio.sleep(0)
    if error:
        raise error
    return value


class Client:
    async def __call__(self, value: int = 1, error: BaseException | None = None) -> int:
        return await fetch(value, error)

    async def method(self, value: int = 1, error: BaseException | None = None) -> int:
        return await fetch(value, error)

    static = staticmethod(fetch)


def of_totals(breaker: CircuitBreaker) -> tuple[int, int, int]:
    """Return successes, failures and neutral outcomes. No call may be running."""
    snapshot = breaker.snapshot()
    assert snapshot.in_flight == 0
    return snapshot.totals.successes, snapshot.totals.failures, snapshot.totals.neutral


ASYNCHRONOUS = {
    "function": fetch,
    "partial": partial(fetch),
    "object": Client(),
    "method": Client().method,
    "static method": Client.static,
    "mock": AsyncMock(side_effect=fetch),
}


@pytest.mark.parametrize("fn", ASYNCHRONOUS.values(), ids=ASYNCHRONOUS)
def test_decorated_coroutine_counts_when_it_is_done_and_looks_like_one(fn: Callable[..., Awaitable[int]]) -> None:
    breaker = CircuitBreaker("d", BreakerConfig(failure_threshold=2))
    guarded = breaker(fn)
    assert inspect.iscoroutinefunction(guarded)

    async def work() -> None:
        pending = guarded(3)
        assert of_totals(breaker) == (0, 0, 0)
        assert await pending == 3
        for _ in range(2):
            with pytest.raises(ConnectionError):
                await guarded(0, ConnectionError())
        with pytest.raises(CircuitOpenError):
            await guarded()

    run(work)
    assert of_totals(breaker) == (1, 2, 0)
    assert breaker.state is State.OPEN


async def in_a_task(value: int, error: BaseException | None) -> Awaitable[int]:
    return asyncio.create_task(fetch(value, error))


def in_a_pool(work: Any) -> Any:
    """Return the future of a thread of its own: one of the import has no thread in the forks of `make mutate`."""
    pool = ThreadPoolExecutor(1)
    try:
        return pool.submit(asyncio.run, work)
    finally:
        pool.shutdown(wait=False)


LATE: dict[str, Callable[..., Any]] = {
    **ASYNCHRONOUS,
    "lambda": lambda value, error: fetch(value, error=error),
    "wraps": functools.wraps(fetch)(lambda value, error: fetch(value, error=error)),
    "task": lambda *args: asyncio.create_task(fetch(*args)),
    "gather": lambda *args: asyncio.gather(fetch(*args)),
    "future": lambda *args: asyncio.ensure_future(fetch(*args)),
    "future of a pool": lambda *args: in_a_pool(fetch(*args)),
    "shielded": lambda *args: asyncio.shield(fetch(*args)),
}


@pytest.mark.parametrize("fn", LATE.values(), ids=LATE)
def test_awaitable_that_a_function_returns_is_awaited_by_acall(fn: Callable[..., Any]) -> None:
    breaker = CircuitBreaker("d", BreakerConfig(failure_threshold=2))

    async def work() -> None:
        assert await breaker.acall(fn, 3, None) in (3, [3])
        for _ in range(2):
            with pytest.raises(ConnectionError):
                await breaker.acall(fn, 0, ConnectionError())
        with pytest.raises(CircuitOpenError):
            await breaker.acall(fn, 0, None)

    run(work)
    assert of_totals(breaker) == (1, 2, 0)


def test_complete_result_of_a_plain_function_is_a_success_of_acall() -> None:
    breaker = CircuitBreaker("d")
    assert run(lambda: breaker.acall(divmod, 7, 2)) == (3, 1)
    assert of_totals(breaker) == (1, 0, 0)


async def pieces(number: int = 3, error: BaseException | None = None) -> AsyncIterator[int]:
    for each in range(number):
        await asyncio.sleep(0)
        yield each
    if error:
        raise error


@pytest.mark.parametrize("fn", [lambda: (each for each in [1]), lambda: pieces(1), asynccontextmanager(pieces)])
def test_result_of_acall_that_is_neither_complete_nor_awaitable_is_refused(fn: Callable[[], Any]) -> None:
    breaker = CircuitBreaker("d")
    with pytest.raises(TypeError, match="done later"):
        run(lambda: breaker.acall(fn))
    assert of_totals(breaker) == (0, 0, 1)


def test_generator_function_is_refused_by_acall_before_it_is_called() -> None:
    breaker = CircuitBreaker("d")
    with pytest.raises(TypeError, match="after the call has returned"):
        run(lambda: breaker.acall(pieces))
    assert of_totals(breaker) == (0, 0, 0)


def test_coroutine_in_place_of_its_function_is_refused_and_closed() -> None:
    breaker: Any = CircuitBreaker("d")
    with pytest.raises(TypeError, match="pass the function"):
        run(lambda: breaker.acall(fetch()))
    assert of_totals(breaker) == (0, 0, 0)


def test_coroutine_in_a_call_that_does_not_await_is_refused_with_the_way_to_do_it() -> None:
    breaker = CircuitBreaker("d")
    with pytest.raises(TypeError, match="`acall` or a decorator awaits it"):
        breaker.call(fetch)
    with pytest.raises(TypeError, match="`acall` awaits it"):
        breaker.call(lambda: fetch(1))
    assert of_totals(breaker) == (0, 0, 1)


def test_result_that_is_a_failure_is_one_of_a_coroutine_too() -> None:
    breaker = CircuitBreaker("d", failed_result=lambda value: value == 5)
    guarded = breaker(fetch)

    async def work() -> None:
        await guarded(1)
        await guarded(5)
        await breaker.acall(lambda: fetch(5))

    run(work)
    assert of_totals(breaker) == (1, 2, 0)


# Fallbacks


async def stale(error: Exception) -> str:
    await asyncio.sleep(0)
    return type(error).__name__


@pytest.mark.parametrize("fallback", [stale, lambda error: type(error).__name__])
def test_fallback_of_a_coroutine_is_a_function_or_a_coroutine_function(fallback: Any) -> None:
    breaker = CircuitBreaker("d", BreakerConfig(failure_threshold=1))
    guarded = breaker(fetch, fallback=fallback)

    async def work() -> list[object]:
        return [await guarded(1), await guarded(0, ConnectionError()), await guarded(1)]

    assert run(work) == [1, "ConnectionError", "CircuitOpenError"]
    assert inspect.iscoroutinefunction(guarded)


def test_fallback_of_a_coroutine_is_a_value() -> None:
    assert run(CircuitBreaker("d")(fallback=[])(partial(fetch, 0, ConnectionError()))) == []


def test_fallback_that_does_not_fit_is_refused_when_the_function_is_decorated() -> None:
    breaker = CircuitBreaker("d")
    with pytest.raises(TypeError, match="is a coroutine function"):
        breaker(int, fallback=stale)
    with pytest.raises(TypeError, match="after the call has returned"):
        breaker(pieces, fallback=[])


# Blocks


@pytest.mark.parametrize("library", RUNNERS)
@pytest.mark.parametrize("block", [lambda breaker: breaker, lambda breaker: breaker.guard()])
def test_asynchronous_block_is_a_call(block: Callable[[CircuitBreaker], Any], library: str) -> None:
    breaker = CircuitBreaker("d")

    async def work() -> None:
        async with block(breaker) as call:
            assert breaker.snapshot().in_flight == 1
            assert not call.probe
        with pytest.raises(ConnectionError):
            async with block(breaker):
                raise ConnectionError
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(block(breaker))

    run(work, library)
    assert of_totals(breaker) == (2, 1, 0)


def test_blocks_of_tasks_and_exit_stacks_end_each_with_its_own_outcome() -> None:
    breaker = CircuitBreaker("d", BreakerConfig(failure_threshold=None))

    async def block(number: int, enter: Callable[[AsyncExitStack], Awaitable[object]]) -> None:
        with suppress(ConnectionError):
            async with AsyncExitStack() as stack:
                await enter(stack)
                await asyncio.sleep(0.001 * number)
                if number % 2:
                    raise ConnectionError

    async def aenter(stack: AsyncExitStack) -> None:
        await stack.enter_async_context(breaker)

    async def enter(stack: AsyncExitStack) -> None:
        stack.enter_context(breaker)

    async def work() -> None:
        await asyncio.gather(*(block(number, way) for number in range(3) for way in (aenter, enter)))

    run(work)
    assert of_totals(breaker) == (4, 2, 0)


def test_asynchronous_block_that_ends_in_another_coroutine_raises() -> None:
    breaker = CircuitBreaker("d")

    async def enter() -> None:
        await breaker.__aenter__()

    async def work() -> None:
        await enter()
        with pytest.raises(RuntimeError, match=r"with breaker\.guard\(\)"):
            await breaker.__aexit__(None, None, None)

    run(work)


# Cancellation


async def hangs() -> None:
    await asyncio.Event().wait()


@pytest.mark.parametrize(("seconds", "outcome"), [(1, (0, 0, 1)), (3, (0, 1, 0))])
@pytest.mark.parametrize("way", ["decorator", "acall", "block"])
def test_cancellation_is_neutral_early_and_a_failure_after_the_slow_threshold(
    clock: FakeClock, seconds: float, outcome: tuple[int, int, int], way: str
) -> None:
    breaker = CircuitBreaker("d", BreakerConfig(slow_call_duration=2), clock=clock)

    async def block() -> None:
        async with breaker:
            await hangs()

    async def work() -> None:
        ways = {"decorator": breaker(hangs), "acall": partial(breaker.acall, hangs), "block": block}
        task = asyncio.create_task(ways[way]())
        await asyncio.sleep(0)
        clock.advance(seconds)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(work)
    assert of_totals(breaker) == outcome


def test_timeout_around_a_call_is_a_cancellation_and_one_inside_is_a_failure() -> None:
    breaker = CircuitBreaker("d")

    @breaker
    async def limited() -> None:
        async with asyncio.timeout(0):
            await hangs()

    async def work() -> None:
        with pytest.raises(TimeoutError):
            await limited()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(breaker.acall(hangs), 0.001)

    run(work)
    assert of_totals(breaker) == (0, 1, 1)


def test_cancelled_probe_gives_its_permit_back_at_once(breaker: CircuitBreaker) -> None:
    async def work() -> None:
        task = asyncio.create_task(breaker.acall(hangs))
        await asyncio.sleep(0)
        with pytest.raises(CircuitOpenError):
            await breaker.acall(fetch)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await breaker.acall(fetch) == 1

    run(work)
    assert breaker.state is State.CLOSED


def test_scope_that_trio_cancels_is_no_failure() -> None:
    breaker = CircuitBreaker("d", BreakerConfig(failure_threshold=1))

    async def work() -> None:
        with trio.move_on_after(0):
            await breaker.acall(trio.sleep, 60)

    run(work, "trio")
    assert of_totals(breaker) == (0, 0, 1)


def test_task_group_is_classified_by_the_exceptions_in_it() -> None:
    breaker = CircuitBreaker("d", failures=(ConnectionError,))

    @breaker
    async def all_of(*errors: BaseException) -> None:
        async with asyncio.TaskGroup() as group:
            for error in errors:
                group.create_task(fetch(0, error))

    async def work() -> None:
        for errors in ((LookupError(), ConnectionError()), (LookupError(), ValueError()), ()):
            with suppress(ExceptionGroup):
                await all_of(*errors)

    run(work)
    assert of_totals(breaker) == (2, 1, 0)


def test_coroutine_that_is_closed_or_dropped_is_neutral() -> None:
    breaker = CircuitBreaker("d", BreakerConfig(failure_threshold=1))
    for end in (lambda coroutine: coroutine.close(), lambda _: None):
        coroutine = breaker(fetch)()
        coroutine.send(None)
        assert breaker.snapshot().in_flight == 1
        end(coroutine)
        del coroutine
    assert of_totals(breaker) == (0, 0, 2)


# Probes


@pytest.mark.parametrize("library", RUNNERS)
def test_task_of_a_probe_is_inside_it_and_other_tasks_are_not(clock: FakeClock, library: str) -> None:
    breaker = due(CircuitBreaker("d", ONE, clock=clock), clock)
    seen: list[object] = []

    async def call() -> None:
        try:
            seen.append(await breaker.acall(completed))
        except CircuitOpenError:
            seen.append("rejected")

    async def completed() -> str:
        return "called"

    async def probe(started: Any, end: Any) -> None:
        async with breaker:
            if library == "trio":
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(call)
            else:
                await asyncio.create_task(call())
            started.set()
            await end.wait()

    async def work() -> None:
        events = [trio.Event() if library == "trio" else asyncio.Event() for _ in range(2)]
        if library == "trio":
            async with trio.open_nursery() as nursery:
                nursery.start_soon(probe, *events)
                await events[0].wait()
                await call()
                events[1].set()
        else:
            task = asyncio.create_task(probe(*events))
            await events[0].wait()
            await call()
            events[1].set()
            await task

    run(work, library)
    assert seen == ["called", "rejected"]
    assert breaker.state is State.CLOSED


def test_round_of_concurrent_probes_admits_its_number_and_closes(clock: FakeClock) -> None:
    breaker = due(CircuitBreaker("d", replace(ONE, max_requests=3, success_threshold=3), clock=clock), clock)

    async def work() -> list[object]:
        return await asyncio.gather(*(breaker.acall(fetch, each) for each in range(5)), return_exceptions=True)

    results = run(work)
    assert [type(each) for each in results] == [int, int, int, CircuitOpenError, CircuitOpenError]
    assert breaker.state is State.CLOSED
