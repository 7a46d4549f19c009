"""Blocks that end in another thread, generator, coroutine or exit stack than expected."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import AsyncExitStack, suppress

import pytest

from cb import CircuitBreaker, State
from cb.testing import FakeClock
from tests.unit.conftest import ONE


def test_blocks_of_two_generators_of_a_thread_end_each_with_its_own_time(clock: FakeClock) -> None:
    breaker = CircuitBreaker("d", ONE, clock=clock)

    def guard(error: Exception | None) -> Iterator[None]:
        with suppress(ZeroDivisionError), breaker:
            yield
            if error:
                raise error

    first, second = guard(None), guard(ZeroDivisionError())
    next(first)
    clock.advance(3)
    next(second)
    next(first, None)
    assert breaker.snapshot().totals.slow == 1
    assert breaker.state is State.CLOSED
    next(second, None)
    assert breaker.snapshot().totals.slow == 1
    assert breaker.state is State.OPEN


def test_block_of_a_generator_that_ends_in_another_thread_is_counted() -> None:
    breaker = CircuitBreaker("d")

    def guard() -> Iterator[None]:
        with breaker:
            yield

    block = guard()
    next(block)
    thread = threading.Thread(target=lambda: next(block, None))
    thread.start()
    thread.join()
    assert breaker.snapshot().totals.successes == 1
    assert breaker.snapshot().in_flight == 0


def test_block_of_an_exit_stack_of_a_coroutine_ends() -> None:
    breaker = CircuitBreaker("d")

    async def work() -> None:
        async with AsyncExitStack() as stack:
            stack.enter_context(breaker)

    asyncio.run(work())
    assert (breaker.snapshot().totals.successes, breaker.snapshot().in_flight) == (1, 0)


def test_block_that_ends_elsewhere_raises_and_a_guard_may_end_anywhere() -> None:
    breaker = CircuitBreaker("d")
    block = breaker.guard()
    block.__enter__()
    with pytest.raises(RuntimeError, match=r"with breaker\.guard\(\)"):
        breaker.__exit__(None, None, None)
    block.__exit__(None, None, None)
    assert breaker.snapshot().totals.successes == 1
