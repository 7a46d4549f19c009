"""Real processes on one ledger file. docs/rules.md, rules 9, 10, 12 and 13."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from cb import BreakerConfig, CircuitBreaker, CircuitOpenError, Ledger, Registry, State
from cb.breaker import admission_of
from cb.ledger import layout as at
from cb.state import machine as circuit
from cb.testing import FakeClock
from tests.support.failing import fail

pytestmark = [
    pytest.mark.quiet,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="POSIX processes; Windows has memory:// only"),
]
CONFIG = BreakerConfig(failure_threshold=5, failure_rate_threshold=None, timeout=60)

WORKER = """
import sys
from cb import BreakerConfig, CircuitBreaker, CircuitOpenError, Ledger

config = BreakerConfig(failure_threshold=5, failure_rate_threshold=None)
breaker = CircuitBreaker("d", config, ledger=Ledger.in_file(sys.argv[1]))
for line in sys.stdin:
    try:
        print(breaker.call(divmod, 1, int(line)), flush=True)
    except (ZeroDivisionError, CircuitOpenError) as error:
        print(type(error).__name__, flush=True)
"""


class Worker:
    """A process that calls through the breaker on request."""

    def __init__(self, path: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", WORKER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def call(self, divisor: int) -> str:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(f"{divisor}\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()


@pytest.fixture
def workers(tmp_path: Path) -> Iterator[list[Worker]]:
    made = [Worker(tmp_path / "l") for _ in range(4)]
    yield made
    for worker in made:
        worker.process.kill()
        worker.process.communicate()


def _in_child(work: Callable[[], None]) -> int:
    """Run a function in a forked child. Return the exit code, 14 if it hung."""
    pid = os.fork()
    if pid == 0:
        signal.alarm(10)
        try:
            work()
            os._exit(0)
        except BaseException:  # noqa: BLE001 - a forked child must never return into pytest
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_circuit_opened_by_one_of_four_workers_rejects_the_next_call_of_each(workers: list[Worker]) -> None:
    assert [worker.call(1) for worker in workers] == ["(1, 0)"] * 4
    assert [workers[0].call(0) for _ in range(5)] == ["ZeroDivisionError"] * 5
    assert [worker.call(1) for worker in workers] == ["CircuitOpenError"] * 4


def test_one_failure_in_each_of_four_workers_opens_the_circuit(workers: list[Worker]) -> None:
    assert [worker.call(0) for worker in [*workers, workers[0]]] == ["ZeroDivisionError"] * 5
    assert [worker.call(1) for worker in workers] == ["CircuitOpenError"] * 4


def test_killed_worker_leaves_its_counts_and_its_successor_continues(workers: list[Worker], tmp_path: Path) -> None:
    breaker = CircuitBreaker("d", CONFIG, ledger=Ledger.in_file(tmp_path / "l"))
    for worker in workers:
        worker.call(1)
    assert breaker.ledger.workers() == 4
    workers[1].process.kill()
    workers[1].process.wait()
    assert breaker.ledger.workers() == 3
    assert breaker.snapshot().totals.successes == 4
    successor = Worker(tmp_path / "l")
    workers.append(successor)
    successor.call(1)
    assert (breaker.ledger.workers(), breaker.snapshot().totals.successes) == (4, 5)


@pytest.mark.parametrize("kind", ["memory", "file"])
def test_breaker_created_and_used_before_fork_works_in_the_children(kind: str, tmp_path: Path) -> None:
    ledger = Ledger.in_memory() if kind == "memory" else Ledger.in_file(tmp_path / "l")
    breaker = CircuitBreaker("d", CONFIG, ledger=ledger)
    breaker.call(int)

    def work() -> None:
        assert breaker.call(int) == 0
        for _ in range(5):
            with pytest.raises(ZeroDivisionError):
                breaker.call(divmod, 1, 0)
        with pytest.raises(CircuitOpenError):
            breaker.call(int)

    assert _in_child(work) == 0
    assert breaker.state is (State.OPEN if kind == "file" else State.CLOSED)
    assert breaker.snapshot().totals.successes == (2 if kind == "file" else 1)


def test_breaker_forked_inside_a_call_counts_it_once_in_the_parent(tmp_path: Path) -> None:
    breaker = CircuitBreaker("d", CONFIG, ledger=Ledger.in_file(tmp_path / "l"))

    def fork_in_a_call() -> None:
        assert breaker.call(lambda: _in_child(lambda: breaker.call(int))) == 0

    fork_in_a_call()
    snapshot = breaker.snapshot()
    assert (snapshot.totals.successes, snapshot.in_flight) == (2, 0)


def test_child_that_ends_calls_of_its_parent_counts_none_of_them(tmp_path: Path) -> None:
    breaker = CircuitBreaker("d", CONFIG, ledger=Ledger.in_file(tmp_path / "l"))
    with ExitStack() as calls:
        for _ in range(500):  # more than the stripes of a host
            calls.enter_context(breaker)
        assert _in_child(calls.close) == 0
        assert breaker.snapshot().totals.requests == 0
    assert breaker.snapshot().totals.requests == 500


def test_breaker_forked_while_its_lock_is_held_does_not_hang_in_the_child(tmp_path: Path) -> None:
    breaker = CircuitBreaker("d", CONFIG, ledger=Ledger.in_file(tmp_path / "l"))
    # The child must not inherit the lock: its failures count, but only the parent may now change the state.
    assert breaker.ledger.core.lock.run(lambda: _in_child(lambda: _fail(breaker, 5)), timeout=1) == 0
    assert breaker.state is State.CLOSED
    with pytest.raises(CircuitOpenError):
        breaker.call(int)


def test_sibling_stopped_while_it_holds_the_lock_delays_no_call_for_long(tmp_path: Path) -> None:
    path = tmp_path / "l"
    breaker = CircuitBreaker("d", CONFIG, ledger=Ledger.in_file(path))
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys, cb; cb.Ledger.in_file(sys.argv[1]).core.lock.run(lambda: (print(1, flush=True), input()), 1)",
            str(path),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert holder.stdout and holder.stdout.readline()
        holder.send_signal(signal.SIGSTOP)
        for _ in range(5):
            begin = time.monotonic()
            _fail(breaker, 1)
            assert time.monotonic() - begin < 0.1
        assert breaker.state is State.CLOSED
    finally:
        holder.kill()
        holder.communicate()
    _fail(breaker, 1)
    assert breaker.state is State.OPEN


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("forks", [100, pytest.param(1000, marks=pytest.mark.nightly)])
def test_forks_during_calls_of_threads_hang_no_child(tmp_path: Path, forks: int) -> None:
    breaker = CircuitBreaker("d", CONFIG, ledger=Ledger.in_file(tmp_path / "l"))
    done = threading.Event()

    def work() -> None:
        while not done.wait(0.0005):
            breaker.call(int)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        assert {_in_child(lambda: breaker.call(int) and None) for _ in range(forks)} == {0}
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert breaker.snapshot().in_flight == 0


def _fail(breaker: CircuitBreaker, times: int) -> None:
    for _ in range(times):
        with pytest.raises(ZeroDivisionError):
            breaker.call(divmod, 1, 0)


def has_pending_counts(breaker: CircuitBreaker) -> bool:
    """Return True if this process has counts that are not in the ledger yet."""
    record = admission_of(breaker).circuit.record
    pending = record.pages(own=True)[len(record.pages()) :]
    return any(any(page[at.STRIPES_START + at.FULL :].tolist()) for page in pending)


def test_more_processes_than_shards_all_count_and_open_one_circuit(tmp_path: Path) -> None:
    go, ready = os.pipe(), os.pipe()
    pids = []
    config = BreakerConfig(failure_threshold=None, failure_rate_threshold=0.5, minimum_requests=300)

    def make() -> CircuitBreaker:
        return CircuitBreaker("d", config, ledger=Ledger.in_file(tmp_path / "l"))

    here = make()
    for _ in range(75):
        pid = os.fork()
        if pid == 0:
            os.close(go[1])
            breaker = make()
            for _ in range(3):
                breaker.call(int)
            os.write(ready[1], b".")
            os.read(go[0], 1)  # until the parent closes it: all run at the same time
            with suppress(ZeroDivisionError, CircuitOpenError):
                while True:
                    with suppress(ZeroDivisionError):
                        breaker.call(divmod, 1, 0)
            end = time.monotonic() + 20
            while has_pending_counts(breaker) and time.monotonic() < end:
                breaker.control.evaluate()  # adds them, if the lock is free
            os._exit(0)
        pids.append(pid)
    for _ in pids:
        os.read(ready[0], 1)
    workers = here.ledger.workers()
    for end in go:
        os.close(end)
    for pid in pids:
        os.waitpid(pid, 0)
    totals = here.snapshot().totals
    assert workers == 63
    assert totals.successes == 225
    assert here.state is State.OPEN
    assert totals.rejected == 75


RATE = BreakerConfig(failure_threshold=None, failure_rate_threshold=0.6, minimum_requests=5)


def test_process_killed_while_it_evaluates_lets_a_success_complete_the_minimum(
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


def test_process_stopped_while_it_evaluates_lets_a_success_end_a_streak(
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


def test_lock_held_by_a_stopped_process_does_not_keep_a_service_from_a_new_breaker(tmp_path: Path) -> None:
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
