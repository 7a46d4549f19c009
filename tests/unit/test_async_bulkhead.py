"""Tasks that wait for a bulkhead: in the queue of the threads, without holding their loop. docs/rules.md, rule 26."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from cb import Bulkhead, BulkheadFullError, CircuitBreaker, CircuitOpenError, Ledger, State
from cb.ledger.locks import FilePermit
from cb.testing import FakeClock
from tests.unit.conftest import ONE, due, semaphore_of


def run(work: Callable[[], Coroutine[Any, Any, Any]], library: str = "asyncio") -> Any:
    return trio.run(work) if library == "trio" else asyncio.run(work())


async def at_once() -> int:
    return 1


def free(bulkhead: Bulkhead) -> bool:
    """Return True if all its permits are free and no call waits or runs."""
    semaphore = semaphore_of(bulkhead.breaker)
    permits = [semaphore.take(bulkhead.limit) for _ in range(bulkhead.limit)]
    for permit in permits:
        if permit:
            semaphore.give_back(permit)
    return all(permits) and not semaphore.has_waiters and bulkhead.breaker.snapshot().in_flight == 0


@pytest.fixture(params=["asyncio", "trio"])
def library(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def bulkhead() -> Bulkhead:
    return Bulkhead(CircuitBreaker("d"), 1, wait=20)


async def concurrently(library: str, *works: Callable[[], Coroutine[Any, Any, Any]]) -> None:
    """Run coroutine functions as tasks, started in their order."""
    if library == "asyncio":
        await asyncio.gather(*(work() for work in works))
        return
    async with trio.open_nursery() as nursery:
        for work in works:
            nursery.start_soon(work)
            await trio.sleep(0)


def test_tasks_get_the_permit_one_after_the_other_in_their_order(bulkhead: Bulkhead) -> None:
    order: list[int] = []
    running: list[int] = []

    @bulkhead
    async def call(number: int) -> None:
        order.append(number)
        running.append(number)
        await asyncio.sleep(0)
        assert running == [number]
        running.remove(number)

    run(lambda: concurrently("asyncio", *(partial(call, number) for number in range(50))))
    assert order == [*range(50)]
    assert free(bulkhead)


@pytest.mark.parametrize("way", ["acall", "block", "guard", "generator"])
def test_every_way_to_guard_a_coroutine_waits_for_a_permit(bulkhead: Bulkhead, library: str, way: str) -> None:
    async def use() -> None:
        sleep = trio.sleep if library == "trio" else asyncio.sleep
        if way == "acall":
            await bulkhead.acall(sleep, 0.002)
        elif way == "generator":
            async for _ in items():
                await sleep(0.002)
        else:
            async with bulkhead if way == "block" else bulkhead.guard():
                await sleep(0.002)

    @bulkhead
    async def items() -> AsyncIterator[int]:
        yield 1

    run(lambda: concurrently(library, use, use, use), library)
    assert bulkhead.breaker.snapshot().totals.successes == 3
    assert free(bulkhead)


def test_task_that_gets_no_permit_in_time_is_rejected(library: str) -> None:
    bulkhead = Bulkhead(CircuitBreaker("d"), 1, wait=0.01)

    async def work() -> None:
        async with bulkhead:
            with pytest.raises(BulkheadFullError):
                await bulkhead.acall(at_once)

    run(work, library)
    assert bulkhead.breaker.snapshot().totals.full == 1
    assert free(bulkhead)


def test_task_that_is_cancelled_while_it_waits_leaves_the_queue_to_the_next(bulkhead: Bulkhead) -> None:
    async def work() -> None:
        async with bulkhead:
            first, second = (asyncio.create_task(bulkhead.acall(at_once)) for _ in range(2))
            await asyncio.sleep(0.01)
            first.cancel()
            with pytest.raises(asyncio.CancelledError):
                await first
        begin = time.monotonic()
        assert await second == 1
        assert time.monotonic() - begin < 0.9  # woken: a task that is not the first looks once a second

    run(work)
    assert free(bulkhead)
    assert bulkhead.breaker.snapshot().totals.neutral == 0


def test_scope_that_trio_cancels_leaves_the_queue(bulkhead: Bulkhead) -> None:
    async def work() -> None:
        async with bulkhead:
            with trio.move_on_after(0.01):
                await bulkhead.acall(at_once)

    run(work, "trio")
    assert free(bulkhead)


def test_threads_and_tasks_wait_in_one_queue(bulkhead: Bulkhead) -> None:
    order: list[str] = []

    async def work() -> None:
        loop_has_it = threading.Event()
        call = bulkhead.begin()
        task = asyncio.create_task(bulkhead.acall(asyncio.to_thread, order.append, "first task"))
        await asyncio.sleep(0.01)
        thread = threading.Thread(target=lambda: bulkhead.call(order.append, "thread"))
        thread.start()
        while len(semaphore_of(bulkhead.breaker)._queue) < 2:  # noqa: SLF001 - no public sign of it
            await asyncio.sleep(0.001)
        second = asyncio.create_task(bulkhead.acall(asyncio.to_thread, order.append, "second task"))
        await asyncio.sleep(0.01)
        loop_has_it.set()
        call.succeed()
        await asyncio.gather(task, second)
        await asyncio.to_thread(thread.join)

    run(work)
    assert order == ["first task", "thread", "second task"]
    assert free(bulkhead)


def test_permit_that_another_process_frees_is_found(tmp_path: Path, library: str) -> None:
    bulkhead = Bulkhead(CircuitBreaker("d", ledger=Ledger.in_file(tmp_path / "l")), 1, wait=20)
    other = FilePermit(0, f"{tmp_path}/l.locks/permit-0-0")  # as another process opens it
    assert other.lock()

    async def release() -> None:
        await (trio if library == "trio" else asyncio).sleep(0.01)
        other.unlock()

    async def call() -> None:
        assert await bulkhead.acall(at_once) == 1

    run(lambda: concurrently(library, call, release), library)
    assert free(bulkhead)


def test_waiting_tasks_are_rejected_once_the_circuit_opens(bulkhead: Bulkhead) -> None:
    async def work() -> list[object]:
        async with bulkhead:
            tasks = [asyncio.create_task(bulkhead.acall(at_once)) for _ in range(5)]
            await asyncio.sleep(0.01)
            bulkhead.breaker.control.force_open(reason="test")
            return await asyncio.gather(*tasks, return_exceptions=True)

    begin = time.monotonic()
    assert [type(each) for each in run(work)] == [CircuitOpenError] * 5
    assert time.monotonic() - begin < 0.9
    assert free(bulkhead)


def test_function_in_a_coroutine_does_not_wait_for_a_permit(bulkhead: Bulkhead) -> None:
    async def work() -> None:
        async with bulkhead:
            with pytest.raises(BulkheadFullError):
                bulkhead.call(int)
            with pytest.raises(BulkheadFullError), bulkhead:
                pass

    begin = time.monotonic()
    run(work)
    assert time.monotonic() - begin < 10  # a thread would wait for 20 s
    assert free(bulkhead)


def test_call_within_a_probe_needs_no_second_permit(clock: FakeClock) -> None:
    breaker = due(CircuitBreaker("d", ONE, clock=clock), clock)
    bulkhead = Bulkhead(breaker, 1, wait=5)

    @bulkhead
    async def outer() -> int:
        return await bulkhead.acall(at_once)

    assert run(outer) == 1
    assert breaker.state is State.CLOSED


def test_loop_that_has_ended_with_waiting_tasks_does_not_keep_others_from_the_permit(bulkhead: Bulkhead) -> None:
    call = bulkhead.begin()
    loop = asyncio.new_event_loop()
    task = loop.create_task(bulkhead.acall(at_once))
    loop.run_until_complete(asyncio.wait({task}, timeout=0.01))
    loop.close()
    thread = threading.Thread(target=bulkhead.call, args=(int,))
    thread.start()
    call.succeed()
    thread.join(5)
    assert not thread.is_alive()
    task.get_coro().close()
    task._log_destroy_pending = False  # type: ignore[attr-defined]  # noqa: SLF001 - it is the subject
    assert free(bulkhead)


def test_task_that_looks_at_very_many_permits_lets_others_run_meanwhile_and_finds_the_free_one(tmp_path: Path) -> None:
    bulkhead = Bulkhead(CircuitBreaker("d", ledger=Ledger.in_file(tmp_path / "l")), 200)
    taken = [FilePermit(number, f"{tmp_path}/l.locks/permit-0-{number}") for number in range(200)]  # by other processes
    assert all(permit.lock() for permit in taken)
    turns: list[int] = []

    async def others() -> None:
        while True:
            turns.append(1)
            await asyncio.sleep(0)

    async def work() -> None:
        task = asyncio.create_task(others())
        with pytest.raises(BulkheadFullError):
            await bulkhead.acall(at_once)
        assert len(turns) >= 3
        taken[170].unlock()
        assert await bulkhead.acall(at_once) == 1
        task.cancel()

    run(work)
    assert bulkhead.breaker.snapshot().in_flight == 0
