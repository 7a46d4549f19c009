"""Which code is inside a probe: that of its thread, task and context, while it runs. DESIGN section 3, rule 21."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context

import pytest

from cb import CircuitBreaker, CircuitOpenError, State
from cb.testing import FakeClock
from tests.core.conftest import due


def test_task_and_thread_with_the_context_of_a_probe_are_inside_it_while_it_runs(breaker: CircuitBreaker) -> None:
    async def itself() -> CircuitBreaker:
        return breaker

    async def work() -> int:
        with breaker.block():
            await asyncio.create_task(asyncio.to_thread(breaker.call, int))
            late = asyncio.create_task(itself())
        assert breaker.state is State.CLOSED
        return (await late).call(int)

    assert asyncio.run(work()) == 0


def test_tasks_of_other_callers_are_not_inside_a_probe(breaker: CircuitBreaker) -> None:
    async def probe(entered: asyncio.Event, leave: asyncio.Event) -> None:
        with breaker:
            entered.set()
            await leave.wait()

    async def work() -> None:
        entered, leave = asyncio.Event(), asyncio.Event()
        task = asyncio.create_task(probe(entered, leave))
        await entered.wait()
        with pytest.raises(CircuitOpenError):
            breaker.call(int)
        leave.set()
        await task

    asyncio.run(work())
    assert breaker.state is State.CLOSED


def test_thread_that_outlives_its_probe_has_no_part_in_the_next_round(
    breaker: CircuitBreaker, clock: FakeClock
) -> None:
    with breaker:
        context = copy_context()
    due(breaker, clock)
    other = breaker.begin()
    with ThreadPoolExecutor() as pool, pytest.raises(CircuitOpenError):
        pool.submit(context.run, breaker.call, int).result()
    breaker.finish(other, None)


def test_block_that_ends_in_another_thread_leaves_nothing_in_the_first(
    breaker: CircuitBreaker, clock: FakeClock
) -> None:
    block = breaker.block()
    block.__enter__()
    end = threading.Thread(target=block.__exit__, args=(None, None, None))
    end.start()
    end.join()
    assert breaker.state is State.CLOSED
    due(breaker, clock)
    other = breaker.begin()
    with pytest.raises(CircuitOpenError):
        breaker.call(int)
    breaker.finish(other, None)


def test_refusal_of_a_call_in_a_thread_of_its_own_is_a_verdict_for_the_probe_that_waits_for_it(
    breaker: CircuitBreaker,
) -> None:
    with ThreadPoolExecutor() as pool, pytest.raises(CircuitOpenError):
        breaker.call(lambda: pool.submit(breaker.call, int).result())
    assert breaker.state is State.OPEN
