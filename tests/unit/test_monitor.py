"""The checks of a monitor and their times, on a fake clock."""

from collections.abc import Callable

import pytest

from cb import CircuitOpenError, ConfigError, Event, HealthChanged, Monitor, State
from cb.monitor import JITTER, LEASE
from tests.unit.conftest import Changes, Dependency, FakeClock

Make = Callable[..., Dependency]
SETTINGS = {"failure_threshold": 1, "timeout": "20s", "max_requests": 3, "success_threshold": 3}
INTERVAL = 5.0


class Service:
    """A dependency's health endpoint."""

    def __init__(self, clock: FakeClock) -> None:
        self.well = True
        self.checks: list[float] = []
        self._clock = clock

    def check(self) -> None:
        self.checks.append(self._clock.now / 1e9)
        if not self.well:
            raise OSError("no route")


@pytest.fixture
def service(clock: FakeClock) -> Service:
    return Service(clock)


@pytest.fixture
def dependency(make: Make) -> Dependency:
    return make(**SETTINGS)


@pytest.fixture
def monitor(clock: FakeClock, dependency: Dependency, service: Service) -> Monitor:
    monitor = Monitor(clock=clock)
    monitor.add(dependency.breaker, service.check, interval=INTERVAL)
    return monitor


def turns(monitor: Monitor, clock: FakeClock, seconds: float, step: float = 0.1) -> None:
    for _ in range(round(seconds / step)):
        clock.advance(step)
        monitor.turn()


def test_checks_come_once_an_interval_never_quite_alike(monitor: Monitor, clock: FakeClock, service: Service) -> None:
    monitor.turn()
    assert len(service.checks) == 1, "at once"
    turns(monitor, clock, 500)
    waits = [after - before for before, after in zip(service.checks, service.checks[1:], strict=False)]
    assert all(INTERVAL * (1 - JITTER) <= wait <= INTERVAL * (1 + JITTER) + 0.2 for wait in waits)
    assert max(waits) - min(waits) > INTERVAL * JITTER
    assert 500 / INTERVAL * 0.95 < len(waits) < 500 / INTERVAL * 1.05


def test_result_of_a_check_is_in_the_health_and_an_event(
    monitor: Monitor, clock: FakeClock, service: Service, dependency: Dependency, events: list[Event]
) -> None:
    turns(monitor, clock, 20)
    service.well = False
    turns(monitor, clock, 20)
    health = dependency.breaker.snapshot().health
    assert health
    assert (health.up, health.ago < 6, health.age > 10) == (False, True, True)
    told = [event for event in events if isinstance(event, HealthChanged)]
    assert [(event.up, event.reason) for event in told] == [(True, ""), (False, "OSError: no route")]


def test_checks_of_a_closed_circuit_count_for_nothing(
    monitor: Monitor, clock: FakeClock, service: Service, dependency: Dependency
) -> None:
    service.well = False
    turns(monitor, clock, 100)
    seen = dependency.breaker.snapshot()
    assert (seen.state, seen.totals.requests, seen.window.requests) == (State.CLOSED, 0, 0)


def test_open_circuit_recovers_as_soon_as_its_time_is_up_without_a_call(
    monitor: Monitor, clock: FakeClock, service: Service, dependency: Dependency, changes: Changes
) -> None:
    dependency.fail()
    turns(monitor, clock, 19.9)
    assert dependency.breaker.state is State.OPEN
    turns(monitor, clock, 0.1)
    assert [change.after for change in changes] == [State.OPEN, State.HALF_OPEN, State.CLOSED]
    assert dependency.reached == 1


def test_dependency_that_stays_ill_gets_one_round_of_checks_each_open_time(
    monitor: Monitor, clock: FakeClock, service: Service, dependency: Dependency, changes: Changes
) -> None:
    service.well = False
    dependency.fail()
    turns(monitor, clock, 61)
    assert [change.after for change in changes] == [State.OPEN, *[State.HALF_OPEN, State.OPEN] * 3]
    assert all(change.reason in ("time to try again", "1 of 3 probes failed") for change in changes[1:])
    service.well = True
    turns(monitor, clock, 20)
    assert changes[-1].after is State.CLOSED


def test_probes_are_checks_of_the_interval_too(
    monitor: Monitor, clock: FakeClock, service: Service, dependency: Dependency
) -> None:
    dependency.fail()
    turns(monitor, clock, 20)
    before = len(service.checks)
    turns(monitor, clock, INTERVAL * (1 - JITTER) - 0.2)
    assert len(service.checks) == before


def test_circuit_whose_health_is_only_watched_is_tried_by_calls(make: Make, clock: FakeClock, service: Service) -> None:
    dependency, monitor = make(**SETTINGS), Monitor(clock=clock)
    monitor.add(dependency.breaker, service.check, interval=5, probes=False)
    dependency.fail()
    turns(monitor, clock, 30)
    assert dependency.breaker.state is State.OPEN
    dependency.answer()
    assert dependency.breaker.state is State.HALF_OPEN


def test_call_that_comes_before_the_monitor_is_no_probe(
    monitor: Monitor, clock: FakeClock, dependency: Dependency
) -> None:
    dependency.fail()
    turns(monitor, clock, 19.9)
    clock.advance(0.15)
    with pytest.raises(CircuitOpenError):
        dependency.answer()
    assert dependency.breaker.state is State.OPEN


def test_calls_are_probes_again_once_a_monitor_has_died(
    monitor: Monitor, clock: FakeClock, dependency: Dependency
) -> None:
    dependency.fail()
    turns(monitor, clock, 19)
    clock.advance(LEASE)
    dependency.answer()
    assert dependency.breaker.state is State.HALF_OPEN


def test_monitor_that_takes_over_keeps_the_pace(
    monitor: Monitor, clock: FakeClock, service: Service, dependency: Dependency, events: list[Event]
) -> None:
    monitor.turn()
    clock.advance(2)
    successor = Monitor(clock=clock)
    successor.add(dependency.breaker, service.check, interval=INTERVAL)
    successor.turn()
    assert len(service.checks) == 1
    turns(successor, clock, INTERVAL)
    assert len(service.checks) == 2
    assert len(events) == 1, "nothing has changed"


def test_check_that_ends_the_thread_it_runs_in_is_no_health(clock: FakeClock, dependency: Dependency) -> None:
    def ended() -> None:
        raise SystemExit

    monitor = Monitor(clock=clock)
    monitor.add(dependency.breaker, ended)
    with pytest.raises(SystemExit):
        monitor.turn()
    assert dependency.breaker.snapshot().health is None


@pytest.mark.parametrize(
    ("interval", "rule"), [(0.05, "from 0.1 s"), (7200, "to an hour"), ("5s", "a number of seconds or a timedelta")]
)
def test_wrong_interval_is_refused(make: Make, interval: float | str, rule: str) -> None:
    with pytest.raises(ConfigError, match=rule) as caught:
        Monitor().add(make().breaker, print, interval=interval)
    assert caught.value.field == "interval"


def test_breaker_is_added_once(monitor: Monitor, dependency: Dependency) -> None:
    with pytest.raises(ConfigError, match="be added once"):
        monitor.add(dependency.breaker, print)


def test_monitor_is_started_and_closed_by_its_block(dependency: Dependency) -> None:
    monitor = Monitor()
    assert repr(monitor) == "<Monitor of nothing, not started>"
    monitor.add(dependency.breaker, int)
    with monitor as started:
        assert repr(started) == "<Monitor of 'dependency', started>"
    assert repr(monitor) == "<Monitor of 'dependency', closed>"
