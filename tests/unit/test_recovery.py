"""Probes that are health checks: docs/rules.md, rules 3 to 6, hold for them as for calls."""

from collections.abc import Callable

import pytest

from cb import CircuitOpenError, Event, HealthChanged, Rejected, State, StateChange
from cb.control import ACTIONS
from cb.health_probes import HealthProbes
from tests.unit.conftest import Changes, Dependency, FakeClock

Make = Callable[..., Dependency]
SETTINGS = {
    "slow_call_duration": "2s",
    "failure_threshold": 1,
    "timeout": "10s",
    "max_requests": 3,
    "success_threshold": 2,
}
LEASE = 5


def well() -> None:
    pass


def ill() -> None:
    raise OSError("no route")


@pytest.fixture
def dependency(make: Make) -> Dependency:
    """Return one whose circuit is open, with its time nearly over, and which a monitor looks after."""
    made = make(**SETTINGS)
    made.fail()
    made.clock.advance(10)
    HealthProbes(made.breaker).reserve(LEASE)
    return made


def refused(dependency: Dependency) -> bool:
    before = dependency.reached
    try:
        dependency.answer()
    except CircuitOpenError:
        assert dependency.reached == before
        return True
    return False


def test_call_is_no_probe_while_a_monitor_has_them(dependency: Dependency) -> None:
    assert refused(dependency)
    assert dependency.breaker.state is State.OPEN
    assert dependency.breaker.snapshot().totals.rejected == 1


def test_call_is_no_probe_of_a_round_that_a_health_check_has_begun(dependency: Dependency) -> None:
    assert HealthProbes(dependency.breaker).run(well)
    assert dependency.breaker.state is State.HALF_OPEN
    assert refused(dependency)


def test_call_is_a_probe_once_the_monitor_has_been_silent_for_too_long(dependency: Dependency) -> None:
    dependency.clock.advance(LEASE)
    assert not refused(dependency)
    assert dependency.breaker.state is State.HALF_OPEN


def test_call_goes_on_with_the_round_of_a_monitor_that_is_gone(dependency: Dependency) -> None:
    HealthProbes(dependency.breaker).run(well)
    HealthProbes(dependency.breaker).reserve(0)
    dependency.answer()
    assert dependency.breaker.state is State.CLOSED


def test_enough_checks_that_succeed_close_the_circuit(dependency: Dependency, changes: Changes) -> None:
    assert HealthProbes(dependency.breaker).run(well) and HealthProbes(dependency.breaker).run(well)
    assert dependency.breaker.state is State.CLOSED
    assert changes[-1].reason == "2 probes succeeded"
    assert dependency.reached == 1, "the call that failed"


def test_checks_that_fail_open_it_again_and_the_round_counts(make: Make) -> None:
    dependency = make(**SETTINGS, timeout_multiplier=2)
    dependency.fail()
    dependency.clock.advance(10)
    for _ in range(2):
        assert HealthProbes(dependency.breaker).run(ill)
    assert dependency.breaker.state is State.OPEN
    assert dependency.breaker.snapshot().retry_after == 20
    assert not HealthProbes(dependency.breaker).run(well), "it is not time"


def test_check_that_raises_what_would_be_an_answer_of_a_call_fails(make: Make) -> None:
    dependency = make(**SETTINGS | {"max_requests": 2}, rules={"failures": (ConnectionError,)})
    dependency.fail()
    dependency.clock.advance(10)
    HealthProbes(dependency.breaker).run(ill)
    assert dependency.breaker.state is State.OPEN


def test_check_that_takes_too_long_fails(dependency: Dependency, clock: FakeClock) -> None:
    HealthProbes(dependency.breaker).run(lambda: clock.advance(2))
    assert dependency.breaker.snapshot().totals.slow == 1
    assert HealthProbes(dependency.breaker).run(lambda: clock.advance(2))
    assert dependency.breaker.state is State.OPEN


def test_check_is_heeded_when_it_says_when_to_come_back(dependency: Dependency) -> None:
    error = OSError()
    error.retry_after = 60  # type: ignore[attr-defined]  # what cb.http sets from the Retry-After header

    def busy() -> None:
        raise error

    while HealthProbes(dependency.breaker).run(busy):
        pass
    assert dependency.breaker.snapshot().retry_after == 60


def test_check_that_is_interrupted_gives_its_permit_back(dependency: Dependency) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    for _ in range(5):
        with pytest.raises(KeyboardInterrupt):
            HealthProbes(dependency.breaker).run(interrupted)
    assert HealthProbes(dependency.breaker).run(well) and HealthProbes(dependency.breaker).run(well)
    assert dependency.breaker.state is State.CLOSED


def test_checks_and_calls_together_have_no_more_permits_than_a_round_has(dependency: Dependency) -> None:
    HealthProbes(dependency.breaker).reserve(0)
    with dependency.running(2):
        assert HealthProbes(dependency.breaker).run(well)
        dependency.clock.advance(0.1)
        assert not HealthProbes(dependency.breaker).run(well)
        assert refused(dependency)


def test_check_that_is_refused_is_no_refused_call(dependency: Dependency, events: list[Event]) -> None:
    HealthProbes(dependency.breaker).reserve(0)
    with dependency.running(3):
        dependency.clock.advance(0.1)
        assert not HealthProbes(dependency.breaker).run(well)
    assert dependency.breaker.snapshot().totals.rejected == 0
    assert not [event for event in events if isinstance(event, Rejected)]


@pytest.mark.parametrize("state", [State.CLOSED, State.DISABLED, State.METRICS_ONLY, State.FORCED_OPEN])
def test_circuit_that_waits_for_no_probe_takes_no_check(make: Make, state: State) -> None:
    dependency = make(**SETTINGS)
    if state is not State.CLOSED:
        ACTIONS[state](dependency.breaker.control, reason="test")
    before = dependency.breaker.snapshot()
    assert not HealthProbes(dependency.breaker).run(ill)
    assert dependency.breaker.snapshot() == before


def test_held_circuit_whose_time_is_over_takes_no_check_and_counts_none(make: Make) -> None:
    dependency = make(**SETTINGS)
    dependency.breaker.control.disable(reason="test", duration=5)
    dependency.clock.advance(5)
    assert not HealthProbes(dependency.breaker).run(ill)
    assert dependency.breaker.snapshot().totals.neutral == 0


def test_circuit_that_is_closed_admits_calls_though_a_monitor_has_the_probes(make: Make) -> None:
    dependency = make(**SETTINGS)
    HealthProbes(dependency.breaker).reserve(LEASE)
    for _ in range(3):
        dependency.answer()
    assert dependency.reached == 3


def test_explanation_says_that_health_checks_find_out(make: Make) -> None:
    dependency = make(**SETTINGS)
    dependency.fail()
    HealthProbes(dependency.breaker).reserve(LEASE)
    assert dependency.breaker.explain() == "open: 1 consecutive failure; next health check in 10 s"
    dependency.clock.advance(10)
    assert dependency.breaker.explain() == "open: 1 consecutive failure; the next call is a probe"
    HealthProbes(dependency.breaker).reserve(LEASE)
    assert dependency.breaker.explain() == "open: 1 consecutive failure; health checks are the probes"
    HealthProbes(dependency.breaker).run(well)
    assert dependency.breaker.explain().startswith("half-open: 1 of 3 health checks sent, 1 succeeded")


def test_health_is_known_with_its_age_and_forgotten_when_checks_stop(make: Make) -> None:
    dependency = make()
    breaker = dependency.breaker
    assert breaker.snapshot().health is None
    HealthProbes(breaker).note(None, took=0.25, valid=15)
    dependency.clock.advance(5)
    HealthProbes(breaker).note(None, took=0.5, valid=15)
    dependency.clock.advance(2)
    health = breaker.snapshot().health
    assert health
    assert (health.up, health.age, health.ago, health.took) == (True, 7, 2, 0.5)
    assert breaker.snapshot().health == health
    dependency.clock.advance(13)
    health = breaker.snapshot().health
    assert health
    assert (health.up, health.ago) == (None, 15)


def test_change_of_health_is_one_event_with_its_reason(make: Make, events: list[Event]) -> None:
    breaker = make("bank").breaker
    for error in (None, None, OSError("no route"), OSError("no host"), None):
        HealthProbes(breaker).note(error, took=0, valid=15)
    assert events == [
        HealthChanged("bank", True, ""),
        HealthChanged("bank", False, "OSError: no route"),
        HealthChanged("bank", True, ""),
    ]
    assert breaker.state is State.CLOSED


def test_reason_of_any_length_is_cut_to_a_line(make: Make, events: list[Event]) -> None:
    HealthProbes(make("bank").breaker).note(OSError("x" * 1_000_000), took=0, valid=15)
    (event,) = events
    assert isinstance(event, HealthChanged) and len(event.reason) == 300


def test_health_that_changes_changes_no_state(dependency: Dependency, events: list[Event]) -> None:
    HealthProbes(dependency.breaker).note(None, took=0, valid=15)
    assert dependency.breaker.state is State.OPEN
    assert not [event for event in events[2:] if isinstance(event, StateChange | Rejected)]
