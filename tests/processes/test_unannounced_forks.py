"""Forks without Python's hooks, as uWSGI and C libraries make them. docs/rules.md, rules 3, 13 and 24."""

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cb import (
    BreakerConfig,
    Bulkhead,
    BulkheadFullError,
    CircuitBreaker,
    CircuitOpenError,
    Ledger,
    LedgerBusyError,
    State,
)
from cb.background.leader import Leader
from cb.background.watchdog import WATCHDOG
from cb.breaker import admission_of
from cb.resilience.budget import RetryBudget
from cb.resilience.stores import MemoryStore
from cb.testing import breaker_in
from tests.support.failing import fail

pytestmark = [
    pytest.mark.quiet,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="POSIX processes: run on Linux or macOS"),
]
CONFIG = BreakerConfig(failure_threshold=3, failure_rate_threshold=None, timeout=60)


def forked_in_c(work: Callable[[], object]) -> int:
    """Run a function in a child of a fork in C. Return the exit code, 14 if it hung."""
    pid: int = ctypes.PyDLL(None).fork()  # the forking thread holds the interpreter's lock, as in uWSGI
    if pid == 0:
        signal.alarm(10)
        try:
            work()
            os._exit(0)
        except BaseException:  # noqa: BLE001 - a forked child must never return into pytest
            sys.excepthook(*sys.exc_info())
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.fixture
def breaker(tmp_path: Path) -> CircuitBreaker:
    return CircuitBreaker("d", CONFIG, ledger=Ledger.in_file(tmp_path / "l"))


def test_child_counts_in_its_own_shard(breaker: CircuitBreaker) -> None:
    breaker.call(int)

    def work() -> None:
        for _ in range(20):
            breaker.call(time.sleep, 0.002)
        assert breaker.ledger.workers() == 2

    assert forked_in_c(work) == 0
    assert breaker.snapshot().totals.requests == 21
    assert breaker.snapshot().in_flight == 0


def test_child_does_not_hold_the_lock_of_its_parent(breaker: CircuitBreaker) -> None:
    def work() -> None:
        with pytest.raises(LedgerBusyError):
            breaker.ledger.core.lock.run(int, 0.05)

    assert breaker.ledger.core.lock.run(lambda: forked_in_c(work), 1) == 0


def test_child_that_leaves_a_locked_section_does_not_unlock_its_parent(breaker: CircuitBreaker) -> None:
    reading, writing = os.pipe()

    def fork() -> int:
        pid: int = ctypes.PyDLL(None).fork()
        if pid:
            os.read(reading, 1)  # the child has left the section
            other = Ledger.in_file(breaker.ledger.path + ".other")  # opens files while the other ledger is locked
            assert other.scope == "host"
            command = [sys.executable, "-c", TRY, breaker.ledger.path]
            assert subprocess.run(command, check=False).returncode == 7
        return pid

    pid = breaker.ledger.core.lock.run(fork, 1)
    if pid == 0:
        os.write(writing, b"x")
        os._exit(0)
    os.waitpid(pid, 0)


TRY = """
import sys
from fcntl import LOCK_EX, LOCK_NB, flock
try:
    flock(open(sys.argv[1] + ".locks/transitions"), LOCK_EX | LOCK_NB)
except BlockingIOError:
    sys.exit(7)
"""


def test_bulkhead_permit_of_the_parent_is_not_the_childs(breaker: CircuitBreaker) -> None:
    bulkhead = Bulkhead(breaker, 1)

    def work() -> None:
        with pytest.raises(BulkheadFullError):
            bulkhead.call(int)

    with bulkhead:
        assert forked_in_c(work) == 0
    assert bulkhead.call(int) == 0


def test_child_that_ends_a_call_of_its_parent_does_not_release_the_permit(breaker: CircuitBreaker) -> None:
    bulkhead, other = Bulkhead(breaker, 1), Bulkhead(CircuitBreaker("d", ledger=Ledger.in_file(breaker.ledger.path)), 1)
    guard = bulkhead.guard()
    guard.__enter__()
    assert forked_in_c(lambda: guard.__exit__(None, None, None)) == 0
    with pytest.raises(BulkheadFullError):
        other.call(int)
    guard.__exit__(None, None, None)
    assert other.call(int) == 0


def test_watchdog_runs_in_the_child(breaker: CircuitBreaker) -> None:
    breaker.call(int)
    assert WATCHDOG.running

    def work() -> None:
        breaker.call(time.sleep, 0.002)
        breaker.snapshot()
        assert WATCHDOG.running
        # Not threading.enumerate: after a fork in C it still has the parent's threads.
        tasks = Path("/proc/self/task")
        assert not tasks.exists() or len(list(tasks.iterdir())) == 2
        fail(breaker)

    assert forked_in_c(work) == 0


def test_locks_held_by_another_thread_hang_no_child(breaker: CircuitBreaker) -> None:
    breaker.call(int)
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        core = breaker.ledger.core
        record_lock = admission_of(breaker).circuit.record._lock  # noqa: SLF001 - as a thread between two steps
        with record_lock, core._making, core.shards._mutex:  # noqa: SLF001 - as above
            held.set()
            done.wait(10)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(10)

    def work() -> None:
        fail(breaker)
        Bulkhead(breaker, 1).call(int)
        breaker.control.evaluate()
        CircuitBreaker("new", ledger=breaker.ledger).call(int)

    try:
        assert forked_in_c(work) == 0
    finally:
        done.set()
        thread.join()


def test_fork_in_a_child_is_detected(breaker: CircuitBreaker) -> None:
    def grandchild() -> None:
        for _ in range(3):
            fail(breaker)
        with pytest.raises(CircuitOpenError):
            breaker.call(int)

    def child() -> None:
        breaker.call(time.sleep, 0.002)
        assert forked_in_c(grandchild) == 0

    breaker.call(int)
    assert forked_in_c(child) == 0
    assert breaker.state is State.OPEN


def test_role_of_the_parent_is_not_the_childs(breaker: CircuitBreaker) -> None:
    works = threading.Event()

    def audit(stop: threading.Event) -> None:
        works.set()
        stop.wait(10)

    leader = Leader(breaker.ledger, "auditor", audit)
    leader.tick()
    assert works.wait(10)  # a starting thread holds locks of Python itself

    def work() -> None:
        breaker.snapshot()
        assert not breaker.ledger.core.has("auditor")
        assert not breaker.ledger.core.elect("auditor")

    assert forked_in_c(work) == 0
    leader.close()


def test_ledger_in_memory_works_in_the_child() -> None:
    breaker = breaker_in(State.HALF_OPEN, BreakerConfig(max_requests=2, success_threshold=2))
    breaker.call(int)

    def work() -> None:
        breaker.call(int)
        assert breaker.state is State.CLOSED

    assert forked_in_c(work) == 0
    assert breaker.state is State.HALF_OPEN


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_child_forked_while_a_thread_takes_locks_keeps_none_of_them(tmp_path: Path) -> None:
    ledger, done = Ledger.in_file(tmp_path / "l"), threading.Event()

    def take() -> None:
        while not done.is_set():
            for role in ("a", "b", "c"):
                ledger.core.elect(role)
                ledger.core.resign(role)

    thread = threading.Thread(target=take)
    thread.start()
    children = []
    reading, writing = os.pipe()
    for _ in range(100):
        pid = os.fork()
        if pid == 0:
            os.write(writing, b"x")  # its objects are reset
            time.sleep(20)
            os._exit(0)
        children.append(pid)
        os.read(reading, 1)
    done.set()
    thread.join()
    try:
        other = Ledger.in_file(tmp_path / "l")
        assert [other.core.elect(role) for role in ("a", "b", "c")] == [True] * 3
    finally:
        for pid in children:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def test_limits_and_stores_are_reset_in_the_child() -> None:
    budget, store = RetryBudget(), MemoryStore()
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with budget._lock, store._lock:  # noqa: SLF001 - as a thread between two steps
            held.set()
            done.wait(10)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(10)

    def work() -> None:
        budget.record_call()
        store.put("key", b"value", 0)

    try:
        assert forked_in_c(work) == 0
    finally:
        done.set()
        thread.join()
