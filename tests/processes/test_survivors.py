"""Processes that are killed, stopped, forked or made daemons at the worst moment, and what the others then see."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from cb import BreakerConfig, CircuitBreaker, Ledger, Registry, State
from cb.state import machine as circuit
from cb.testing import FakeClock

pytestmark = [
    pytest.mark.quiet,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="POSIX processes; Windows has memory:// only"),
]
RATE = BreakerConfig(failure_threshold=None, failure_rate_threshold=0.6, minimum_requests=5)


def fail(breaker: CircuitBreaker, times: int = 1) -> None:
    for _ in range(times):
        with suppress(ZeroDivisionError):
            breaker.call(divmod, 1, 0)


def test_process_killed_while_it_looks_keeps_no_success_from_completing_the_minimum(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    breaker = CircuitBreaker("d", RATE, ledger=Ledger.in_file(tmp_path / "l"), clock=FakeClock())
    fail(breaker, 3)
    pid = os.fork()
    if pid == 0:
        # A kill at one exact step, which no signal from outside hits.
        monkeypatch.setattr(circuit, "read", lambda *_: os.kill(os.getpid(), signal.SIGKILL))
        breaker.call(int)
    os.waitpid(pid, 0)
    breaker.call(int)
    breaker.call(int)
    assert breaker.state is State.OPEN


def test_process_stopped_while_it_looks_keeps_no_success_from_ending_a_streak(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = BreakerConfig(failure_threshold=10, failure_rate_threshold=None)
    breaker = CircuitBreaker("d", config, ledger=Ledger.in_file(tmp_path / "l"), clock=FakeClock())
    fail(breaker)
    pid = os.fork()
    if pid == 0:
        monkeypatch.setattr(circuit, "read", lambda *_: os.kill(os.getpid(), signal.SIGSTOP))
        breaker.control.evaluate()
    os.waitpid(pid, os.WUNTRACED)
    try:
        for _ in range(100):
            breaker.call(int)
        fail(breaker, 9)
        assert breaker.state is State.CLOSED
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def test_child_forked_by_a_quick_call_writes_none_of_its_parents_counts(tmp_path: Path) -> None:
    clock = FakeClock()  # which stands still: the call, and the fork in it, takes no time
    breaker = CircuitBreaker("d", RATE, ledger=Ledger.in_file(tmp_path / "l"), clock=clock)
    for _ in range(100):
        breaker.call(int)
    go, wait = os.pipe()

    def fork() -> int:
        pid = os.fork()
        if pid == 0:
            os.read(go, 1)
        return pid

    pid = breaker.call(fork)
    if pid == 0:
        fail(breaker, 3)
        os._exit(0)
    for _ in range(500):
        breaker.call(int)
    os.write(wait, b"x")
    os.waitpid(pid, 0)
    totals = breaker.snapshot().totals
    assert (totals.successes, totals.failures) == (601, 3)


def test_daemon_that_closed_all_files_writes_into_none_that_it_opened(tmp_path: Path) -> None:
    breaker = CircuitBreaker("d", RATE, ledger=Ledger.in_file(tmp_path / "l"))
    logs = [tmp_path / f"log{number}" for number in range(3)]
    pid = os.fork()
    if pid == 0:
        os.closerange(3, 64)
        opened = [log.open("w") for log in logs]
        fail(breaker)
        os._exit(len(opened) - 3)
    assert os.waitpid(pid, 0)[1] == 0
    assert [log.stat().st_size for log in logs] == [0, 0, 0]
    assert breaker.snapshot().totals.failures == 1


def test_locks_that_were_removed_are_noticed(tmp_path: Path) -> None:
    clock = FakeClock()
    breaker = CircuitBreaker("d", RATE, ledger=Ledger.in_file(tmp_path / "l"), clock=clock)
    breaker.call(int)
    (tmp_path / "l.locks").rename(tmp_path / "gone")
    clock.advance(1)
    breaker.control.evaluate()
    assert "was removed or replaced" in str(breaker.ledger.degraded)


def test_lock_held_by_a_stopped_process_keeps_no_service_from_a_new_breaker(tmp_path: Path) -> None:
    path = tmp_path / "l"
    registry = Registry(ledger=Ledger.in_file(path))
    registry.get("old").call(int)
    hold = "import sys, cb; cb.Ledger.in_file(sys.argv[1]).core.lock.run(lambda: (print(1, flush=True), input()), 1)"
    holder = subprocess.Popen([sys.executable, "-c", hold, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert holder.stdout and holder.stdout.readline()
        holder.send_signal(signal.SIGSTOP)
        begin = time.monotonic()
        new = registry.get("new")
        assert new.call(int) == 0
        assert time.monotonic() - begin < 3
        assert new.snapshot().source == "process"
        assert registry.get("old").snapshot().source == "host"
    finally:
        holder.kill()
        holder.communicate()
