"""Calls count while they run, and permits come back. docs/rules.md, rules 4, 5 and 11."""

import os
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from cb import BreakerConfig, CircuitBreaker, CircuitOpenError, Event, Ledger, Reclaimed, State
from tests.unit.conftest import Dependency, FakeClock

Make = Callable[..., Dependency]
RATE = {"failure_threshold": None, "failure_rate_threshold": 0.5, "minimum_requests": 2}


def test_call_that_runs_beyond_the_slow_threshold_counts_as_slow_before_it_ends(make: Make) -> None:
    dependency = make(slow_call_duration="2s", minimum_requests=2, slow_call_rate_threshold=1.0)
    with dependency.breaker, dependency.breaker:
        dependency.clock.advance(1.9)
        dependency.breaker.control.evaluate()
        assert dependency.breaker.snapshot().window.requests == 0
        dependency.clock.advance(0.1)
        assert dependency.breaker.snapshot().window.slow == 2
        dependency.breaker.control.evaluate()
        assert dependency.breaker.state is State.OPEN
    assert dependency.breaker.snapshot().totals.late == 2


def test_call_that_runs_beyond_the_call_timeout_counts_as_failed_before_it_ends(make: Make) -> None:
    dependency = make(**RATE, call_timeout="1s", slow_call_rate_threshold=None)
    with dependency.breaker, dependency.breaker:
        dependency.clock.advance(1)
        dependency.breaker.control.evaluate()
        assert dependency.breaker.state is State.OPEN
        assert "2 of 2 calls failed" in dependency.breaker.snapshot().why


def test_call_that_hung_is_replaced_by_its_real_outcome_when_it_ends(make: Make) -> None:
    dependency = make(**RATE, call_timeout="1s")
    dependency.answer()
    dependency.answer()
    with dependency.breaker:
        dependency.clock.advance(5)
        assert (dependency.breaker.snapshot().window.requests, dependency.breaker.snapshot().window.failures) == (3, 1)
    window = dependency.breaker.snapshot().window
    assert (window.requests, window.failures, window.slow) == (3, 0, 1)


def test_calls_that_hang_make_a_streak_until_another_call_succeeds(make: Make) -> None:
    dependency = make(
        failure_threshold=3, failure_rate_threshold=None, slow_call_rate_threshold=None, call_timeout="1s"
    )
    with dependency.breaker, dependency.breaker:
        dependency.clock.advance(2)
        dependency.breaker.control.evaluate()
        assert dependency.breaker.snapshot().consecutive_failures == 2
        dependency.answer()
        assert dependency.breaker.snapshot().consecutive_failures == 0
        dependency.fail()
        dependency.fail()
        assert dependency.breaker.state is State.CLOSED


def test_failure_sees_the_calls_that_hang(make: Make) -> None:
    dependency = make(
        failure_threshold=3, failure_rate_threshold=None, slow_call_rate_threshold=None, call_timeout="1s"
    )
    with dependency.breaker, dependency.breaker:
        dependency.clock.advance(1)
        dependency.fail()
        assert dependency.breaker.state is State.OPEN


def test_running_calls_of_a_dead_process_become_failures_when_another_one_evaluates(
    tmp_path: Path, clock: FakeClock
) -> None:
    events: list[Event] = []
    config = BreakerConfig(failure_threshold=2, failure_rate_threshold=None)
    dead = Ledger.in_file(tmp_path / "l")
    breaker = CircuitBreaker("d", config, ledger=dead, clock=clock)
    with ExitStack() as running:
        running.enter_context(breaker)
        running.enter_context(breaker)
        dead.core.reset_after_fork()  # what a death does to its locks
        other = CircuitBreaker(
            "d", config, ledger=Ledger.in_file(tmp_path / "l"), listeners=[events.append], clock=clock
        )
        clock.advance(1)
        other.control.evaluate()
        assert other.state is State.OPEN
        assert events[0] == Reclaimed("d", 2, f"worker {os.getpid()} ended during a call")
        assert other.ledger.history()[-1].reason == f"2 consecutive failures: worker {os.getpid()} ended during a call"
        running.pop_all()


def test_probe_that_outlives_its_permit_counts_as_failed_and_its_answer_comes_too_late(make: Make) -> None:
    dependency = make(failure_threshold=1, timeout="1s", max_requests=2, success_threshold=1, probe_timeout="3s")
    dependency.fail()
    dependency.clock.advance(1)
    with dependency.breaker:
        dependency.clock.advance(3)
    assert dependency.breaker.state is State.HALF_OPEN
    dependency.fail()
    assert dependency.breaker.state is State.OPEN


def test_refused_probes_do_not_extend_the_life_of_a_hung_one(make: Make, events: list[Event]) -> None:
    dependency = make(failure_threshold=1, timeout="1s", max_requests=1, success_threshold=1, call_timeout="5s")
    dependency.fail()
    dependency.clock.advance(1)
    with dependency.running():
        for _ in range(99):
            dependency.clock.advance(0.05)
            with pytest.raises(CircuitOpenError):
                dependency.answer()
        assert dependency.breaker.state is State.HALF_OPEN
        dependency.clock.advance(0.05)
        with pytest.raises(CircuitOpenError):
            dependency.answer()
        assert dependency.breaker.state is State.OPEN
    assert Reclaimed("dependency", 1, "no result of a probe after 5 s") in events


def test_call_of_a_probe_has_the_property_probe(make: Make) -> None:
    dependency = make(failure_threshold=1, timeout="1s")
    with dependency.breaker as call:
        assert not call.probe
    dependency.fail()
    dependency.clock.advance(1)
    with dependency.breaker as call:
        assert call.probe


def test_raising_predicate_of_a_probe_gives_its_permit_back_and_surfaces(make: Make) -> None:
    def broken(error: BaseException) -> bool:
        raise LookupError("predicate")

    dependency = make(rules={"ignored": broken}, failure_threshold=1, timeout="1s", max_requests=1, success_threshold=1)
    dependency.breaker.control.force_open(reason="test", duration=1)
    dependency.clock.advance(1)
    with pytest.raises(LookupError, match="predicate"):
        dependency.breaker.call(divmod, 1, 0)
    snapshot = dependency.breaker.snapshot()
    assert (snapshot.state, snapshot.totals.neutral, snapshot.in_flight) == (State.HALF_OPEN, 1, 0)
    dependency.answer()
    assert dependency.breaker.state is State.CLOSED


def test_raising_predicate_of_a_result_is_neutral_and_surfaces(make: Make) -> None:
    dependency = make(rules={"failed_result": lambda answer: answer.nothing})
    with pytest.raises(AttributeError):
        dependency.answer()
    assert dependency.breaker.snapshot().totals.neutral == 1


def test_result_can_be_a_failure(make: Make) -> None:
    dependency = make(rules={"failed_result": lambda answer: answer == "answer"}, failure_threshold=2)
    assert dependency.answer() == "answer"
    dependency.answer()
    snapshot = dependency.breaker.snapshot()
    assert snapshot.state is State.OPEN
    assert snapshot.last_failure is not None and snapshot.last_failure.type == "result"


def test_exception_outside_failures_is_an_answer(make: Make) -> None:
    dependency = make(rules={"failures": (ConnectionError,)}, failure_threshold=1)
    dependency.fail(KeyError())
    assert dependency.breaker.snapshot().totals.successes == 1
    dependency.fail(ConnectionError())
    assert dependency.breaker.state is State.OPEN


def test_exceptions_are_classified_by_a_predicate(make: Make) -> None:
    dependency = make(rules={"failures": lambda error: "5" in str(error)}, failure_threshold=1)
    dependency.fail(ValueError("404"))
    dependency.fail(ValueError("500"))
    totals = dependency.breaker.snapshot().totals
    assert (totals.successes, totals.failures) == (1, 1)
