"""A bulkhead: its limit of concurrent calls, and the rejection of one more."""

import gc
import logging
import pickle
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from cb import BreakerConfig, Bulkhead, BulkheadFullError, CircuitBreaker, CircuitOpenError, ConfigError, Ledger, State
from cb.testing import FakeClock, breaker_in
from tests.support.interruptions import interrupted
from tests.unit.conftest import semaphore_of


@pytest.fixture
def breaker(ledger: Ledger, clock: FakeClock) -> CircuitBreaker:
    return breaker_in(State.CLOSED, ledger=ledger, clock=clock)


@contextmanager
def full(breaker: CircuitBreaker, limit: int = 2) -> Iterator[Bulkhead]:
    """Yield a bulkhead of which all slots are taken."""
    bulkhead = Bulkhead(breaker, limit)
    calls = [bulkhead.begin() for _ in range(limit)]
    yield bulkhead
    for call in calls:
        call.succeed()


def free(bulkhead: Bulkhead) -> int:
    """Return how many slots are free."""
    calls = []
    with suppress(BulkheadFullError):
        while True:
            calls.append(bulkhead.begin())
    for call in calls:
        call.discard()
    return len(calls)


def test_full_bulkhead_rejects_at_once_with_its_name_and_limit(breaker: CircuitBreaker) -> None:
    with full(breaker, 2) as bulkhead, pytest.raises(BulkheadFullError) as caught:
        bulkhead.call(pytest.fail)
    assert (caught.value.name, caught.value.limit, caught.value.retry_after) == ("test", 2, 1.0)
    assert str(caught.value) == "bulkhead 'test' rejects calls: 2 are running, which is its limit"
    assert pickle.loads(pickle.dumps(caught.value)).limit == 2


def test_bulkhead_offers_the_ways_of_a_breaker(breaker: CircuitBreaker) -> None:
    bulkhead = Bulkhead(breaker, 1)

    @bulkhead
    def double(number: int) -> int:
        return number * 2

    assert (double(2), bulkhead.call(double.__wrapped__, 3)) == (4, 6)  # type: ignore[attr-defined]  # of functools
    with bulkhead, pytest.raises(BulkheadFullError):
        double(1)
    with bulkhead.guard() as call:
        assert not call.probe
        with pytest.raises(BulkheadFullError):
            double(1)
    assert (bulkhead.name, bulkhead.config, free(bulkhead)) == ("test", breaker.config, 1)
    assert breaker.snapshot().totals.successes == 4


def test_function_that_works_later_is_refused(breaker: CircuitBreaker) -> None:
    async def later() -> None: ...

    with pytest.raises(TypeError):
        Bulkhead(breaker, 1).call(later)


def test_outcomes_are_those_of_the_breaker(ledger: Ledger) -> None:
    breaker = CircuitBreaker("d", ledger=ledger, failed_result=lambda result: result == "bad", ignored=(KeyError,))
    bulkhead = Bulkhead(breaker, 1)
    for result in ("good", "bad"):
        bulkhead.call(str, result)
    with pytest.raises(ZeroDivisionError):
        bulkhead.call(divmod, 1, 0)
    with pytest.raises(KeyError):
        bulkhead.call({}.__getitem__, 1)
    totals = breaker.snapshot().totals
    assert (totals.successes, totals.failures, totals.neutral, free(bulkhead)) == (1, 2, 1, 1)


def test_refused_call_leaves_window_and_totals_alone_but_for_its_own(breaker: CircuitBreaker) -> None:
    with full(breaker) as bulkhead:
        before = breaker.snapshot()
        for _ in range(3):
            with pytest.raises(BulkheadFullError):
                bulkhead.call(int)
        after = breaker.snapshot()
    assert after.totals.full == 3
    assert (after.window, after.in_flight, after.limit) == (before.window, 2, 2)
    assert (after.totals.requests, after.totals.rejected, after.totals.neutral) == (0, 0, 0)


def test_call_within_a_call_that_is_refused_is_no_failure_of_the_outer_one(breaker: CircuitBreaker) -> None:
    bulkhead = Bulkhead(breaker, 1)
    with pytest.raises(BulkheadFullError):
        bulkhead.call(bulkhead.call, int)
    assert (breaker.snapshot().totals.neutral, breaker.snapshot().totals.failures) == (1, 0)


def test_open_circuit_refuses_without_a_wait_though_all_slots_are_taken(breaker: CircuitBreaker) -> None:
    with full(breaker, 1):
        breaker.control.force_open(reason="test")
        begin = time.monotonic()
        with pytest.raises(CircuitOpenError):
            Bulkhead(breaker, 1, wait=10).call(int)
        assert time.monotonic() - begin < 1
    assert breaker.snapshot().totals.full == 0


def test_circuit_that_opens_refuses_the_call_that_waits_for_a_slot(breaker: CircuitBreaker) -> None:
    with full(breaker, 1), ThreadPoolExecutor() as pool:
        waits = pool.submit(Bulkhead(breaker, 1, wait=20).call, int)
        breaker.control.force_open(reason="test")
        with pytest.raises(CircuitOpenError):
            waits.result(5)


def test_open_circuit_rejects_a_call_that_is_queued_behind_a_blocked_thread(breaker: CircuitBreaker) -> None:
    bulkhead = Bulkhead(breaker, 1, wait=20)
    with ThreadPoolExecutor() as pool, semaphore_of(breaker).wait_in_queue():
        waits = pool.submit(bulkhead.call, int)
        threading.Event().wait(0.02)
        assert not waits.done()  # though there is a slot: it is not its turn
        breaker.control.force_open(reason="test")
        with pytest.raises(CircuitOpenError):
            waits.result(5)
        with pytest.raises(CircuitOpenError):
            pool.submit(bulkhead.call, int).result(5)


def test_refused_probe_gives_its_permit_back(ledger: Ledger, clock: FakeClock) -> None:
    breaker = CircuitBreaker(
        "d", BreakerConfig(failure_threshold=1, max_requests=1, success_threshold=1), ledger=ledger, clock=clock
    )
    bulkhead = Bulkhead(breaker, 1)
    slow = bulkhead.begin()
    with pytest.raises(ZeroDivisionError):
        breaker.call(divmod, 1, 0)
    clock.advance(60)
    with pytest.raises(BulkheadFullError):
        bulkhead.call(int)
    assert breaker.state is State.HALF_OPEN
    slow.succeed()
    assert bulkhead.call(int) == 0  # the only permit of the round
    assert breaker.state is State.CLOSED


def test_call_waits_for_a_slot_and_its_wait_is_not_counted_as_its_duration(ledger: Ledger) -> None:
    breaker = CircuitBreaker("d", ledger=ledger)
    with ThreadPoolExecutor() as pool, full(breaker, 1):
        waits = pool.submit(Bulkhead(breaker, 1, wait=20).call, int)
        threading.Event().wait(0.1)
        assert not waits.done()
        assert breaker.snapshot().in_flight == 1
    assert waits.result(5) == 0
    assert sum(breaker.snapshot().latency.counts[:4]) == 1  # of two calls the one that waited took less than 25 ms


def test_wait_ends_when_it_should(breaker: CircuitBreaker) -> None:
    with full(breaker, 1):
        begin = time.monotonic()
        with pytest.raises(BulkheadFullError):
            Bulkhead(breaker, 1, wait=0.1).call(int)
        assert 0.1 <= time.monotonic() - begin < 0.3
    assert breaker.snapshot().totals.full == 1


def test_200_calls_of_many_threads_get_through_one_slot_after_the_other(ledger: Ledger) -> None:
    breaker = CircuitBreaker("d", ledger=ledger)
    bulkhead, running = Bulkhead(breaker, 1, wait=30), []

    def work() -> int:
        running.append(1)
        return len(running) * (running.pop() or 1)

    with ThreadPoolExecutor(16) as pool:
        assert {call.result() for call in [pool.submit(bulkhead.call, work) for _ in range(200)]} == {1}
    assert (breaker.snapshot().totals.successes, breaker.snapshot().totals.full) == (200, 0)


def test_bulkheads_of_one_breaker_share_its_slots(breaker: CircuitBreaker) -> None:
    with full(breaker, 2):
        assert free(Bulkhead(breaker, 2)) == 0
        assert free(Bulkhead(breaker, 3)) == 1
    assert free(Bulkhead(breaker, 1)) == 1


def test_bulkheads_of_two_breakers_share_nothing(ledger: Ledger) -> None:
    with full(CircuitBreaker("one", ledger=ledger)):
        assert free(Bulkhead(CircuitBreaker("other", ledger=ledger), 2)) == 2


def test_call_that_goes_by_the_breaker_takes_no_slot(breaker: CircuitBreaker) -> None:
    with breaker:
        assert free(Bulkhead(breaker, 1)) == 1
    with full(breaker, 1):
        assert breaker.call(int) == 0


def test_more_calls_than_the_host_has_tallies_are_limited_all_the_same(ledger: Ledger) -> None:
    breaker = CircuitBreaker("d", BreakerConfig(slow_call_rate_threshold=None), ledger=ledger)
    with full(breaker, 400) as bulkhead:
        assert free(bulkhead) == 0
        assert breaker.snapshot().totals.full == 1
    assert free(bulkhead) == 400


def test_call_that_is_forgotten_gives_its_slot_back(breaker: CircuitBreaker) -> None:
    bulkhead = Bulkhead(breaker, 1)
    bulkhead.begin()
    gc.collect()
    assert free(bulkhead) == 1
    breaker.control.evaluate()
    assert breaker.snapshot().in_flight == 0


@pytest.mark.parametrize("limit", [0, -1, 10_001, 1.5, True, "2", None])
def test_limit_that_is_none_is_refused(breaker: CircuitBreaker, limit: int) -> None:
    with pytest.raises(ConfigError, match="limit must be a whole number from 1 to 10000"):
        Bulkhead(breaker, limit)


@pytest.mark.parametrize("wait", [-1, 3601, float("nan"), True, "1s"])
def test_wait_that_is_none_is_refused(breaker: CircuitBreaker, wait: float) -> None:
    with pytest.raises(ConfigError, match="wait must be seconds from 0 to 3600"):
        Bulkhead(breaker, 1, wait)
    assert breaker.snapshot().limit is None


def test_slots_whose_files_cannot_be_opened_limit_the_calls_of_this_process(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    breaker = CircuitBreaker("d", ledger=Ledger.in_file(tmp_path / "l"))
    (tmp_path / "l.locks").rename(tmp_path / "elsewhere")
    with caplog.at_level(logging.WARNING), full(breaker, 2) as bulkhead:
        assert free(bulkhead) == 0
    assert [record.message for record in caplog.records if record.name == "cb.ledger.semaphore"] == [
        f"concurrent calls are not limited across processes: {tmp_path}/l.locks/permit-0-0: No such file or directory"
    ]


def test_interruption_anywhere_in_line_leaves_the_place_to_the_next(breaker: CircuitBreaker) -> None:
    slots, number = semaphore_of(breaker), 1

    def wait_in_line() -> None:
        with slots.wait_in_queue() as wait:
            wait(0)

    while interrupted(wait_in_line, number):
        assert not slots.has_waiters, f"point {number}"
        number += 1
    assert number > 5
