"""Unusual uses of a breaker: each either works or raises an error that explains it."""

import asyncio
import signal
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from cb import BreakerConfig, CircuitBreaker, CircuitOpenError, ConfigError, Event, Ledger, Registry, State
from cb.testing import breaker_in


@contextmanager
def alarms(handler: Callable[[], object]) -> Iterator[None]:
    """Call a handler a thousand times a second."""
    before = signal.signal(signal.SIGALRM, lambda *_: handler())
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_signal_handler_that_asks_for_a_breaker_while_one_is_made_hangs_nobody(tmp_path: Path) -> None:
    registry = Registry(ledger=Ledger.in_file(tmp_path / "l"))
    with alarms(lambda: registry.get("pager").call(int)):
        for number in range(300):
            registry.get(f"d{number}").call(int)
    assert registry.get("pager").snapshot().totals.successes > 0


def test_listener_that_calls_through_the_registry_while_it_makes_a_breaker_hangs_nobody(tmp_path: Path) -> None:
    (tmp_path / "x.v3.ledger").write_text("foreign")
    told: list[Event] = []
    ledger = Ledger.open("shm://x", tmp_path)
    registry = Registry(ledger=ledger, listeners=[lambda event: registry.get("alerts").call(told.append, event)])
    registry.get("market").call(int)
    assert "market" in [event.name for event in told]


def test_listener_that_removes_itself_hides_no_event_from_the_next() -> None:
    breaker, heard = CircuitBreaker("d"), list[str]()

    def once(_: Event) -> None:
        heard.append("once")
        breaker.listeners.remove(once)

    breaker.listeners += [once, lambda _: heard.append("always")]
    breaker.control.reset(reason="test")
    assert heard == ["once", "always"]


@pytest.mark.parametrize("kinds", [KeyError, [KeyError], (KeyError,), lambda error: isinstance(error, KeyError)])
def test_kinds_of_errors_are_a_class_or_classes_or_a_function(kinds: Any) -> None:
    breaker = CircuitBreaker("d", failures=kinds, ignored=kinds)
    with pytest.raises(KeyError):
        breaker.call({}.__getitem__, "none")
    with pytest.raises(ZeroDivisionError):
        breaker.call(divmod, 1, 0)
    totals = breaker.snapshot().totals
    assert (totals.neutral, totals.successes, totals.failures) == (1, 1, 0)


@pytest.mark.parametrize("kinds", [int, ["KeyError"], 7])
def test_anything_else_is_refused_when_the_breaker_is_made(kinds: Any) -> None:
    with pytest.raises(ConfigError, match="ignored must be classes of exceptions, or a function"):
        CircuitBreaker("d", ignored=kinds)


async def fetch() -> None: ...


class Fetch:
    async def __call__(self) -> None: ...


@pytest.mark.parametrize("later", [fetch, partial(fetch), Fetch()])
def test_callable_that_works_after_its_call_has_returned_is_refused(later: Callable[[], object]) -> None:
    breaker = CircuitBreaker("d")
    with pytest.raises(TypeError, match="does its work after the call has returned"):
        breaker.call(later)
    with pytest.raises(TypeError, match="does its work after the call has returned"):
        breaker(later)


def test_block_of_an_exit_stack_of_a_coroutine_ends() -> None:
    breaker = CircuitBreaker("d")

    async def work() -> None:
        async with AsyncExitStack() as stack:
            stack.enter_context(breaker)

    asyncio.run(work())
    assert (breaker.snapshot().totals.successes, breaker.snapshot().in_flight) == (1, 0)


def test_block_that_ends_elsewhere_says_what_to_write_and_its_twin_works() -> None:
    breaker = CircuitBreaker("d")
    block = breaker.guard()
    block.__enter__()
    with pytest.raises(RuntimeError, match=r"with breaker\.guard\(\)"):
        breaker.__exit__(None, None, None)
    block.__exit__(None, None, None)
    assert breaker.snapshot().totals.successes == 1


def test_refusal_raised_by_hand_without_its_facts_reaches_the_caller() -> None:
    def refuse() -> None:
        raise CircuitOpenError

    with pytest.raises(CircuitOpenError) as raised:
        CircuitBreaker("d").call(refuse)
    assert str(raised.value) == "circuit '?' rejects calls until an operator closes it"


def test_tally_of_a_block_that_has_ended_is_no_probe() -> None:
    with breaker_in(State.HALF_OPEN).guard() as call:
        assert call.probe
    assert not call.probe


def test_equal_configurations_are_the_same_to_a_ledger(tmp_path: Path) -> None:
    ledger = Ledger.in_file(tmp_path / "l")
    breaker = CircuitBreaker("d", BreakerConfig(timeout=30), ledger=ledger)
    breaker.control.configure(failure_threshold=3)
    assert CircuitBreaker("d", BreakerConfig(timeout=30.0), ledger=ledger).config.failure_threshold == 3


def test_refused_calls_of_a_round_without_free_permits_do_not_wait_for_each_other() -> None:
    breaker = breaker_in(State.HALF_OPEN, BreakerConfig(max_requests=1, success_threshold=1))
    probe = breaker.begin()
    for _ in range(3):
        with suppress(CircuitOpenError):
            breaker.call(int)
    with pytest.raises(CircuitOpenError):
        breaker.ledger.core.lock.run(lambda: breaker.call(int), 0)  # it would raise LedgerBusyError, or wait
    probe.succeed()
    assert breaker.state is State.CLOSED
