"""The state machine: one test per arrow, and the rules of each state. docs/rules.md, rules 1 to 3 and 5 to 8."""

import random
from collections.abc import Callable
from contextlib import suppress

import pytest

from cb import (
    BreakerConfig,
    CircuitOpenError,
    Event,
    Reclaimed,
    State,
    StateChange,
)
from cb.breaker import admission_of
from cb.ledger import layout as at
from cb.ledger.time_bounds import NO_PERMIT_TTL_NS
from cb.states import Counts
from cb.testing import FakeClock, breaker_in
from tests.unit.conftest import Dependency

Make = Callable[..., Dependency]
CONSECUTIVE = {"failure_threshold": 3, "failure_rate_threshold": None, "slow_call_rate_threshold": None}
RATE = {"failure_threshold": None, "failure_rate_threshold": 0.5, "minimum_requests": 4}
SLOW = {"failure_threshold": None, "failure_rate_threshold": None, "slow_call_duration": "1s", "minimum_requests": 4}


def opened(make: Make, **settings: object) -> Dependency:
    dependency = make(**{**CONSECUTIVE, "timeout": "30s", **settings})
    for _ in range(3):
        dependency.fail()
    assert dependency.breaker.state is State.OPEN
    return dependency


def half_opened(make: Make, **settings: object) -> Dependency:
    """Open a circuit, wait, and let the first probe succeed."""
    dependency = opened(make, **settings)
    dependency.clock.advance(30)
    dependency.answer()
    assert dependency.breaker.state is State.HALF_OPEN
    return dependency


def test_closed_circuit_lets_calls_through_and_returns_their_answer(make: Make) -> None:
    assert make().answer() == "answer"


def test_closed_circuit_opens_at_the_third_failure_in_a_row(make: Make, changes: list[StateChange]) -> None:
    dependency = make(**CONSECUTIVE)
    dependency.fail()
    dependency.fail()
    assert dependency.breaker.state is State.CLOSED
    dependency.fail()
    assert dependency.breaker.state is State.OPEN
    assert [(change.before, change.after) for change in changes] == [(State.CLOSED, State.OPEN)]
    assert changes[0].reason == "3 consecutive failures"


def test_closed_circuit_with_a_success_between_failures_counts_the_streak_anew(make: Make) -> None:
    dependency = make(**CONSECUTIVE)
    dependency.fail()
    dependency.fail()
    dependency.answer()
    dependency.fail()
    dependency.fail()
    assert dependency.breaker.state is State.CLOSED
    dependency.fail()
    assert dependency.breaker.state is State.OPEN


def test_closed_circuit_opens_when_the_failure_rate_reaches_its_threshold(make: Make) -> None:
    dependency = make(**RATE)
    dependency.answer()
    dependency.answer()
    dependency.fail()
    assert dependency.breaker.state is State.CLOSED
    dependency.fail()
    assert dependency.breaker.state is State.OPEN


def test_closed_circuit_opens_on_the_success_that_completes_the_minimum(make: Make) -> None:
    dependency = make(**RATE)
    for _ in range(3):
        dependency.fail()
    assert dependency.breaker.state is State.CLOSED
    dependency.answer()
    assert dependency.breaker.state is State.OPEN


def test_closed_circuit_opens_on_a_success_after_older_successes_left_the_window(make: Make) -> None:
    dependency = make(**RATE, interval="10s")
    for _ in range(9):
        dependency.answer()
    dependency.clock.advance(5)
    for _ in range(8):
        dependency.fail()
    assert dependency.breaker.state is State.CLOSED
    dependency.clock.advance(6)
    dependency.answer()
    assert dependency.breaker.state is State.OPEN


def test_closed_circuit_forgets_failures_older_than_its_window(make: Make) -> None:
    dependency = make(**RATE, interval="10s")
    for _ in range(3):
        dependency.fail()
    dependency.clock.advance(10)
    for _ in range(4):
        dependency.answer()
    assert dependency.breaker.state is State.CLOSED
    assert dependency.breaker.snapshot().window.failures == 0


def test_closed_circuit_remembers_failures_for_nine_tenths_of_its_window(make: Make) -> None:
    dependency = make(**RATE, interval="10s")
    dependency.clock.advance(0.999)
    for _ in range(3):
        dependency.fail()
    dependency.clock.advance(9)
    assert dependency.breaker.snapshot().window.failures == 3


def test_closed_circuit_opens_when_the_slow_call_rate_reaches_its_threshold(make: Make) -> None:
    dependency = make(**SLOW)
    dependency.answer()
    for _ in range(3):
        dependency.answer(seconds=1)
    assert dependency.breaker.state is State.CLOSED
    dependency.answer(seconds=1)
    assert dependency.breaker.state is State.OPEN
    assert dependency.breaker.snapshot().window.slow == 4


def test_closed_circuit_stays_closed_and_says_so_while_slow_calls_succeed_and_nothing_asks_for_them(make: Make) -> None:
    dependency = make()
    for _ in range(20):
        dependency.answer(seconds=2.05)
    snapshot = dependency.breaker.snapshot()
    assert (snapshot.state, snapshot.window.slow, snapshot.window.requests) == (State.CLOSED, 20, 20)
    assert snapshot.why.endswith("20 slow (100%), open nothing without slow_call_rate_threshold")


def test_half_open_circuit_closes_by_slow_answers_where_nothing_asks_for_slow_calls(make: Make) -> None:
    dependency = opened(make, max_requests=1, success_threshold=1)
    dependency.clock.advance(30)
    dependency.answer(seconds=2.05)
    assert dependency.breaker.state is State.CLOSED


def test_open_circuit_refuses_calls_and_says_when_to_come_back(make: Make) -> None:
    dependency = opened(make)
    dependency.clock.advance(10)
    with pytest.raises(CircuitOpenError) as refused:
        dependency.answer()
    assert (refused.value.name, refused.value.retry_after) == ("dependency", 20.0)
    assert dependency.reached == 3


def test_open_circuit_whose_time_is_up_stays_open_until_a_call_comes(make: Make) -> None:
    dependency = opened(make)
    dependency.clock.advance(31)
    assert dependency.breaker.snapshot().state is State.OPEN
    assert dependency.breaker.state is State.OPEN
    dependency.answer()
    assert dependency.breaker.state is State.HALF_OPEN


def test_rejected_calls_are_counted_as_rejected_and_as_nothing_else(make: Make) -> None:
    dependency = opened(make)
    before = dependency.breaker.snapshot()
    for _ in range(5):
        with pytest.raises(CircuitOpenError):
            dependency.answer()
    after = dependency.breaker.snapshot()
    assert after.totals.rejected == 5
    assert (after.window, after.totals.requests) == (before.window, before.totals.requests)


def test_half_open_circuit_closes_after_enough_successes_with_an_empty_window(make: Make) -> None:
    dependency = half_opened(make, success_threshold=3)
    dependency.answer()
    assert dependency.breaker.state is State.HALF_OPEN
    dependency.answer()
    snapshot = dependency.breaker.snapshot()
    assert snapshot.state is State.CLOSED
    assert (snapshot.window.requests, snapshot.consecutive_failures) == (0, 0)


def test_half_open_circuit_reopens_when_success_is_out_of_reach(make: Make) -> None:
    dependency = half_opened(make, max_requests=5, success_threshold=3)
    dependency.fail()
    dependency.fail()
    assert dependency.breaker.state is State.HALF_OPEN
    dependency.fail()
    assert dependency.breaker.state is State.OPEN
    assert "3 of 5 probes failed" in dependency.breaker.snapshot().why


def test_half_open_circuit_takes_a_slow_answer_for_a_failed_probe(make: Make) -> None:
    dependency = opened(make, max_requests=1, success_threshold=1, slow_call_rate_threshold=0.5)
    dependency.clock.advance(30)
    dependency.answer(seconds=2)
    assert dependency.breaker.state is State.OPEN


def test_half_open_circuit_admits_no_more_probes_at_once_than_its_permits(make: Make) -> None:
    dependency = opened(make, max_requests=2, success_threshold=2)
    dependency.clock.advance(30)
    with dependency.running(2):
        assert dependency.breaker.snapshot().in_flight == 2
        with pytest.raises(CircuitOpenError):
            dependency.answer()
    assert dependency.breaker.state is State.CLOSED


def test_half_open_circuit_without_a_verdict_reopens_at_the_next_call(make: Make) -> None:
    dependency = half_opened(make, half_open_max_duration="20s")
    dependency.clock.advance(20)
    with pytest.raises(CircuitOpenError) as refused:
        dependency.answer()
    assert refused.value.retry_after == 30.0
    assert "no verdict in 20 s" in dependency.breaker.snapshot().why


def test_half_open_circuit_gets_the_permit_of_an_interrupted_probe_back(make: Make) -> None:
    dependency = opened(make, max_requests=1, success_threshold=1)
    dependency.clock.advance(30)
    dependency.fail(KeyboardInterrupt())
    dependency.fail(GeneratorExit())
    assert dependency.breaker.state is State.HALF_OPEN
    dependency.answer()
    assert dependency.breaker.state is State.CLOSED


def test_every_change_of_state_raises_the_generation_by_one(make: Make, changes: list[StateChange]) -> None:
    dependency = opened(make, max_requests=1, success_threshold=1)
    dependency.clock.advance(30)
    dependency.answer()
    assert [change.generation for change in changes] == [2, 3, 4]
    assert dependency.breaker.snapshot().generation == 4


def test_opening_with_jitter_leaves_the_generator_of_the_program_alone(make: Make) -> None:
    before = random.getstate()
    opened(make, timeout_jitter=0.5)
    assert random.getstate() == before


def test_rejected_calls_of_a_round_without_free_permits_do_not_wait_for_each_other() -> None:
    breaker = breaker_in(State.HALF_OPEN, BreakerConfig(max_requests=1, success_threshold=1))
    probe = breaker.begin()
    for _ in range(3):
        with suppress(CircuitOpenError):
            breaker.call(int)
    with pytest.raises(CircuitOpenError):
        breaker.ledger.core.lock.run(lambda: breaker.call(int), 0)  # it would raise LedgerBusyError, or wait
    probe.succeed()
    assert breaker.state is State.CLOSED


def test_half_open_circuit_keeps_the_streak_that_opened_it_while_probes_succeed(make: Make) -> None:
    assert half_opened(make).breaker.snapshot().consecutive_failures == 3


def test_half_open_circuit_adds_up_probes_that_run_at_once(make: Make) -> None:
    dependency = half_opened(make, max_requests=5, success_threshold=3)
    for error in (KeyboardInterrupt, OSError):
        with pytest.raises(error), dependency.running(2):
            raise error
    why = "half-open: 3 of 5 probes sent, 1 succeeded and 2 failed, closes after 3"
    assert dependency.breaker.snapshot().why == why


def test_half_open_circuit_counts_every_probe_that_hangs(make: Make, events: list[Event]) -> None:
    dependency = make(failure_threshold=1, timeout="1s", max_requests=3, success_threshold=1, call_timeout="3s")
    dependency.fail()
    dependency.clock.advance(1)
    with dependency.running(2):
        dependency.clock.advance(3)
        why = "half-open: 2 of 3 probes sent, 0 succeeded and 2 failed, closes after 1"
        assert dependency.breaker.snapshot().why == why
        with dependency.breaker:
            assert dependency.breaker.state is State.HALF_OPEN
            dependency.clock.advance(3)
            dependency.breaker.control.evaluate()
            assert dependency.breaker.state is State.OPEN
    assert Reclaimed("dependency", 3, "no result of a probe after 3 s") in events


def test_events_of_all_states_have_their_reasons(make: Make, events: list[Event]) -> None:
    dependency = half_opened(make, success_threshold=2)
    dependency.answer()
    assert events == [
        StateChange("dependency", State.CLOSED, State.OPEN, 2, "3 consecutive failures"),
        StateChange("dependency", State.OPEN, State.HALF_OPEN, 3, "time to try again"),
        StateChange("dependency", State.HALF_OPEN, State.CLOSED, 4, "2 probes succeeded"),
    ]


def test_changes_of_state_are_counted_by_where_they_come_from_and_go_to(make: Make) -> None:
    dependency = opened(make, max_requests=1, success_threshold=1)
    for _ in range(2):
        dependency.clock.advance(30)
        dependency.fail()
    dependency.clock.advance(30)
    dependency.answer()
    dependency.breaker.control.disable(reason="test")
    dependency.breaker.control.metrics_only(reason="test")
    assert dependency.breaker.snapshot().changes == {
        (State.CLOSED, State.OPEN): 1,
        (State.OPEN, State.HALF_OPEN): 3,
        (State.HALF_OPEN, State.OPEN): 2,
        (State.HALF_OPEN, State.CLOSED): 1,
        (State.CLOSED, State.DISABLED): 1,
        (State.DISABLED, State.METRICS_ONLY): 1,
    }


def test_open_time_after_hundreds_of_failed_rounds_is_its_cap(make: Make) -> None:
    dependency = opened(make, timeout_multiplier=100, timeout_max="1h", max_requests=1, success_threshold=1)
    for _ in range(200):
        dependency.clock.advance(3600)
        dependency.fail()
    assert dependency.breaker.snapshot().retry_after == 3600


def test_circuit_that_follows_the_fleet_has_its_state_end_and_rounds_and_leaves_the_next_change_to_it(
    make: Make, clock: FakeClock
) -> None:
    dependency = make()
    dependency.answer()
    circuit, head = admission_of(dependency.breaker).circuit, admission_of(dependency.breaker).circuit.record.head
    now = clock()

    opened = circuit.machine.follow(State.OPEN, now, "fleet: told to", now + 7, 3)

    assert (opened.before, opened.after, opened.reason) == (State.CLOSED, State.OPEN, "fleet: told to")
    assert opened.window == Counts(requests=1)
    assert (head[at.UNTIL], head[at.ROUNDS], head[at.FLEET_CONTROLLED]) == (now + 7, 3, 1)
    circuit.machine.follow(State.HALF_OPEN, now, "fleet: told to", now + 5, 3)
    assert (head[at.UNTIL], head[at.FLEET_CONTROLLED]) == (now + 5, 1)
    circuit.machine.follow(State.CLOSED, now, "fleet: told to", 0, 0)
    assert (dependency.breaker.state, head[at.FLEET_CONTROLLED]) == (State.CLOSED, 0)


def test_state_that_a_host_enters_after_one_of_the_fleet_is_its_own(make: Make, clock: FakeClock) -> None:
    circuit = admission_of(make().breaker).circuit
    circuit.machine.follow(State.OPEN, clock(), "fleet: told to", 0, 0)
    circuit.machine.command(State.DISABLED, clock(), "by hand", None)
    assert circuit.record.head[at.FLEET_CONTROLLED] == 0


def test_call_that_finds_no_permit_spares_those_that_follow_it_a_search(make: Make, clock: FakeClock) -> None:
    dependency = opened(make, max_requests=1)
    head = admission_of(dependency.breaker).circuit.record.head
    clock.advance(30)
    with dependency.running():
        with pytest.raises(CircuitOpenError):
            dependency.answer()
        assert (head[at.NO_PERMIT], head[at.NO_PERMIT_UNTIL]) == (head[at.WORD], clock() + NO_PERMIT_TTL_NS)


def test_change_at_a_time_tells_of_no_window(make: Make, changes: list[StateChange]) -> None:
    half_opened(make)
    assert (changes[-1].after, changes[-1].window, changes[-1].window_seconds) == (State.HALF_OPEN, None, None)
