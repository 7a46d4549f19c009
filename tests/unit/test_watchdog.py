"""The thread that looks after breakers is there whatever ends it, and costs no call where there can be none."""

import ctypes
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import pytest

from cb import BreakerConfig, CircuitBreaker, Ledger, State
from cb.background.watchdog import WATCHDOG
from cb.testing import FakeClock


class Zap(BaseException):
    """Raised in a thread by another one, as by libraries that end what takes too long."""


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return what threads have died of."""
    found: list[str] = []
    monkeypatch.setattr(threading, "excepthook", lambda args: found.append(args.exc_type.__name__))
    return found


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"


def watchers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "cb-watchdog" and thread.is_alive()]


def zap(thread: threading.Thread) -> None:
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident or 0), ctypes.py_object(Zap))


def refuse(*_: object) -> None:
    raise RuntimeError("can't start new thread")


def test_watch_that_another_thread_ends_is_followed_by_another(ended: list[str]) -> None:
    WATCHDOG.start()
    (first,) = watchers()

    zap(first)

    until(lambda: not first.is_alive())
    until(watchers)
    assert WATCHDOG.running
    assert len(watchers()) == 1
    assert ended == ["Zap"]


def test_call_that_hangs_opens_the_circuit_after_the_watch_has_been_ended(ended: list[str]) -> None:
    config = BreakerConfig(call_timeout=0.05, failure_threshold=1, timeout=60)
    breaker, done = CircuitBreaker("d", config, ledger=Ledger.in_memory()), threading.Event()
    breaker.call(int)
    for thread in watchers():
        zap(thread)

    hung = threading.Thread(target=lambda: breaker.call(done.wait, 20))
    hung.start()
    try:
        until(lambda: breaker.state is State.OPEN)
    finally:
        done.set()
        hung.join()
    assert ended == ["Zap"]


def test_process_with_quick_calls_alone_begins_a_watch_that_could_not_follow(
    ended: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = FakeClock()
    breaker = CircuitBreaker("d", BreakerConfig(interval=60), clock=clock)
    quick = breaker(int)
    quick()
    with monkeypatch.context() as full:
        full.setattr(threading.Thread, "start", refuse)
        for thread in watchers():
            zap(thread)
        until(lambda: not watchers())

    assert quick() == 0
    assert not WATCHDOG.running
    clock.advance(60)
    assert quick() == 0

    assert WATCHDOG.running
    assert ended == ["Zap"]


def test_thread_that_cannot_be_started_costs_no_call_and_is_told_of_once_by_a_handler_that_calls_too() -> None:
    code = """
import logging, threading
from cb import CircuitBreaker
from cb.background.watchdog import WATCHDOG

def refuse(*_, **__):
    raise RuntimeError("can't start new thread")

name = "_start_joinable_thread" if hasattr(threading, "_start_joinable_thread") else "_start_new_thread"
begin = getattr(threading, name)
setattr(threading, name, refuse)
breaker, lines = CircuitBreaker("d"), []

class Ship(logging.Handler):
    def emit(self, record):
        lines.append(record.getMessage())
        breaker.call(int)
        breaker.snapshot()

logging.getLogger("cb").addHandler(Ship())
assert [breaker.call(int) for _ in range(5)] == [0] * 5
for _ in range(3):
    breaker.snapshot()
print(lines, WATCHDOG.running)
setattr(threading, name, begin)
breaker.snapshot()
print(WATCHDOG.running)
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    told = '["hanging calls are not detected, the watchdog cannot start: can\'t start new thread"] False'
    assert (ran.stdout.splitlines(), ran.stderr) == ([told, "True"], "")


def test_what_fails_while_it_is_looked_after_hinders_no_other(caplog: pytest.LogCaptureFixture) -> None:
    looked = threading.Event()

    class Fails:
        def tick(self) -> None:
            raise SystemExit

    class Works:
        def tick(self) -> None:
            looked.set()

    kept = [Fails(), Works()]
    for each in kept:
        WATCHDOG.add(each)
    WATCHDOG.start()
    assert looked.wait(5)
    looked.clear()
    assert looked.wait(5)
