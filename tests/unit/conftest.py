"""Fixtures: breakers on a fake clock, on both kinds of ledger."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from cb import BreakerConfig, CircuitBreaker, CircuitOpenError, Event, Ledger, StateChange
from cb.breaker import admission_of
from cb.ledger.semaphore import Semaphore
from cb.testing import FakeClock

SECOND = 1_000_000_000
#: one probe decides
ONE = BreakerConfig(failure_threshold=1, max_requests=1, timeout=10, timeout_jitter=0)


class Dependency:
    """A dependency that succeeds or fails on request, and counts the calls that reach it."""

    def __init__(self, breaker: CircuitBreaker, clock: FakeClock) -> None:
        self.breaker = breaker
        self.clock = clock
        self.reached = 0

    def answer(self, seconds: float = 0) -> str:
        return self.breaker.call(self._work, seconds, None)

    def fail(self, error: BaseException | None = None, seconds: float = 0) -> None:
        with pytest.raises(type(error) if error else ConnectionError):
            self.breaker.call(self._work, seconds, error or ConnectionError("refused"))

    @contextmanager
    def running(self, calls: int = 1) -> Iterator[None]:
        """Run calls that were begun elsewhere: other calls are not inside of them."""
        begun = [self.breaker.begin() for _ in range(calls)]
        try:
            yield
        except BaseException as error:
            for call in begun:
                call.fail(error)
            raise
        for call in begun:
            call.succeed()

    def _work(self, seconds: float, error: BaseException | None) -> str:
        self.reached += 1
        self.clock.advance(seconds)
        if error:
            raise error
        return "answer"


def semaphore_of(breaker: CircuitBreaker) -> Semaphore:
    """Return the permits that the bulkheads of a breaker share."""
    return admission_of(breaker).circuit.record.semaphore


def due(breaker: CircuitBreaker, clock: FakeClock) -> CircuitBreaker:
    """Open a breaker by a failure and advance the clock: its next call is a probe. Return it."""
    with pytest.raises(ZeroDivisionError):
        breaker.call(divmod, 1, 0)
    clock.advance(breaker.config.timeout)
    return breaker


@pytest.fixture
def breaker(clock: FakeClock) -> CircuitBreaker:
    """Return a breaker whose next call is the only probe of its round."""
    return due(CircuitBreaker("d", ONE, clock=clock), clock)


def refusal(breaker: CircuitBreaker) -> float | None:
    """Return the `retry_after` of a rejected call."""
    with pytest.raises(CircuitOpenError) as refused:
        breaker.call(int)
    return refused.value.retry_after


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture(params=["memory", "file"])
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Ledger:
    return Ledger.in_memory() if request.param == "memory" else Ledger.in_file(tmp_path / "ledger")


@pytest.fixture
def events() -> list[Event]:
    """Return the events of the breakers of `make`."""
    return []


class Changes(list[StateChange]):
    """The changes of state among the events."""

    def note(self, event: Event) -> None:
        if isinstance(event, StateChange):
            self.append(event)


@pytest.fixture
def changes() -> Changes:
    return Changes()


@pytest.fixture
def make(ledger: Ledger, clock: FakeClock, changes: Changes, events: list[Event]) -> Callable[..., Dependency]:
    """Return a function that creates a dependency behind a breaker with the given settings."""

    def dependency(name: str = "dependency", rules: dict[str, Any] | None = None, **settings: object) -> Dependency:
        config = BreakerConfig.parse({"timeout_jitter": 0, **settings})
        listeners = [changes.note, events.append]
        breaker = CircuitBreaker(
            name, config, ledger=ledger, listeners=listeners, clock=clock, wall_clock=lambda: clock.now, **(rules or {})
        )
        return Dependency(breaker, clock)

    return dependency


# `make prove` uses the long profile: at least 200,000 steps.
settings.register_profile("short", max_examples=100, stateful_step_count=50, deadline=None)
settings.register_profile("prove", max_examples=2500, stateful_step_count=100, deadline=None)
settings.load_profile("short")
