"""The watchdog where no thread starts, and after a listener that ends it."""

import subprocess
import sys

import pytest


def test_thread_that_cannot_start_fails_no_call_and_is_logged_once() -> None:
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
    logged = '["hanging calls are not detected, the watchdog cannot start: can\'t start new thread"] False'
    assert (ran.stdout.splitlines(), ran.stderr) == ([logged, "True"], "")


@pytest.mark.quiet
def test_watchdog_goes_on_after_a_listener_that_ends_its_thread() -> None:
    code = """
import sys, threading
from cb import BreakerConfig, CircuitBreaker, State
seen = threading.Event()
first = CircuitBreaker("a", listeners=[lambda event: sys.exit(1)])
other = CircuitBreaker("b", listeners=[lambda event: event.name == "b" and seen.set()])
for breaker in (first, other):
    try:
        breaker.control.disable(reason="test", duration=0.3)
    except SystemExit:
        pass
    seen.clear()
    breaker.call(int)
assert seen.wait(5)
"""
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
