"""The test kit `cb.testing`."""

from dataclasses import replace
from datetime import timedelta

import pytest

from cb import BreakerConfig, CircuitOpenError, State
from cb.testing import FakeClock, breaker_in

ONLY_SLOW = BreakerConfig(failure_threshold=None, failure_rate_threshold=None, slow_call_duration=2, interval=10_000)


@pytest.mark.parametrize("state", list(State))
@pytest.mark.parametrize("config", [None, BreakerConfig(failure_threshold=None), ONLY_SLOW])
def test_breaker_in_returns_a_breaker_in_every_state(state: State, config: BreakerConfig | None) -> None:
    assert breaker_in(state, config).state is state


def test_open_breaker_recovers_on_the_clock_of_the_test() -> None:
    clock = FakeClock()
    breaker = breaker_in(State.OPEN, BreakerConfig(timeout=10, max_requests=1, success_threshold=1), clock=clock)
    with pytest.raises(CircuitOpenError):
        breaker.call(int)
    clock.advance(10)
    assert breaker.call(int) == 0
    assert breaker.state is State.CLOSED


def test_clock_advances_by_seconds_or_a_timedelta() -> None:
    clock = FakeClock(timedelta(minutes=1))
    clock.advance(1.5)
    clock.advance(timedelta(milliseconds=500))
    assert (clock(), clock.now) == (62_000_000_000, 62_000_000_000)
    assert repr(clock) == "<FakeClock at 62 s>"


def test_half_open_breaker_has_all_its_permits() -> None:
    breaker = breaker_in(State.HALF_OPEN, BreakerConfig(max_requests=2, success_threshold=2))
    probes = [breaker.begin(), breaker.begin()]
    with pytest.raises(CircuitOpenError):
        breaker.call(int)
    for probe in probes:
        probe.succeed()
    assert breaker.state is State.CLOSED


def test_configuration_that_does_not_lead_to_a_state_is_refused() -> None:
    with pytest.raises(ValueError, match="does not reach OPEN"):
        breaker_in(State.OPEN, replace(ONLY_SLOW, interval=5))
