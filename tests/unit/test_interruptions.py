"""Exceptions of signal handlers and of other threads, raised between any two steps of a call.

CPython raises them where it checks for signals: at the start of a function, at the end of a loop body, and after each
call. The tests raise one at each such point of the library, one after the other. docs/rules.md, rules 4, 7 and 10.
"""

import asyncio
import gc
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import suppress
from functools import partial
from itertools import count, product
from pathlib import Path
from types import coroutine
from typing import Any

import pytest

from cb import BreakerConfig, Bulkhead, BulkheadFullError, Call, CircuitBreaker, CircuitOpenError, Ledger, State
from cb.ledger import layout as at
from cb.ledger.locks import FilePermit, claim
from cb.testing import FakeClock
from tests.support.interruptions import interrupted

CONFIG = BreakerConfig(
    max_requests=2,
    success_threshold=1,
    failure_threshold=2,
    timeout=10,
    timeout_jitter=0,
    half_open_max_duration=20,
    call_timeout=5,
)


def succeed(breaker: CircuitBreaker) -> None:
    with suppress(CircuitOpenError):
        breaker.call(int)


def fail(breaker: CircuitBreaker) -> None:
    with suppress(CircuitOpenError, ZeroDivisionError):
        breaker.call(divmod, 1, 0)


def enter(breaker: CircuitBreaker) -> None:
    with suppress(CircuitOpenError, ZeroDivisionError), breaker.guard():
        raise ZeroDivisionError


def nest(breaker: CircuitBreaker) -> None:
    with suppress(CircuitOpenError, ZeroDivisionError), breaker.guard(), breaker.guard():
        breaker.call(divmod, 1, 0)


def share(breaker: CircuitBreaker) -> None:
    with suppress(CircuitOpenError):
        Bulkhead(breaker, 1).call(int)


def share_in_vain(breaker: CircuitBreaker) -> None:
    bulkhead = Bulkhead(breaker, 1, wait=0.001)
    with suppress(CircuitOpenError, BulkheadFullError), bulkhead.guard(), bulkhead.guard():
        pass


@coroutine
def suspended() -> Iterator[None]:
    yield


async def divide(number: int) -> float:
    await suspended()
    return 1 / number


async def iterate(breaker: CircuitBreaker) -> None:
    @breaker
    async def source() -> AsyncIterator[float]:
        yield await divide(1)
        yield await divide(1)

    async for _ in source():
        await suspended()


async def enter_asynchronously(breaker: CircuitBreaker) -> None:
    async with breaker.guard():
        await divide(0)


#: Coroutines that call through a breaker.
AWAITED: dict[str, Callable[[CircuitBreaker], Coroutine[Any, Any, object]]] = {
    "success": lambda breaker: breaker(divide)(1),
    "failure": lambda breaker: breaker.acall(divide, 0),
    "block": enter_asynchronously,
    "permit": lambda breaker: Bulkhead(breaker, 1).acall(divide, 1),
    "generator": iterate,
}


def await_(name: str) -> Callable[[CircuitBreaker], None]:
    """Return a function that runs a coroutine to its end, as an event loop does."""

    def run(breaker: CircuitBreaker) -> None:
        coroutine = AWAITED[name](breaker)
        with suppress(StopIteration, CircuitOpenError, ZeroDivisionError):
            while True:
                coroutine.send(None)

    return run


@pytest.fixture
def breakers(tmp_path: Path) -> Iterator[tuple[CircuitBreaker, FakeClock]]:
    """Return an iterator of new breakers on one ledger."""
    ledger = Ledger.in_file(tmp_path / "l")

    def make() -> Iterator[tuple[CircuitBreaker, FakeClock]]:
        for number in range(1000):
            clock = FakeClock()
            yield CircuitBreaker(f"d{number}", CONFIG, ledger=ledger, clock=clock), clock

    return make()


def test_interruption_while_shards_are_claimed_and_given_up_leaks_none(tmp_path: Path) -> None:
    for tried in count(1):
        ledger = Ledger.in_file(tmp_path / "l")

        def work(ledger: Ledger = ledger) -> None:
            ledger.core.shard(0, 1)
            ledger.core.shard(1, 1, index=0)
            ledger.core.leave_shard(1, index=0)

        more = interrupted(work, tried)
        ledger.core.reap(1_000_000_000)
        locked = [shard for shard in range(at.SHARDS) if claim(f"{tmp_path}/l.locks/{shard}") is None]
        assert len(locked) <= 2, f"point {tried}"
        ledger.core.leave_shard(1, index=0)
        for _ in range(2):  # both shards are in use and known, or neither is
            ledger.core.reap(2_000_000_000)
        locked = [shard for shard in range(at.SHARDS) if claim(f"{tmp_path}/l.locks/{shard}") is None]
        assert len(locked) <= 1, f"point {tried}"
        ledger.close()
        if not more:
            break
    assert tried > 50


# Of an interruption between the creation of a coroutine and its start, Python itself warns.
@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
@pytest.mark.parametrize(
    ("way", "state"),
    [
        (succeed, State.CLOSED),
        (fail, State.CLOSED),
        (enter, State.CLOSED),
        (succeed, State.OPEN),
        (succeed, State.HALF_OPEN),
        (fail, State.HALF_OPEN),
        (enter, State.HALF_OPEN),
        (nest, State.OPEN),
        (nest, State.HALF_OPEN),
        (share, State.CLOSED),
        (share_in_vain, State.HALF_OPEN),
        (await_("success"), State.OPEN),
        (await_("failure"), State.CLOSED),
        (await_("block"), State.HALF_OPEN),
        (await_("permit"), State.CLOSED),
        (await_("generator"), State.HALF_OPEN),
    ],
)
def test_interruption_between_any_two_steps_leaves_no_call_no_permit_and_no_lock_behind(
    breakers: Iterator[tuple[CircuitBreaker, FakeClock]], way: Callable[[CircuitBreaker], None], state: State
) -> None:
    for tried, (breaker, clock) in enumerate(breakers, start=1):
        fail(breaker)  # one more failure opens it, and a success does not take the quick path
        if state is not State.CLOSED:
            fail(breaker)
            clock.advance(10)
        if state is State.HALF_OPEN:
            with suppress(KeyboardInterrupt), breaker:
                raise KeyboardInterrupt
        assert breaker.state is state
        more = interrupted(lambda: way(breaker), tried)  # noqa: B023 - it is called in this iteration
        breaker.control.evaluate()  # completes steps that were cut off
        assert breaker.snapshot().in_flight == 0, f"point {tried}"
        assert breaker.ledger.core.lock.run(lambda: True, 0), f"point {tried}"
        another = FilePermit(0, f"{breaker.ledger.path}.locks/permit-{tried - 1}-0")  # as another process opens it
        assert another.lock(), f"point {tried}"
        for _ in range(3):  # a transition that was cut off may have left its deadline
            clock.advance(10)
            succeed(breaker)
        assert breaker.state is State.CLOSED, f"point {tried}"
        if not more:
            break
    assert tried > 50


@pytest.mark.parametrize("name", AWAITED)
@pytest.mark.parametrize("end", ["cancelled", "closed", "dropped"])
def test_coroutine_that_ends_where_it_is_suspended_leaves_no_call_and_no_permit_behind(
    breakers: Iterator[tuple[CircuitBreaker, FakeClock]], name: str, end: str
) -> None:
    for (state, point), (breaker, clock) in zip(
        product((State.CLOSED, State.OPEN), range(1, 5)), breakers, strict=False
    ):
        if state is State.OPEN:
            fail(breaker)
            fail(breaker)
            clock.advance(10)
        work = AWAITED[name](breaker)
        with suppress(StopIteration, ZeroDivisionError, asyncio.CancelledError):
            for _ in range(point):
                work.send(None)
            if end == "cancelled":
                work.throw(asyncio.CancelledError())
        if end == "closed":
            work.close()
        del work
        gc.collect(0)
        breaker.control.evaluate()
        assert breaker.snapshot().in_flight == 0
        assert Bulkhead(breaker, 1).call(int) == 0 or breaker.state is State.OPEN


def test_signal_handler_that_begins_a_call_between_any_two_steps_gets_counters_of_its_own(tmp_path: Path) -> None:
    ledger = Ledger.in_file(tmp_path / "l")
    for number in count(1):
        breaker, calls = CircuitBreaker(f"b{number}", clock=FakeClock(), ledger=ledger), list[Call]()
        begin = partial(lambda breaker, calls: calls.append(breaker.begin()), breaker, calls)
        if not interrupted(begin, number, begin):
            break
        for call in calls:
            call.succeed()
        assert (breaker.snapshot().totals.successes, breaker.snapshot().in_flight) == (2, 0), number
    assert number > 20
