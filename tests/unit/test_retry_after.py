"""When a refused call may come back. docs/rules.md, rule 22."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cb import BreakerConfig, Ledger, Rejected, State
from cb.control import ACTIONS
from cb.health_probes import HealthProbes
from cb.ledger import layout as at
from cb.ledger.time_bounds import MAX_RESERVATION_SECONDS, PERMIT_WAIT_SECONDS
from cb.states import CODES
from cb.testing import FakeClock, breaker_in
from tests.unit.conftest import SECOND, Dependency, refusal

CONFIG = BreakerConfig(
    failure_threshold=2, timeout=5, timeout_jitter=0, half_open_max_duration=20, max_requests=2, success_threshold=2
)

Make = Callable[..., Dependency]


def test_half_open_circuit_with_a_free_permit_says_now_and_admits_a_call() -> None:
    breaker = breaker_in(State.HALF_OPEN, CONFIG)
    assert breaker.snapshot().retry_after == 0
    breaker.call(int)
    assert breaker.snapshot().retry_after == 0
    breaker.call(int)
    assert (breaker.state, breaker.snapshot().retry_after) == (State.CLOSED, None)


@pytest.mark.parametrize(
    ("settings", "wait"),
    [
        ({}, PERMIT_WAIT_SECONDS),
        ({"half_open_max_duration": 600, "probe_timeout": 5}, PERMIT_WAIT_SECONDS),
        ({"half_open_max_duration": 600, "probe_timeout": 0.25}, 0.25),
        ({"half_open_max_duration": 0.5}, 0.5),
    ],
)
def test_half_open_circuit_without_a_free_permit_says_soon(settings: dict[str, Any], wait: float) -> None:
    breaker = breaker_in(State.HALF_OPEN, BreakerConfig(max_requests=1, **settings))
    told: list[float | None] = []
    breaker.listeners.append(lambda event: told.append(event.retry_after) if isinstance(event, Rejected) else None)
    probe = breaker.begin()
    assert [refusal(breaker), breaker.snapshot().retry_after, *told] == [wait] * 3
    probe.succeed()
    assert breaker.state is State.CLOSED


def test_wait_for_a_permit_is_never_longer_than_the_rest_of_the_round() -> None:
    clock = FakeClock()
    breaker = breaker_in(State.HALF_OPEN, replace(CONFIG, slow_call_rate_threshold=None), clock=clock)
    probes = [breaker.begin() for _ in range(2)]
    clock.advance(19.75)
    assert refusal(breaker) == breaker.snapshot().retry_after == 0.25
    for probe in probes:
        probe.succeed()
    assert breaker.state is State.CLOSED


def test_round_that_is_over_says_when_the_next_one_begins() -> None:
    clock = FakeClock()
    breaker = breaker_in(State.HALF_OPEN, BreakerConfig(timeout=5, timeout_multiplier=3), clock=clock)
    clock.advance(31)
    assert breaker.snapshot().retry_after == 15
    assert refusal(breaker) == 15


def test_open_circuit_whose_time_is_up_says_now(make: Make) -> None:
    dependency = make(failure_threshold=1, timeout="5s")
    dependency.fail()
    dependency.clock.advance(4)
    assert dependency.breaker.snapshot().retry_after == refusal(dependency.breaker) == 1
    dependency.clock.advance(2)
    assert dependency.breaker.snapshot().retry_after == 0
    dependency.answer()


def test_circuit_that_leaves_its_probes_to_health_checks_says_soon_and_never_now(make: Make) -> None:
    dependency = make(failure_threshold=1, timeout="5s")
    breaker = dependency.breaker
    dependency.fail()
    HealthProbes(breaker).reserve(MAX_RESERVATION_SECONDS)
    assert refusal(breaker) == 5
    dependency.clock.advance(6)
    assert breaker.snapshot().retry_after == refusal(breaker) == PERMIT_WAIT_SECONDS
    HealthProbes(breaker).run(lambda: None)
    assert breaker.state is State.HALF_OPEN
    assert breaker.snapshot().retry_after == refusal(breaker) == PERMIT_WAIT_SECONDS
    dependency.clock.advance(3.5)
    assert refusal(breaker) == 0.5
    dependency.clock.advance(0.5)
    dependency.answer()


def test_circuit_whose_lock_another_process_holds_says_soon(tmp_path: Path) -> None:
    clock = FakeClock()
    breaker = breaker_in(State.OPEN, CONFIG, ledger=Ledger.in_file(tmp_path / "l"), clock=clock)
    other = Ledger.in_file(tmp_path / "l")
    clock.advance(5)
    assert other.core.lock.run(lambda: refusal(breaker), 1) == PERMIT_WAIT_SECONDS
    assert breaker.call(int) == 0


def test_held_circuit_says_when_its_hold_ends_or_nothing(make: Make) -> None:
    breaker = make().breaker
    breaker.control.force_open(reason="test", duration=60)
    assert refusal(breaker) == breaker.snapshot().retry_after == 60
    breaker.control.force_open(reason="test")
    assert refusal(breaker) is breaker.snapshot().retry_after is None
    for state in (State.DISABLED, State.METRICS_ONLY):
        ACTIONS[state](breaker.control, reason="test", duration=60)
        assert breaker.snapshot().retry_after is None


def test_circuit_that_a_fleet_leads_says_now_only_if_the_host_has_a_permit(make: Make) -> None:
    dependency = make(failure_threshold=1, timeout="5s")
    breaker, head = dependency.breaker, dependency.breaker.ledger.core.record("dependency", 0).head
    dependency.fail()
    dependency.clock.advance(6)
    breaker.ledger.core.header[at.H_FLEET_LEASE_UNTIL] = dependency.clock.now + SECOND
    head[at.FLEET_CONTROLLED] = 1
    assert breaker.snapshot().retry_after == refusal(breaker) == PERMIT_WAIT_SECONDS
    assert "the next call asks the fleet" in breaker.explain()
    head[at.WORD] += CODES[State.HALF_OPEN] - CODES[State.OPEN]
    head[at.UNTIL] = dependency.clock.now + 20 * SECOND
    assert breaker.snapshot().retry_after == PERMIT_WAIT_SECONDS
    head[at.PERMITS] = 1
    assert breaker.snapshot().retry_after == 0
