"""Edges that mutation testing found unguarded: see docs/mutation.md. docs/rules.md, rules 2, 5, 6, 11 and 19."""

import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from cb import BreakerConfig, CircuitBreaker, CircuitOpenError, Event, Ledger, Reclaimed, State, StateChange, WouldOpen
from cb.ledger import layout as at
from cb.ledger.shards import RESERVED_SHARDS
from tests.unit.conftest import Dependency, FakeClock
from tests.unit.test_machine import CONSECUTIVE, RATE, SLOW, half_opened, opened

Make = Callable[..., Dependency]
CLOSED, OPEN, HALF_OPEN = State.CLOSED, State.OPEN, State.HALF_OPEN


def test_closed_circuit_opens_on_the_quick_success_that_completes_the_minimum_of_slow_calls(make: Make) -> None:
    dependency = make(**SLOW, slow_call_rate_threshold=0.5)
    for _ in range(3):
        dependency.answer(seconds=1)
    assert dependency.breaker.state is CLOSED
    dependency.answer()
    assert dependency.breaker.state is OPEN


def test_closed_circuit_opens_on_the_second_success_after_failures_if_it_completes_the_minimum(make: Make) -> None:
    dependency = make(**RATE)
    dependency.fail()
    dependency.fail()
    dependency.answer()
    assert dependency.breaker.state is CLOSED
    dependency.answer()
    assert dependency.breaker.state is OPEN


def test_closed_circuit_opens_on_a_success_at_the_instant_older_successes_leave_the_window(make: Make) -> None:
    dependency = make(**RATE, interval="10s")
    for _ in range(9):
        dependency.answer()
    dependency.clock.advance(9)
    for _ in range(8):
        dependency.fail()
    assert dependency.breaker.state is CLOSED
    dependency.clock.advance(1)
    dependency.answer()
    assert dependency.breaker.state is OPEN


def test_closed_circuit_forgets_slow_calls_older_than_its_window(make: Make) -> None:
    dependency = make(slow_call_duration="1s", interval="10s")
    with dependency.breaker, dependency.breaker:
        dependency.clock.advance(1)
    assert dependency.breaker.snapshot().window.slow == 2
    dependency.clock.advance(10)
    dependency.answer()
    window = dependency.breaker.snapshot().window
    assert (window.requests, window.slow, window.slow_call_rate) == (1, 0, 0)


def frames(dependency: Dependency) -> int:
    """Return how many functions of Python a successful call runs: its cost, whatever else the machine does."""
    ran: list[str] = []
    sys.setprofile(lambda _, event, __: ran.append(event))
    try:
        dependency.answer()
    finally:
        sys.setprofile(None)
    return ran.count("call")


def test_closed_circuit_with_failures_about_sums_its_window_at_the_minimum_and_then_rests(make: Make) -> None:
    dependency = make(failure_threshold=None, failure_rate_threshold=0.9, minimum_requests=4)
    dependency.fail()
    dependency.answer()
    looking = [frames(dependency), frames(dependency)]
    assert frames(dependency) < min(looking)


def test_closed_circuit_whose_failures_have_left_the_window_is_as_quick_as_before(make: Make) -> None:
    dependency = make()
    dependency.answer()
    before = frames(dependency)
    dependency.clock.advance(6)
    assert frames(dependency) > before  # the first of a new slice
    assert frames(dependency) == before
    dependency.fail()
    assert frames(dependency) > before
    dependency.clock.advance(60)
    dependency.answer()
    assert frames(dependency) == before


def test_half_open_circuit_keeps_the_streak_that_opened_it_while_probes_succeed(make: Make) -> None:
    assert half_opened(make).breaker.snapshot().consecutive_failures == 3


def test_call_that_hangs_after_a_success_extends_the_streak_when_its_time_is_up(make: Make) -> None:
    dependency = make(call_timeout="1s")
    dependency.fail()
    dependency.answer()
    with dependency.breaker:
        dependency.clock.advance(1)
        assert dependency.breaker.snapshot().consecutive_failures == 1


def test_success_at_the_instant_another_call_times_out_ends_the_streak(make: Make) -> None:
    dependency = make(call_timeout="1s")
    with dependency.breaker:
        dependency.clock.advance(1)
        dependency.breaker.control.evaluate()
        dependency.answer()
        assert dependency.breaker.snapshot().consecutive_failures == 0


def test_circuit_reset_twice_at_one_instant_has_forgotten_the_calls_between(make: Make) -> None:
    dependency = make(**CONSECUTIVE)
    dependency.breaker.control.reset(reason="one")
    dependency.fail()
    dependency.fail()
    dependency.breaker.control.reset(reason="two")
    empty = dependency.breaker.snapshot()
    assert (empty.consecutive_failures, empty.window.failure_rate, empty.window.slow_call_rate) == (0, 0, 0)
    dependency.fail()
    assert dependency.breaker.state is CLOSED


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
            assert dependency.breaker.state is HALF_OPEN
            dependency.clock.advance(3)
            dependency.breaker.control.evaluate()
            assert dependency.breaker.state is OPEN
    assert Reclaimed("dependency", 3) in events


def test_calls_beyond_the_hosts_tallies_are_counted_and_probe_like_any_other(make: Make) -> None:
    dependency = make(
        failure_threshold=1, slow_call_rate_threshold=None, timeout="1s", max_requests=1, success_threshold=1
    )
    dependency.answer()
    with ExitStack() as running:
        for _ in range(at.SHARDS * at.STRIPES):  # more than there are: one tally is kept for all that find none
            running.enter_context(dependency.breaker)
        blocks = at.SHARDS - RESERVED_SHARDS if dependency.breaker.ledger.scope == "host" else at.SHARDS
        assert dependency.breaker.snapshot().in_flight == blocks * at.STRIPES - 1
        dependency.fail(KeyboardInterrupt())
        dependency.answer(seconds=2)
        dependency.fail()
        with pytest.raises(CircuitOpenError):
            dependency.answer()
        dependency.clock.advance(1)
        dependency.answer()
        assert dependency.breaker.state is CLOSED
    totals = dependency.breaker.snapshot().totals
    assert (totals.successes, totals.failures, totals.slow) == (3, 1, 1)
    assert (totals.neutral, totals.rejected, totals.late) == (1, 1, at.SHARDS * at.STRIPES)


def test_way_through_all_states_is_told_with_its_reasons(make: Make, events: list[Event]) -> None:
    dependency = half_opened(make, success_threshold=2)
    dependency.answer()
    assert events == [
        StateChange("dependency", CLOSED, OPEN, 2, "3 consecutive failures"),
        StateChange("dependency", OPEN, HALF_OPEN, 3, "time to try again"),
        StateChange("dependency", HALF_OPEN, CLOSED, 4, "2 probes succeeded"),
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
        (CLOSED, OPEN): 1,
        (OPEN, HALF_OPEN): 3,
        (HALF_OPEN, OPEN): 2,
        (HALF_OPEN, CLOSED): 1,
        (CLOSED, State.DISABLED): 1,
        (State.DISABLED, State.METRICS_ONLY): 1,
    }


def test_measuring_circuit_says_once_that_it_would_close_and_again_when_it_would_open(
    make: Make, events: list[Event]
) -> None:
    dependency = make(failure_threshold=1, failure_rate_threshold=None)
    dependency.breaker.control.metrics_only(reason="trial")
    events.clear()
    dependency.fail()
    dependency.answer()
    dependency.breaker.control.evaluate()
    assert "would be closed" in dependency.breaker.snapshot().why
    dependency.fail()
    assert events == [
        WouldOpen("dependency", "1 consecutive failures"),
        WouldOpen("dependency", None),
        WouldOpen("dependency", "1 consecutive failures"),
    ]


@pytest.mark.parametrize("name", ["TimeoutX", "Störfälle"])
def test_last_failure_is_told_by_its_whole_name(make: Make, name: str) -> None:
    dependency = make()
    dependency.fail(type(name, (ConnectionError,), {})())
    failure = dependency.breaker.snapshot().last_failure
    assert failure is not None and failure.type == name


def test_open_time_after_hundreds_of_failed_rounds_is_its_cap(make: Make) -> None:
    dependency = opened(make, timeout_multiplier=100, timeout_max="1h", max_requests=1, success_threshold=1)
    for _ in range(200):
        dependency.clock.advance(3600)
        dependency.fail()
    assert dependency.breaker.snapshot().retry_after == 3600


def test_worker_on_a_damaged_ledger_uses_its_own_thresholds(tmp_path: Path, clock: FakeClock) -> None:
    path, config = tmp_path / "l", BreakerConfig(failure_threshold=7)
    breaker = CircuitBreaker("d", config, ledger=Ledger.in_file(path), clock=clock)
    with pytest.raises(ZeroDivisionError):
        breaker.call(divmod, 1, 0)
    with path.open("r+b") as file:
        for cell in (at.CONFIG, at.PAGE + at.FAILED_TYPE):
            file.seek((at.HEADER + cell) * 8)
            file.write(b"\xff")
    failure = breaker.snapshot().last_failure
    assert failure is not None and failure.type == "\ufffderoDivisionError"
    assert CircuitBreaker("d", config, ledger=Ledger.in_file(path), clock=clock).config == config
