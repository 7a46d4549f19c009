"""Asynchronous generators under a breaker: one call, until they end or are closed. docs/rules.md, rules 7 and 21."""

import asyncio
import gc
import inspect
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager, nullcontext
from typing import Any

import pytest
import trio

from cb import BreakerConfig, CircuitBreaker, CircuitOpenError, State
from cb.testing import FakeClock
from tests.unit.test_async import RUNNERS, of_totals, pieces, run


def test_asynchronous_generator_is_one_call_until_it_ends() -> None:
    breaker = CircuitBreaker("d")
    guarded = breaker(pieces)
    assert inspect.isasyncgenfunction(guarded)

    async def work() -> None:
        found = []
        async for each in guarded():
            assert breaker.snapshot().in_flight == 1
            found.append(each)
        assert found == [0, 1, 2]
        with pytest.raises(ConnectionError):
            [each async for each in guarded(2, ConnectionError())]

    run(work)
    assert of_totals(breaker) == (1, 1, 0)


def test_time_between_two_items_is_none_of_the_call(clock: FakeClock) -> None:
    breaker = CircuitBreaker("d", BreakerConfig(slow_call_duration=2), clock=clock)

    async def work() -> None:
        async for _ in breaker(pieces)():
            clock.advance(5)

    run(work)
    assert breaker.snapshot().totals.slow == 0
    assert of_totals(breaker) == (1, 0, 0)


@pytest.mark.parametrize("library", RUNNERS)
def test_asynchronous_generator_that_its_caller_closes_early_is_no_failure(library: str) -> None:
    breaker = CircuitBreaker("d", BreakerConfig(failure_threshold=1))
    closed = []

    async def source() -> AsyncIterator[int]:
        try:
            yield 1
            yield 2
        finally:
            closed.append(True)

    async def work() -> None:
        async with aclosing(breaker(source)()) as items:
            async for _ in items:
                break

    run(work, library)
    assert of_totals(breaker) == (1, 0, 0)
    assert closed == [True]


@pytest.mark.parametrize("library", RUNNERS)
def test_asynchronous_generator_that_is_dropped_leaves_no_call_behind(library: str) -> None:
    breaker = CircuitBreaker("d", BreakerConfig(failure_threshold=1))

    async def source() -> AsyncIterator[int]:
        yield 1
        yield 2

    async def work() -> None:
        async for _ in breaker(source)():
            break
        gc.collect(0)
        for _ in range(2):  # the hook of asyncio closes it in a task
            await (trio if library == "trio" else asyncio).sleep(0)

    with pytest.warns(ResourceWarning) if library == "trio" else nullcontext():
        run(work, library)
    assert of_totals(breaker) == (1, 0, 0)


def test_asynchronous_generator_gets_what_its_caller_sends_and_throws() -> None:
    breaker = CircuitBreaker("d")

    @breaker
    async def echo() -> Any:
        sent = None
        while True:
            try:
                sent = yield sent
            except LookupError as error:
                sent = error

    async def work() -> None:
        items = echo()
        assert await anext(items) is None
        assert await items.asend(3) == 3
        error = LookupError()
        assert await items.athrow(error) is error
        with pytest.raises(ConnectionError):
            await items.athrow(ConnectionError())

    run(work)
    assert of_totals(breaker) == (0, 1, 0)


def test_caller_of_an_asynchronous_generator_is_not_inside_its_probe(breaker: CircuitBreaker) -> None:
    within = []

    @breaker
    async def source() -> AsyncIterator[int]:
        within.append(breaker.call(int))
        yield 1
        within.append(breaker.call(int))

    async def work() -> None:
        async for _ in source():
            with pytest.raises(CircuitOpenError):
                breaker.call(int)

    run(work)
    assert within == [0, 0]
    assert breaker.state is State.CLOSED


def test_context_manager_of_a_guarded_generator_is_a_call() -> None:
    breaker = CircuitBreaker("d")

    @asynccontextmanager
    @breaker
    async def connection() -> AsyncIterator[int]:
        yield 1

    async def work() -> None:
        async with connection() as found:
            assert found == 1
        with pytest.raises(ConnectionError):
            async with connection():
                raise ConnectionError

    run(work)
    assert of_totals(breaker) == (1, 1, 0)
