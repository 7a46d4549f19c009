"""The changes of state that a circuit makes, determined by running it."""

import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from itertools import product

from cb import BreakerConfig, BreakerControl, CircuitBreaker, CircuitError, Event, Ledger, State, StateChange
from cb.testing import FakeClock, breaker_in

#: the action that enters each state that only an operator sets
ACTIONS = {
    State.FORCED_OPEN: BreakerControl.force_open,
    State.DISABLED: BreakerControl.disable,
    State.METRICS_ONLY: BreakerControl.metrics_only,
}

#: Each threshold is reached by the next step.
CONFIG = BreakerConfig(
    max_requests=1,
    success_threshold=1,
    minimum_requests=2,
    failure_threshold=2,
    failure_rate_threshold=0.5,
    slow_call_rate_threshold=0.5,
    timeout_jitter=0.0,
)
_LONG = 60.0  # seconds: longer than an open time and a round; an operator's state ends after it
Step = Callable[[CircuitBreaker, FakeClock], object]
Arrow = tuple[State, State]


def _fail(breaker: CircuitBreaker, _: FakeClock) -> None:
    def fail() -> None:
        raise OSError

    with suppress(OSError, CircuitError):
        breaker.call(fail)


def _succeed(breaker: CircuitBreaker, _: FakeClock) -> None:
    with suppress(CircuitError):
        breaker.call(int)


def _succeed_slowly(breaker: CircuitBreaker, clock: FakeClock) -> None:
    with suppress(CircuitError):
        breaker.call(clock.advance, 3)


def _be_interrupted(breaker: CircuitBreaker, _: FakeClock) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    with suppress(KeyboardInterrupt, CircuitError):
        breaker.call(interrupt)


def _wait(breaker: CircuitBreaker, clock: FakeClock) -> None:
    clock.advance(_LONG)
    breaker.control.evaluate()


STEPS: tuple[Step, ...] = (_fail, _succeed, _succeed_slowly, _be_interrupted, _wait)


@cache
def by_itself(steps: int = 4) -> dict[Arrow, set[str]]:
    """Return the changes of state caused by calls and time, with their reasons; numbers are N, in the plural."""
    found = defaultdict[Arrow, set[str]](set)
    for change in _changes(steps):
        found[change.before, change.after].add(_in_plural(change.reason))
    return dict(found)


def _in_plural(reason: str) -> str:
    reason = re.sub(r"\d+", "N", reason)
    return re.sub(r"\b(failure|probe|call)\b", r"\1s", reason).replace(" was slow", " were slow")


def by_operator() -> set[State]:
    """Return the states that an operator can put a circuit into, from any state."""

    def reached(before: State) -> Iterator[State]:
        for act in (*ACTIONS.values(), BreakerControl.reset):
            yield act(breaker_in(before).control, reason="test", author="test").after

    (targets,) = {frozenset(reached(before)) for before in State}
    return set(targets)


def _changes(steps: int) -> Iterator[StateChange]:
    for start in (State.CLOSED, *sorted(ACTIONS)):
        for way in product(STEPS, repeat=steps):
            breaker, clock = _breaker(start)
            events: list[Event] = []
            breaker.listeners.append(events.append)
            for step in way:
                step(breaker, clock)
            yield from (event for event in events if isinstance(event, StateChange))


def _breaker(state: State) -> tuple[CircuitBreaker, FakeClock]:
    clock = FakeClock()
    breaker = CircuitBreaker("any", CONFIG, ledger=Ledger.in_memory(), clock=clock)
    if state in ACTIONS:
        ACTIONS[state](breaker.control, reason="test", author="test", duration=_LONG)
    return breaker, clock
