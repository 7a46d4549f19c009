"""A call inside a probe of its own breaker belongs to that probe. docs/rules.md, rule 21."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from cb import BreakerConfig, Bulkhead, CircuitBreaker, CircuitOpenError, Ledger, Registry, State
from cb.health_probes import HealthProbes
from cb.testing import FakeClock
from tests.unit.conftest import ONE, due, semaphore_of


def decorated(breaker: CircuitBreaker, inner: Callable[[], object]) -> None:
    breaker(inner)()


def with_fallback(breaker: CircuitBreaker, inner: Callable[[], object]) -> None:
    breaker(inner, fallback=0)()


def blocked(breaker: CircuitBreaker, inner: Callable[[], object]) -> None:
    with breaker.guard():
        inner()


def entered(breaker: CircuitBreaker, inner: Callable[[], object]) -> None:
    with breaker:
        inner()


def entered_by_a_generator(breaker: CircuitBreaker, inner: Callable[[], object]) -> None:
    @contextmanager
    def session() -> Iterator[None]:
        with breaker:
            yield

    with session():
        inner()


def begun(breaker: CircuitBreaker, inner: Callable[[], object]) -> None:
    call = breaker.begin()
    inner()
    call.succeed()


def shared_out(breaker: CircuitBreaker, inner: Callable[[], object]) -> None:
    Bulkhead(breaker, 1).call(inner)


def shared_out_in_a_block(breaker: CircuitBreaker, inner: Callable[[], object]) -> None:
    with Bulkhead(breaker, 1, wait=0.001).guard():
        inner()


def checked(breaker: CircuitBreaker, inner: Callable[[], object]) -> None:
    assert HealthProbes(breaker).run(inner)


OUTER = [decorated, with_fallback, blocked, entered, entered_by_a_generator, shared_out, shared_out_in_a_block, checked]
INNER = [decorated, with_fallback, blocked, entered, begun, shared_out, shared_out_in_a_block]


@pytest.mark.parametrize("outer", OUTER)
@pytest.mark.parametrize("inner", INNER)
def test_half_open_circuit_of_one_permit_is_closed_by_a_probe_that_calls_through_it(
    breaker: CircuitBreaker, outer: Callable[..., None], inner: Callable[..., None]
) -> None:
    seen: list[State] = []
    outer(breaker, lambda: inner(breaker, lambda: inner(breaker, lambda: seen.append(breaker.state))))
    assert seen == [State.HALF_OPEN]
    assert breaker.state is State.CLOSED
    assert breaker.snapshot().in_flight == 0
    assert breaker.snapshot().totals.rejected == 0


@pytest.mark.parametrize("outer", OUTER)
def test_probe_that_has_ended_encloses_nothing_more(
    breaker: CircuitBreaker, clock: FakeClock, outer: Callable[..., None]
) -> None:
    outer(breaker, int)
    due(breaker, clock)
    other = breaker.begin()
    with pytest.raises(CircuitOpenError):
        breaker.call(int)
    other.succeed()
    assert breaker.state is State.CLOSED


def test_failure_inside_that_the_probe_survives_is_no_outcome_of_the_round(breaker: CircuitBreaker) -> None:
    def retried() -> None:
        for _ in range(5):
            with suppress(ZeroDivisionError):
                breaker.call(divmod, 1, 0)
        breaker.call(int)

    breaker.call(retried)
    assert breaker.state is State.CLOSED
    totals = breaker.snapshot().totals
    assert (totals.successes, totals.failures) == (2, 6)


def test_failure_that_leaves_both_calls_is_one_outcome_of_the_round(clock: FakeClock) -> None:
    config = BreakerConfig(failure_threshold=1, max_requests=3, success_threshold=2, timeout=10, timeout_jitter=0)
    breaker = due(CircuitBreaker("d", config, clock=clock), clock)
    with pytest.raises(ZeroDivisionError):
        breaker.call(breaker.call, divmod, 1, 0)
    assert breaker.state is State.HALF_OPEN
    for _ in range(2):
        breaker.call(breaker.call, int)
    assert breaker.state is State.CLOSED


def test_interruption_inside_gives_the_one_permit_back(breaker: CircuitBreaker) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        breaker.call(breaker.call, interrupt)
    assert breaker.state is State.HALF_OPEN
    assert breaker.call(breaker.call, int) == 0
    assert breaker.state is State.CLOSED


def test_call_through_another_breaker_between_still_belongs_to_the_probe(
    breaker: CircuitBreaker, clock: FakeClock
) -> None:
    between = due(CircuitBreaker("between", ONE, clock=clock), clock)
    breaker.call(between.call, breaker.call, between.call, int)
    assert (breaker.state, between.state) == (State.CLOSED, State.CLOSED)


def test_probe_of_one_circuit_encloses_no_call_of_another(breaker: CircuitBreaker, clock: FakeClock) -> None:
    other = due(CircuitBreaker("d", ONE, clock=clock), clock)  # of the same name, in another ledger
    with breaker:
        probe = other.begin()
        with pytest.raises(CircuitOpenError):
            other.call(int)
        probe.succeed()


def test_breakers_of_one_name_are_one_circuit_also_through_two_ledgers_of_one_file(
    tmp_path: Path, clock: FakeClock
) -> None:
    ledgers = [Ledger.in_file(tmp_path / "l") for _ in range(2)]
    breakers = [Registry(ledger=each, defaults=ONE, clock=clock).get("d") for each in (*ledgers, ledgers[0])]
    due(breakers[0], clock)
    breakers[0].call(breakers[1].call, breakers[2].call, int)
    assert {each.state for each in breakers} == {State.CLOSED}


def test_call_inside_goes_its_own_way_once_the_round_is_over(clock: FakeClock) -> None:
    config = BreakerConfig(failure_threshold=1, max_requests=2, success_threshold=1, timeout=10, timeout_jitter=0)
    breaker = due(CircuitBreaker("d", config, clock=clock), clock)
    with breaker:
        breaker.begin().succeed()  # inside as well
        assert breaker.state is State.HALF_OPEN
        breaker.control.force_open(reason="test")
        with pytest.raises(CircuitOpenError):
            breaker.call(int)
        breaker.control.reset(reason="test")
        breaker.call(int)
    totals = breaker.snapshot().totals
    assert (totals.successes, totals.late, totals.rejected) == (2, 1, 1)


def test_call_begun_by_hand_encloses_no_other(breaker: CircuitBreaker) -> None:
    probe = breaker.begin()
    with pytest.raises(CircuitOpenError):
        breaker.call(int)
    probe.succeed()
    assert breaker.state is State.CLOSED


def test_bulkhead_inside_a_probe_needs_no_slot_that_others_have(breaker: CircuitBreaker) -> None:
    bulkhead = Bulkhead(breaker, 1)
    others = semaphore_of(breaker).take(1)
    assert others and breaker.call(bulkhead.call, int) == 0
    assert breaker.state is State.CLOSED
    assert breaker.snapshot().totals.full == 0


def test_call_inside_a_probe_that_hangs_is_no_second_failure(clock: FakeClock) -> None:
    config = replace(ONE, max_requests=3, success_threshold=1, probe_timeout=2)
    breaker = due(CircuitBreaker("d", config, clock=clock), clock)
    with breaker, breaker:
        clock.advance(3)
        breaker.control.evaluate()
        assert "1 of 3 probes sent, 0 succeeded and 1 failed" in breaker.explain()
    assert breaker.state is State.HALF_OPEN
    breaker.call(int)
    assert breaker.state is State.CLOSED
