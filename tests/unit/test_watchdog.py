"""The watchdog restarts after any end of its thread, and fails no call if it cannot start."""

import ctypes
import threading
import time
from contextlib import suppress

import pytest

from cb import BreakerConfig, CircuitBreaker, Ledger, State
from cb.background.watchdog import WATCHDOG
from cb.testing import FakeClock
from tests.support.failing import cannot_start
from tests.support.waiting import until


class Zap(BaseException):
    """Raised in a thread by another one, as libraries do that end slow functions."""


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the exceptions that have ended threads."""
    found: list[str] = []
    monkeypatch.setattr(threading, "excepthook", lambda args: found.append(args.exc_type.__name__))
    return found


def watchers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "cb-watchdog" and thread.is_alive()]


def zap(thread: threading.Thread) -> None:
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident or 0), ctypes.py_object(Zap))


def end(*threads: threading.Thread) -> None:
    """End watchdog threads, again if the tick of another breaker has logged the exception and gone on."""
    for _ in range(10):
        for thread in threads:
            if thread.is_alive():
                zap(thread)
        with suppress(AssertionError):
            until(lambda: not any(thread.is_alive() for thread in threads), seconds=3)
            return
    assert not [thread for thread in threads if thread.is_alive()]


def test_watchdog_ended_by_another_thread_starts_its_successor(ended: list[str]) -> None:
    WATCHDOG.start()
    (first,) = watchers()

    end(first)

    until(watchers)
    assert WATCHDOG.running
    assert len(watchers()) == 1
    assert ended == ["Zap"]


def test_hanging_call_opens_the_circuit_after_the_watchdog_was_ended(ended: list[str]) -> None:
    config = BreakerConfig(call_timeout=0.05, failure_threshold=1, timeout=60)
    breaker, done = CircuitBreaker("d", config, ledger=Ledger.in_memory()), threading.Event()
    breaker.call(int)
    end(*watchers())

    hung = threading.Thread(target=lambda: breaker.call(done.wait, 20))
    hung.start()
    try:
        until(lambda: breaker.state is State.OPEN)
    finally:
        done.set()
        hung.join()
    assert ended == ["Zap"]


def test_quick_calls_alone_restart_a_watchdog_without_successor(
    ended: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = FakeClock()
    breaker = CircuitBreaker("d", BreakerConfig(interval=60), clock=clock)
    quick = breaker(int)
    quick()
    with monkeypatch.context() as full:
        full.setattr(threading.Thread, "start", cannot_start)
        end(*watchers())

    assert quick() == 0
    assert not WATCHDOG.running
    clock.advance(60)
    assert quick() == 0

    assert WATCHDOG.running
    assert ended == ["Zap"]


def test_tick_that_fails_does_not_prevent_the_others(caplog: pytest.LogCaptureFixture) -> None:
    ticked = threading.Event()

    class Fails:
        def tick(self) -> None:
            raise SystemExit

    class Works:
        def tick(self) -> None:
            ticked.set()

    kept = [Fails(), Works()]
    for each in kept:
        WATCHDOG.add(each)
    WATCHDOG.start()
    assert ticked.wait(20)
    ticked.clear()
    assert ticked.wait(20)


def test_tick_that_waits_for_a_lock_does_not_delay_the_next_one() -> None:
    ticks: list[float] = []

    class Waiting:
        def tick(self) -> None:
            ticks.append(time.monotonic())
            threading.Event().wait(0.1)  # for a lock that it does not get

    waiting = Waiting()
    WATCHDOG.add(waiting)
    WATCHDOG.start()
    until(lambda: len(ticks) >= 3)
    assert ticks[2] - ticks[1] < 3  # at two percent of the time, it would be five seconds


def test_object_that_is_handed_over_is_ticked_before_its_turn() -> None:
    ticked = threading.Event()

    class Urgent:
        def tick(self) -> None:
            ticked.set()

    WATCHDOG.start()
    urgent = Urgent()
    WATCHDOG.hand_over(urgent)
    assert ticked.wait(5)
