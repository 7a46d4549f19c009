"""The token of a call that its caller runs itself: `begin`, `guard` and their settlement."""

import threading
from collections.abc import Callable

import pytest

from cb import BreakerConfig, Bulkhead, Call, CircuitBreaker, CircuitOpenError, Guard, State
from cb.testing import breaker_in
from tests.unit.conftest import Dependency, FakeClock, semaphore_of

Make = Callable[..., Dependency]
GUARDS: list[Callable[[CircuitBreaker], CircuitBreaker | Bulkhead]] = [
    lambda breaker: breaker,
    lambda breaker: Bulkhead(breaker, 1),
]
#: each way to settle a call, with the totals that it leaves: successes, failures, neutral
WAYS: list[tuple[Callable[[Call], None], tuple[int, int, int]]] = [
    (lambda call: call.succeed(), (1, 0, 0)),
    (lambda call: call.succeed("answer"), (1, 0, 0)),
    (lambda call: call.fail(OSError()), (0, 1, 0)),
    (lambda call: call.fail(KeyboardInterrupt()), (0, 0, 1)),
    (lambda call: call.discard(), (0, 0, 1)),
    (lambda call: call.cancel(), (0, 0, 0)),
]


def totals(breaker: CircuitBreaker) -> tuple[int, int, int]:
    counted = breaker.stats().totals
    return counted.successes, counted.failures, counted.neutral


@pytest.mark.parametrize("guard", GUARDS, ids=["breaker", "bulkhead"])
@pytest.mark.parametrize(("settle", "counted"), WAYS)
@pytest.mark.parametrize(("again", "_"), WAYS)
def test_call_that_is_settled_twice_counts_as_the_first_time(
    make: Make,
    guard: Callable[[CircuitBreaker], Guard],
    settle: Callable[[Call], None],
    counted: tuple[int, int, int],
    again: Callable[[Call], None],
    _: object,
) -> None:
    breaker = make().breaker
    call = guard(breaker).begin()
    assert breaker.stats().in_flight == 1
    settle(call)
    running = breaker.begin()  # it may have the counters of the first call
    again(call)
    call.pause()
    call.resume()
    assert (totals(breaker), breaker.stats().in_flight) == (counted, 1)
    running.discard()


def test_result_of_a_begun_call_is_classified_like_that_of_a_function() -> None:
    breaker = CircuitBreaker("d", failed_result=lambda status: status == 500)
    breaker.begin().succeed(200)
    breaker.begin().succeed(500)
    breaker.begin().succeed()  # no result: the predicate is not consulted
    with pytest.raises(TypeError, match="whose work is done later"):
        breaker.begin().succeed(iter_later())
    assert totals(breaker) == (2, 1, 1)


def iter_later() -> object:
    return (number for number in range(3))


def test_block_that_settles_its_call_is_not_settled_again_at_its_end(make: Make) -> None:
    breaker = make().breaker
    with breaker.guard() as call:
        call.fail(OSError("a response with status 500"))
    with breaker as call:
        call.discard()
    with pytest.raises(OSError), breaker.guard() as call:
        call.succeed()
        raise OSError
    assert totals(breaker) == (1, 1, 1)


def test_call_may_be_settled_by_another_thread(make: Make) -> None:
    breaker = make().breaker
    call = breaker.begin()
    thread = threading.Thread(target=call.succeed)
    thread.start()
    thread.join()
    assert (totals(breaker), breaker.stats().in_flight) == ((1, 0, 0), 0)


def test_call_that_is_dropped_counts_as_neither_and_returns_its_permits(breaker: CircuitBreaker) -> None:
    bulkhead = Bulkhead(breaker, 1)
    call = bulkhead.begin()
    assert call.probe and semaphore_of(breaker).take(1) is None
    del call
    breaker.control.evaluate()
    assert (totals(breaker), breaker.stats().in_flight) == ((0, 1, 1), 0)
    assert bulkhead.call(int) == 0
    assert breaker.state is State.CLOSED


def test_probe_that_is_cancelled_returns_its_permit_and_leaves_no_outcome(breaker: CircuitBreaker) -> None:
    before = totals(breaker)
    breaker.begin().cancel()
    assert (totals(breaker), breaker.state) == (before, State.HALF_OPEN)
    breaker.begin().succeed()
    assert breaker.state is State.CLOSED


def test_probe_says_so_while_it_runs(breaker: CircuitBreaker) -> None:
    call = breaker.begin()
    assert (call.probe, call.state) == (True, State.HALF_OPEN)
    call.succeed()
    assert (call.probe, call.state) == (False, State.CLOSED)


@pytest.mark.parametrize(
    ("state", "text"),
    [
        (State.CLOSED, "<CircuitBreaker 'vendor' CLOSED, shared by process>"),
        (State.OPEN, "<CircuitBreaker 'vendor' OPEN, retry in 12.0 s, shared by process>"),
        (State.HALF_OPEN, "<CircuitBreaker 'vendor' HALF_OPEN, shared by process>"),
        (State.FORCED_OPEN, "<CircuitBreaker 'vendor' FORCED_OPEN, until reset, shared by process>"),
    ],
)
def test_repr_of_a_breaker_has_its_name_its_state_and_who_shares_it(state: State, text: str) -> None:
    breaker = breaker_in(state, BreakerConfig(timeout=12), name="vendor")
    assert repr(breaker) == text
    assert repr(breaker.control) == text.replace("CircuitBreaker", "BreakerControl")


def test_repr_of_a_held_breaker_has_the_time_that_is_left(clock: FakeClock) -> None:
    breaker = CircuitBreaker("vendor", clock=clock)
    breaker.control.disable(reason="test", duration=60)
    clock.advance(15)
    assert repr(breaker) == "<CircuitBreaker 'vendor' DISABLED, for 45.0 s, shared by process>"


def test_repr_of_calls_and_bulkheads(breaker: CircuitBreaker) -> None:
    assert repr(Bulkhead(breaker, 3)) == "<Bulkhead 'd', 3 calls at once, OPEN>"
    probe = breaker.begin()
    assert repr(probe) == "<Call of 'd', probe>"
    probe.succeed()
    assert repr(probe) == "<Call of 'd', settled>"
    assert repr(breaker.begin()) == "<Call of 'd', running>"


@pytest.mark.parametrize("guard", GUARDS, ids=["breaker", "bulkhead"])
def test_breakers_and_bulkheads_have_the_same_entry_points(
    make: Make, guard: Callable[[CircuitBreaker], Guard]
) -> None:
    breaker = make(failure_threshold=1).breaker
    guarded = guard(breaker)
    assert guarded.name == breaker.name
    guarded.begin().succeed()
    with guarded.guard():
        pass
    with guard(breaker):
        pass
    assert guarded.call(abs, -1) == guarded(abs)(-1) == 1
    assert totals(breaker) == (5, 0, 0)
    breaker.control.force_open(reason="test")
    for enter in (guarded.begin, guarded.guard().__enter__, lambda: guarded.call(int), guarded(int)):
        with pytest.raises(CircuitOpenError):
            enter()
