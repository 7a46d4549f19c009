"""Locks that are taken while an event loop runs: nothing waits for them on the loop. docs/rules.md, rule 26."""

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from cb import BreakerConfig, CircuitBreaker, CircuitOpenError, Ledger, LedgerBusyError, Registry, State
from cb.breaker import admission_of
from cb.testing import FakeClock
from tests.support.waiting import until
from tests.unit.conftest import ONE, due

#: longest time in which nothing has waited, on a machine that is busy
AT_ONCE = 0.015


def run(work: Callable[[], Coroutine[Any, Any, Any]], library: str = "asyncio") -> Any:
    return trio.run(work) if library == "trio" else asyncio.run(work())


@contextmanager
def taken(ledger: Ledger) -> Iterator[Callable[[], None]]:
    """Have another object of the ledger hold the lock, as another process does. Yields a function that frees it."""
    started, end = threading.Event(), threading.Event()

    def hold() -> None:
        started.set()
        end.wait()

    other = Ledger.in_file(ledger.path)
    thread = threading.Thread(target=lambda: other.core.lock.run(hold, 1))
    thread.start()
    started.wait()

    def free() -> None:
        end.set()
        thread.join()

    try:
        yield free
    finally:
        free()


def at_once(work: Callable[[], object]) -> None:
    """Do it three times, and require that one of them has not waited."""
    took = []
    for _ in range(3):
        begin = time.perf_counter()
        work()
        took.append(time.perf_counter() - begin)
    assert min(took) < AT_ONCE, took


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger.in_file(tmp_path / "l")


@pytest.fixture
def probed(ledger: Ledger, clock: FakeClock) -> CircuitBreaker:
    """Return a breaker whose next call is a probe."""
    return due(CircuitBreaker("d", ONE, ledger=ledger, clock=clock), clock)


@pytest.mark.parametrize("library", ["asyncio", "trio"])
def test_probe_of_a_task_gets_the_lock_that_is_free_a_moment_later(probed: CircuitBreaker, library: str) -> None:
    async def answer() -> int:
        return 1

    async def work() -> None:
        with taken(probed.ledger) as free:
            if library == "trio":
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(probed.acall, answer)
                    await trio.sleep(0)
                    free()
            else:
                task = asyncio.create_task(probed.acall(answer))
                await asyncio.sleep(0)
                assert not task.done()
                free()
                assert await task == 1

    run(work, library)
    assert probed.state is State.CLOSED


def test_probe_of_a_task_is_rejected_if_the_lock_is_not_free_soon_and_others_of_its_loop_go_on(
    probed: CircuitBreaker,
) -> None:
    async def work() -> None:
        with taken(probed.ledger):
            results = await asyncio.gather(*(probed.acall(asyncio.sleep, 0) for _ in range(3)), return_exceptions=True)
            assert [type(each) for each in results] == [CircuitOpenError] * 3
        await probed.acall(asyncio.sleep, 0)

    run(work)
    assert probed.state is State.CLOSED
    assert probed.snapshot().in_flight == 0


def test_task_that_is_cancelled_while_it_waits_for_the_lock_leaves_no_call_behind(probed: CircuitBreaker) -> None:
    async def work() -> None:
        with taken(probed.ledger) as free:
            task = asyncio.create_task(probed.acall(asyncio.sleep, 0))
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            free()
        assert probed.snapshot().in_flight == 0
        await probed.acall(asyncio.sleep, 0)

    run(work)
    assert probed.state is State.CLOSED


def test_call_of_a_function_in_a_coroutine_does_not_wait_for_the_lock(probed: CircuitBreaker) -> None:
    def call() -> None:
        with pytest.raises(CircuitOpenError):
            probed.call(int)

    async def work() -> None:
        with taken(probed.ledger):
            at_once(call)

    run(work)


def test_failures_that_cannot_open_the_circuit_on_a_loop_have_the_watchdog_do_it_at_once(ledger: Ledger) -> None:
    breaker = CircuitBreaker("d", BreakerConfig(failure_threshold=2), ledger=ledger)

    def fail() -> None:
        with pytest.raises(ZeroDivisionError):
            breaker.call(divmod, 1, 0)

    async def work() -> None:
        with taken(ledger):
            at_once(fail)
            assert breaker.state is State.CLOSED
        end = time.monotonic() + 5
        while breaker.state is State.CLOSED and time.monotonic() < end:
            await asyncio.sleep(0.001)

    run(work)
    assert breaker.state is State.OPEN


def test_breaker_that_is_created_on_a_loop_does_not_wait_and_moves_to_the_ledger_later(ledger: Ledger) -> None:
    registry = Registry(ledger=ledger)
    first = CircuitBreaker("first", ledger=ledger)

    async def work() -> None:
        other = asyncio.create_task(asyncio.Event().wait())
        with taken(ledger):
            begin = time.perf_counter()
            breaker = registry.get("d")
            with pytest.raises(LedgerBusyError):
                first.control.force_open(reason="test")
            assert time.perf_counter() - begin < 0.2  # a second for each, in a thread
            assert breaker.call(int) == 0
        end = time.monotonic() + 5
        while admission_of(breaker).circuit.apart and time.monotonic() < end:
            await asyncio.sleep(0.01)
        assert not admission_of(breaker).circuit.apart
        other.cancel()

    run(work)


def test_breaker_that_a_server_creates_on_its_loop_before_there_is_another_task_waits_for_the_lock(
    ledger: Ledger,
) -> None:
    async def load() -> CircuitBreaker:
        with taken(ledger) as free:
            timer = threading.Timer(0.02, free)
            timer.start()
            breaker = Registry(ledger=ledger).get("d")
            timer.join()
        return breaker

    assert not admission_of(asyncio.run(load())).circuit.apart
    assert ledger.degraded is None


def test_breaker_is_created_on_a_loop_while_a_thread_waits_for_the_lock_to_create_one(ledger: Ledger) -> None:
    registry = Registry(ledger=ledger)

    async def work() -> None:
        with taken(ledger):
            thread = threading.Thread(target=registry.get, args=("in the thread",))
            thread.start()
            until(lambda: registry._creating)  # noqa: SLF001 - no public sign of it
            begin = time.perf_counter()
            registry.get("on the loop").call(int)
            took = time.perf_counter() - begin
            assert thread.is_alive()
            thread.join()
        assert took < 0.3

    run(work)
