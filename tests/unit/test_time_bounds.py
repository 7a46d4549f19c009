"""No time of a ledger holds anything for longer than the thresholds say. docs/rules.md, rule 22."""

from collections.abc import Callable
from contextlib import suppress

import pytest

from cb import BreakerConfig, CircuitBreaker, CircuitOpenError, Ledger, State
from cb.health_probes import HealthProbes
from cb.ledger import layout as at
from cb.ledger.time_bounds import FLEET_LEASE_SECONDS, MAX_HOLD_SECONDS, MAX_RESERVATION_SECONDS
from cb.testing import FakeClock, breaker_in
from tests.support.failing import fail
from tests.unit.conftest import SECOND, Dependency, refusal

DAYS = 10 * 86_400
CONFIG = BreakerConfig(
    failure_threshold=2, timeout=5, timeout_jitter=0, half_open_max_duration=20, max_requests=2, success_threshold=2
)

Make = Callable[..., Dependency]


# A clock that began anew.


@pytest.fixture(params=[DAYS, 3600, 90])
def ahead(request: pytest.FixtureRequest) -> FakeClock:
    """Return the clock of a boot that lasted longer than the one after it."""
    return FakeClock(1_000 + request.param)


def reopened(breaker: CircuitBreaker) -> tuple[CircuitBreaker, FakeClock]:
    """Return the breaker as a process finds it whose clock began anew."""
    clock = FakeClock()
    return CircuitBreaker("d", CONFIG, ledger=breaker.ledger, clock=clock), clock


@pytest.fixture
def before(ahead: FakeClock, ledger: Ledger) -> CircuitBreaker:
    return CircuitBreaker("d", CONFIG, ledger=ledger, clock=ahead)


def test_open_circuit_of_another_clock_is_probed_after_its_open_time(before: CircuitBreaker) -> None:
    fail(before, 2)
    breaker, clock = reopened(before)
    assert breaker.snapshot().retry_after == refusal(breaker) == 5
    clock.advance(5)
    assert breaker.call(int) == breaker.call(int) == 0
    assert breaker.state is State.CLOSED


def test_half_open_circuit_of_another_clock_goes_on_and_its_round_ends(
    before: CircuitBreaker, ahead: FakeClock
) -> None:
    fail(before, 2)
    ahead.advance(5)
    before.call(int)
    breaker, clock = reopened(before)
    assert breaker.snapshot().retry_after == 0
    clock.advance(20)
    assert refusal(breaker) == 5
    clock.advance(5)
    assert breaker.call(int) == 0


def test_hold_of_another_clock_lasts_as_long_as_was_said(before: CircuitBreaker) -> None:
    before.control.force_open(reason="test", duration=60)
    breaker, clock = reopened(before)
    assert refusal(breaker) == 60
    clock.advance(60)
    assert breaker.call(int) == 0


def test_closed_circuit_of_another_clock_has_a_window_that_slides_and_opens_by_what_it_sees(
    before: CircuitBreaker,
) -> None:
    before.call(int)
    fail(before)
    breaker, clock = reopened(before)
    seen = breaker.snapshot()
    assert (seen.window.requests, seen.last_failure, seen.age) == (0, None, 0)
    breaker.call(int)
    fail(breaker)
    assert (breaker.snapshot().window.requests, breaker.state) == (2, State.CLOSED)
    clock.advance(61)
    breaker.call(int)
    assert breaker.snapshot().window.requests == 1
    fail(breaker, 2)
    assert breaker.state is State.OPEN


def test_health_of_another_clock_is_unknown_and_its_reservation_ends(before: CircuitBreaker) -> None:
    HealthProbes(before).note(None, took=0.1, valid=15)
    HealthProbes(before).reserve(MAX_RESERVATION_SECONDS)
    fail(before, 2)
    breaker, clock = reopened(before)
    health = breaker.snapshot().health
    assert health is not None and (health.up, health.age) == (None, 0)
    clock.advance(MAX_RESERVATION_SECONDS)
    assert breaker.call(int) == 0


def test_dependencys_wish_of_another_clock_does_not_lengthen_the_next_open_time(before: CircuitBreaker) -> None:
    error = OSError()
    error.retry_after = 3600  # type: ignore[attr-defined]  # what cb.http sets from the Retry-After header
    with pytest.raises(OSError), before:
        raise error
    breaker, _ = reopened(before)
    fail(breaker)
    assert refusal(breaker) == CONFIG.timeout_max


# A file that is damaged, or of other thresholds.


@pytest.mark.parametrize("state", [State.OPEN, State.HALF_OPEN, State.FORCED_OPEN])
def test_state_that_seems_to_end_in_years_ends_within_what_the_thresholds_allow(state: State) -> None:
    clock = FakeClock()
    breaker = breaker_in(State.OPEN if state is State.HALF_OPEN else state, CONFIG, clock=clock)
    longest = {State.OPEN: 300.0, State.HALF_OPEN: 25.0, State.FORCED_OPEN: MAX_HOLD_SECONDS}[state]
    if state is State.HALF_OPEN:
        clock.advance(5)
        breaker.call(int)
    breaker.ledger.core.record("test", 0).head[at.UNTIL] = clock.now * 1_000_000
    wait = breaker.snapshot().retry_after
    assert wait is not None and wait <= longest
    spent = 0.0
    while True:
        with suppress(CircuitOpenError):
            breaker.call(int)
            break
        clock.advance(longest / 10)
        spent += longest / 10
    assert spent <= longest * 1.1


@pytest.mark.parametrize(
    "cell", [at.PROBER_UNTIL, at.NO_PERMIT_UNTIL, at.HEALTH_UNTIL, at.RETRY_AT, at.SINCE, at.STREAK]
)
def test_cell_that_lies_years_ahead_does_not_keep_an_open_circuit_from_its_probe(cell: int) -> None:
    clock = FakeClock()
    breaker = breaker_in(State.OPEN, CONFIG, clock=clock)
    head = breaker.ledger.core.record("test", 0).head
    head[at.NO_PERMIT] = head[at.WORD]
    head[cell] = clock.now * 1_000_000
    breaker.control.evaluate()
    clock.advance(MAX_RESERVATION_SECONDS)
    assert breaker.call(int) == 0


def test_fleet_that_seems_to_lead_for_years_does_not_lead(make: Make) -> None:
    dependency = make(failure_threshold=1, timeout="5s", max_requests=1)
    ledger = dependency.breaker.ledger
    dependency.fail()
    ledger.core.header[at.H_HOST], ledger.core.header[at.H_FLEET_LEASE_UNTIL] = 1, dependency.clock.now * 1_000_000
    ledger.core.record("dependency", 0).head[at.FLEET_CONTROLLED] = 1
    dependency.clock.advance(5)
    sight = ledger.core.fleet(dependency.clock.now)
    assert sight is not None and not sight.connected
    dependency.answer()
    assert dependency.breaker.state is State.CLOSED
    ledger.core.header[at.H_FLEET_LEASE_UNTIL] = dependency.clock.now + int(FLEET_LEASE_SECONDS * SECOND)
    sight = ledger.core.fleet(dependency.clock.now)
    assert sight is not None and sight.connected


def test_shorter_open_time_holds_for_a_circuit_that_is_open_already(make: Make) -> None:
    dependency = make(failure_threshold=1, timeout="1h")
    dependency.fail()
    dependency.breaker.control.configure(timeout=5, timeout_max=20)
    assert dependency.breaker.snapshot().retry_after == refusal(dependency.breaker) == 20
    dependency.clock.advance(20)
    dependency.answer()
