"""Which code is inside a probe: that of its thread, task and context, while it runs. docs/rules.md, rule 21."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from contextvars import copy_context
from dataclasses import replace

import pytest

from cb import CircuitBreaker, CircuitOpenError, State
from cb.health_probes import HealthProbes
from cb.ledger.record import MAX_EXTRA_PERMITS
from cb.testing import FakeClock
from tests.unit.conftest import ONE, due


def test_task_and_thread_with_the_context_of_a_probe_are_inside_it_while_it_runs(breaker: CircuitBreaker) -> None:
    async def itself() -> CircuitBreaker:
        return breaker

    async def work() -> int:
        with breaker.guard():
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
    other.succeed()


def test_block_that_ends_in_another_thread_leaves_nothing_in_the_first(
    breaker: CircuitBreaker, clock: FakeClock
) -> None:
    block = breaker.guard()
    block.__enter__()
    end = threading.Thread(target=block.__exit__, args=(None, None, None))
    end.start()
    end.join()
    assert breaker.state is State.CLOSED
    due(breaker, clock)
    other = breaker.begin()
    with pytest.raises(CircuitOpenError):
        breaker.call(int)
    other.succeed()


def in_a_thread(work: Callable[[], object]) -> object:
    """Run it outside of the caller's context."""
    with ThreadPoolExecutor() as pool:
        return pool.submit(work).result()


def waiting(breaker: CircuitBreaker, work: Callable[[], object]) -> object:
    return in_a_thread(work)


def waiting_for_a_thread_that_waits(breaker: CircuitBreaker, work: Callable[[], object]) -> object:
    return in_a_thread(lambda: breaker.call(in_a_thread, work))


def raising_another_error(breaker: CircuitBreaker, work: Callable[[], object]) -> object:
    try:
        return in_a_thread(work)
    except CircuitOpenError:
        raise LookupError  # noqa: B904 - as callers forget


def gathering(breaker: CircuitBreaker, work: Callable[[], object]) -> object:
    try:
        return in_a_thread(work)
    except CircuitOpenError as error:
        raise ExceptionGroup("all of them", [error]) from None


@pytest.mark.parametrize("around", [waiting, waiting_for_a_thread_that_waits, raising_another_error, gathering])
@pytest.mark.parametrize("needed", [1, 3])
def test_call_in_a_thread_of_its_own_has_a_permit_once_its_probe_has_been_seen_to_need_it(
    clock: FakeClock, around: Callable[..., object], needed: int
) -> None:
    config = replace(ONE, max_requests=needed, success_threshold=needed)
    breaker = due(CircuitBreaker("d", config, clock=clock), clock)
    for _ in range(10):
        with suppress(CircuitOpenError, LookupError, ExceptionGroup):
            breaker.call(around, breaker, lambda: breaker.call(int))
    assert breaker.state is State.CLOSED
    assert breaker.snapshot().totals.failures == 1  # the one that opened it


def test_call_begun_by_hand_gives_its_permit_to_the_call_within_it(breaker: CircuitBreaker) -> None:
    for _ in range(2):
        call = breaker.begin()
        try:
            breaker.call(int)
        except CircuitOpenError as error:
            call.fail(error)
    assert breaker.state is State.CLOSED


def test_health_check_that_calls_in_a_thread_of_its_own_closes_the_circuit(breaker: CircuitBreaker) -> None:
    for _ in range(2):
        HealthProbes(breaker).reserve(5)
        HealthProbes(breaker).run(lambda: in_a_thread(lambda: breaker.call(int)))
    assert breaker.state is State.CLOSED


def test_dependency_that_still_fails_is_found_by_the_call_within_the_probe(breaker: CircuitBreaker) -> None:
    for error in (CircuitOpenError, ZeroDivisionError):
        with pytest.raises(error):
            breaker.call(in_a_thread, lambda: breaker.call(divmod, 1, 0))
    assert breaker.state is State.OPEN


def ended_by_a_refusal(breaker: CircuitBreaker, clock: FakeClock) -> None:
    """Have a probe that fails for want of more permits than there are."""
    calls = [breaker.begin()]
    with pytest.raises(CircuitOpenError) as refused:
        while True:
            calls.append(breaker.begin())
    clock.advance(0.1)
    for each in calls[1:]:
        each.discard()
    calls[0].fail(refused.value)


def test_refusal_that_the_caller_of_a_probe_is_handling_does_not_excuse_its_failure(
    breaker: CircuitBreaker, clock: FakeClock
) -> None:
    other = breaker.begin()
    try:
        breaker.call(int)
    except CircuitOpenError:
        other.discard()
        clock.advance(1)
        with pytest.raises(ZeroDivisionError) as failed:
            breaker.call(divmod, 1, 0)
        assert isinstance(failed.value.__context__, CircuitOpenError)
    assert breaker.state is State.OPEN


def test_probes_that_never_have_enough_permits_are_a_verdict_in_the_end(
    breaker: CircuitBreaker, clock: FakeClock
) -> None:
    for _ in range(MAX_EXTRA_PERMITS):
        ended_by_a_refusal(breaker, clock)
        assert breaker.state is State.HALF_OPEN
    ended_by_a_refusal(breaker, clock)
    assert breaker.state is State.OPEN


def test_round_has_its_own_number_of_permits_again_after_one_that_had_more(
    breaker: CircuitBreaker, clock: FakeClock
) -> None:
    ended_by_a_refusal(breaker, clock)
    probes = [breaker.begin() for _ in range(2)]
    with pytest.raises(CircuitOpenError):
        breaker.begin()
    for probe in probes:
        probe.fail(OSError())
    clock.advance(10)
    probe = breaker.begin()
    with pytest.raises(CircuitOpenError):
        breaker.begin()
    probe.succeed()
