"""Operators, live configuration, events and the log of transitions. docs/rules.md, rule 19."""

from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest

from cb import (
    BreakerConfig,
    CircuitBreaker,
    CircuitOpenError,
    ConfigError,
    Event,
    LateResult,
    Ledger,
    LedgerDegraded,
    Rejected,
    State,
    StateChange,
    WouldOpen,
)
from cb.states import Counts
from cb.testing import FakeClock
from tests.unit.conftest import Dependency

Make = Callable[..., Dependency]


def two(tmp_path: Path, clock: FakeClock, *configs: BreakerConfig) -> list[CircuitBreaker]:
    """Return the breaker as two workers have it."""
    both = configs or (BreakerConfig(failure_threshold=3), BreakerConfig(failure_threshold=3))
    return [CircuitBreaker("d", config, ledger=Ledger.in_file(tmp_path / "l"), clock=clock) for config in both]


def test_circuit_forced_open_in_one_worker_refuses_calls_in_all_until_reset(tmp_path: Path, clock: FakeClock) -> None:
    one, other = two(tmp_path, clock)
    other.call(int)
    one.control.force_open(reason="the vendor migrates", author="alice")
    with pytest.raises(CircuitOpenError) as refused:
        other.call(int)
    assert refused.value.retry_after is None
    assert str(refused.value) == "circuit 'd' rejects calls until an operator closes it"
    assert other.explain() == "forced open: the vendor migrates (by alice); until reset"
    clock.advance(10_000)
    with pytest.raises(CircuitOpenError):
        other.call(int)
    other.control.reset(reason="done", author="bob")
    assert one.call(int) == 0


def test_change_by_an_operator_tells_of_the_calls_in_the_window(make: Make, changes: list[StateChange]) -> None:
    dependency = make()
    dependency.answer()
    dependency.fail()
    dependency.breaker.control.force_open(reason="the vendor migrates")
    assert changes[-1].window == Counts(requests=2, failures=1)


def test_circuit_forced_open_for_a_time_probes_when_it_is_over(make: Make) -> None:
    dependency = make(max_requests=1, success_threshold=1)
    dependency.breaker.control.force_open(reason="pause", duration=60)
    with pytest.raises(CircuitOpenError) as refused:
        dependency.answer()
    assert refused.value.retry_after == 60
    dependency.clock.advance(60)
    dependency.answer()
    assert dependency.breaker.state is State.CLOSED


def test_disabled_circuit_admits_every_call_and_counts_none(make: Make) -> None:
    dependency = make(failure_threshold=1)
    dependency.breaker.control.disable(reason="noise")
    for _ in range(5):
        dependency.fail()
    dependency.answer()
    snapshot = dependency.breaker.snapshot()
    assert (snapshot.state, snapshot.window.requests, snapshot.totals.neutral) == (State.DISABLED, 0, 6)


def test_measuring_circuit_admits_every_call_and_says_when_it_would_be_open(make: Make, events: list[Event]) -> None:
    dependency = make(failure_threshold=2, failure_rate_threshold=None)
    dependency.breaker.control.metrics_only(reason="new thresholds", author="alice")
    for _ in range(4):
        dependency.fail()
    snapshot = dependency.breaker.snapshot()
    assert (snapshot.state, snapshot.window.failures) == (State.METRICS_ONLY, 4)
    assert snapshot.why.startswith("metrics only: new thresholds (by alice); would be open: ")
    dependency.answer()
    assert [event.reason for event in events if isinstance(event, WouldOpen)] == ["2 consecutive failures", None]


def test_hold_that_expires_closes_the_circuit_without_a_call(make: Make) -> None:
    dependency = make()
    dependency.breaker.control.metrics_only(reason="trial", duration=10)
    dependency.answer()
    dependency.clock.advance(10)
    dependency.breaker.control.evaluate()
    assert dependency.breaker.state is State.CLOSED
    assert dependency.breaker.ledger.history()[-1].reason == "METRICS_ONLY has expired"


@pytest.mark.parametrize(("reason", "seconds"), [("", None), ("  ", None), ("x", 0), ("x", -1), ("x", float("nan"))])
def test_hold_without_a_reason_or_with_a_senseless_time_is_refused(
    make: Make, reason: str, seconds: float | None
) -> None:
    breaker = make().breaker
    with pytest.raises(ConfigError):
        breaker.control.disable(reason=reason, duration=seconds)
    assert breaker.state is State.CLOSED


@pytest.mark.parametrize("duration", [timedelta(minutes=1), 60, 60.0])
def test_duration_is_seconds_or_a_timedelta(make: Make, duration: float | timedelta) -> None:
    breaker = make().breaker
    breaker.control.force_open(reason="test", duration=duration)
    assert breaker.snapshot().retry_after == 60


def test_duration_as_text_or_beyond_30_days_is_refused(make: Make) -> None:
    breaker = make().breaker
    for duration in ("60s", timedelta(days=31)):
        with pytest.raises(ConfigError, match="duration must be"):
            breaker.control.force_open(reason="test", duration=duration)
    assert breaker.state is State.CLOSED


def test_new_thresholds_are_in_the_log_with_their_reason_and_author(make: Make) -> None:
    breaker = make().breaker
    breaker.control.configure(failure_threshold=None, timeout=timedelta(seconds=5), reason="trial", author="alice")
    assert breaker.ledger.history()[-1].reason == "failure_threshold = None, timeout = 5: trial (by alice)"


def test_reset_closes_an_open_circuit_with_an_empty_window(make: Make) -> None:
    dependency = make(failure_threshold=2, timeout_multiplier=2)
    dependency.fail()
    dependency.fail()
    dependency.breaker.control.reset(reason="fixed")
    snapshot = dependency.breaker.snapshot()
    assert (snapshot.state, snapshot.window.requests, snapshot.consecutive_failures) == (State.CLOSED, 0, 0)


def test_new_breaker_can_start_by_only_measuring_and_an_old_one_goes_on_as_it_is(
    tmp_path: Path, clock: FakeClock
) -> None:
    config = BreakerConfig(failure_threshold=1, initial_state="METRICS_ONLY")
    one = two(tmp_path, clock, config)[0]
    with pytest.raises(ZeroDivisionError):
        one.call(divmod, 1, 0)
    assert one.state is State.METRICS_ONLY
    one.control.reset(reason="proven")
    assert two(tmp_path, clock, config)[0].state is State.CLOSED


def test_new_thresholds_hold_in_all_workers_at_once_and_keep_the_window(tmp_path: Path, clock: FakeClock) -> None:
    one, other = two(tmp_path, clock)
    for breaker in (one, other):
        with pytest.raises(ZeroDivisionError):
            breaker.call(divmod, 1, 0)
    assert one.control.configure(failure_threshold=10, timeout=timedelta(seconds=5), author="alice").timeout == 5
    assert other.config.failure_threshold == 10
    assert other.snapshot().window.failures == 2
    other.control.configure(failure_threshold=3)
    with pytest.raises(ZeroDivisionError):
        one.call(divmod, 1, 0)
    assert one.state is State.OPEN
    first = one.ledger.history()[0]
    assert (first.before, first.after, first.reason.split(" (")[0]) == (
        State.CLOSED,
        State.CLOSED,
        "failure_threshold = 10, timeout = 5",
    )


def test_new_slow_threshold_reaches_a_worker_that_only_has_quick_calls(tmp_path: Path, clock: FakeClock) -> None:
    one, other = two(tmp_path, clock)
    for _ in range(3):
        other.call(int)
    one.control.configure(slow_call_duration=0.1)
    other.call(clock.advance, 0.2)
    assert one.snapshot().window.slow == 1


def test_new_interval_begins_a_new_window(make: Make) -> None:
    dependency = make()
    dependency.answer()
    dependency.breaker.control.configure(interval=10)
    assert dependency.breaker.snapshot().window.requests == 0
    dependency.answer()
    assert dependency.breaker.snapshot().window.requests == 1


def test_wrong_threshold_changes_nothing(make: Make) -> None:
    breaker = make().breaker
    before = breaker.config
    with pytest.raises(ConfigError, match="success_threshold must be at most max_requests"):
        breaker.control.configure(max_requests=1, success_threshold=2)
    assert breaker.config == before


def test_worker_that_restarts_keeps_the_operators_thresholds_and_a_new_release_replaces_them(
    tmp_path: Path, clock: FakeClock
) -> None:
    released, newer = BreakerConfig(timeout=20), BreakerConfig(timeout=10)
    two(tmp_path, clock, released)[0].control.configure(timeout=99)
    assert two(tmp_path, clock, released)[0].config.timeout == 99
    assert two(tmp_path, clock, newer)[0].config.timeout == 10


def test_log_of_transitions_is_the_same_in_all_workers(tmp_path: Path, clock: FakeClock) -> None:
    one, other = two(tmp_path, clock)
    one.control.force_open(reason="first", author="alice")
    other.control.reset(reason="second", author="bob")
    log = one.ledger.history()
    assert log == other.ledger.history()
    assert [(entry.number, entry.name, entry.before, entry.after, entry.reason) for entry in log] == [
        (1, "d", State.CLOSED, State.FORCED_OPEN, "first (by alice)"),
        (2, "d", State.FORCED_OPEN, State.CLOSED, "second (by bob)"),
    ]
    assert one.ledger.history(since=1) == log[1:]


def test_log_of_transitions_keeps_the_latest_two_hundred(make: Make) -> None:
    breaker = make().breaker
    for number in range(250):
        breaker.control.reset(reason=f"reset {number}")
    log = breaker.ledger.history()
    assert [entry.number for entry in log] == list(range(51, 251))
    assert log[-1].reason.startswith("reset 249")


def test_rejections_and_late_results_are_events(make: Make, events: list[Event]) -> None:
    dependency = make(failure_threshold=1, timeout="30s")
    with dependency.breaker:
        dependency.fail()
    with pytest.raises(CircuitOpenError):
        dependency.answer()
    assert events == [
        StateChange("dependency", State.CLOSED, State.OPEN, 2, "1 consecutive failure"),
        LateResult("dependency", "success"),
        Rejected("dependency", State.OPEN, 30.0),
    ]


def test_breaker_on_a_degraded_ledger_says_so(tmp_path: Path) -> None:
    events: list[Event] = []
    (tmp_path / "l").mkdir()
    breaker = CircuitBreaker("d", ledger=Ledger.open(f"file://{tmp_path}/l"), listeners=[events.append])
    breaker.call(int)
    breaker.control.evaluate()
    assert len(events) == 1
    assert isinstance(events[0], LedgerDegraded) and "cannot be opened" in events[0].reason


def test_new_interval_ends_the_time_in_which_no_success_is_evaluated() -> None:
    config = BreakerConfig(failure_threshold=None, failure_rate_threshold=0.5, minimum_requests=3, interval=60)
    breaker = CircuitBreaker("e", config, clock=FakeClock())
    for _ in range(5):
        breaker.call(int)
    breaker.control.configure(interval=50)
    for divisor in (0, 0, 1):
        with suppress(ZeroDivisionError):
            breaker.call(divmod, 1, divisor)
    assert breaker.state is State.OPEN


def test_equal_configurations_are_the_same_to_a_ledger(tmp_path: Path) -> None:
    ledger = Ledger.in_file(tmp_path / "l")
    breaker = CircuitBreaker("d", BreakerConfig(timeout=30), ledger=ledger)
    breaker.control.configure(failure_threshold=3)
    assert CircuitBreaker("d", BreakerConfig(timeout=30.0), ledger=ledger).config.failure_threshold == 3


def test_metrics_only_circuit_reports_once_that_it_would_close_and_again_when_it_would_open(
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
        WouldOpen("dependency", "1 consecutive failure"),
        WouldOpen("dependency", None),
        WouldOpen("dependency", "1 consecutive failure"),
    ]
