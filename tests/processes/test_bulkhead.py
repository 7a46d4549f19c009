"""A bulkhead between real processes: the limit holds when processes are killed or stopped. docs/rules.md, rule 25."""

import mmap
import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from fcntl import LOCK_EX, flock
from pathlib import Path

import pytest

from cb import BreakerConfig, Bulkhead, BulkheadFullError, CircuitBreaker, Ledger
from cb.testing import workers
from tests.support.waiting import until

pytestmark = pytest.mark.quiet

LIMIT, THREADS = 5, 8
#: the calls of killed processes are failures, and must not open the circuit here
CONFIG = BreakerConfig(failure_threshold=1000, minimum_requests=1000)


def bulkhead_of(directory: Path, limit: int = LIMIT, wait: float = 0.0) -> Bulkhead:
    return Bulkhead(CircuitBreaker("d", CONFIG, ledger=Ledger.in_file(directory / "l")), limit, wait)


class Gauge:
    """Number of calls that run now, and the most that ran at once, in all processes that use the file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with path.open("a+b") as file:
            file.truncate(16)
            self._cells = memoryview(mmap.mmap(file.fileno(), 16)).cast("q")

    def step(self, change: int) -> None:
        with self._path.open("rb") as file:
            flock(file, LOCK_EX)
            self._cells[0] += change
            self._cells[1] = max(self._cells)

    @property
    def most(self) -> int:
        return self._cells[1]


def hammer(directory: Path, calls: int, wait: float) -> tuple[int, int]:
    """Call from many threads. Return how many calls ran, and how many were refused."""
    bulkhead, gauge = bulkhead_of(directory, wait=wait), Gauge(directory / "gauge")
    pause = threading.Event()

    def work() -> None:
        gauge.step(1)
        pause.wait(0.002)
        gauge.step(-1)

    def run(_: int) -> bool:
        try:
            bulkhead.call(work)
        except BulkheadFullError:
            return False
        return True

    with ThreadPoolExecutor(THREADS) as pool:
        ran = sum(pool.map(run, range(calls)))
    return ran, calls - ran


def call_again_and_again(directory: Path, end: float) -> list[int]:
    """Call from many threads without a pause until then. Return how many calls each thread made."""
    bulkhead, pause, made = bulkhead_of(directory, wait=60), threading.Event(), [0] * THREADS

    def run(thread: int) -> None:
        while time.monotonic() < end:
            bulkhead.call(pause.wait, 0.005)
            made[thread] += 1

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(run, range(THREADS)))
    return made


def fill(directory: Path) -> int:
    """Take all slots that there are, for good. Return how many."""
    bulkhead, held = bulkhead_of(directory), 0
    try:
        while True:
            KEPT.append(bulkhead.begin())
            held += 1
    except BulkheadFullError:
        return held


KEPT: list[object] = []


def passes(bulkhead: Bulkhead) -> bool:
    try:
        return bulkhead.call(int) == 0
    except BulkheadFullError:
        return False


@pytest.mark.parametrize("wait", [0.0, 0.02])
def test_32_threads_of_four_processes_never_run_more_than_the_limit_and_reach_it(tmp_path: Path, wait: float) -> None:
    with workers(4) as processes, ThreadPoolExecutor() as pool:
        counts = [pool.submit(worker.call, hammer, tmp_path, 200, wait) for worker in processes]
        ran, refused = map(sum, zip(*(each.result() for each in counts), strict=True))
    totals = bulkhead_of(tmp_path).breaker.snapshot().totals
    assert Gauge(tmp_path / "gauge").most == LIMIT
    assert (totals.successes, totals.full, totals.requests) == (ran, refused, ran)


def test_200_calls_that_wait_all_get_through_in_each_of_four_processes(tmp_path: Path) -> None:
    with workers(4) as processes, ThreadPoolExecutor() as pool:
        counts = [pool.submit(worker.call, hammer, tmp_path, 50, 60.0) for worker in processes]
        assert [each.result() for each in counts] == [(50, 0)] * 4
    assert Gauge(tmp_path / "gauge").most == LIMIT


def test_no_thread_and_no_process_keeps_the_slots_to_itself(tmp_path: Path) -> None:
    with workers(4) as processes, ThreadPoolExecutor() as pool:
        for worker in processes:
            worker.call(call_again_and_again, tmp_path, 0.0)  # it has started, and knows this module
        made = [pool.submit(w.call, call_again_and_again, tmp_path, time.monotonic() + 1.5) for w in processes]
        threads = [calls for each in made for calls in each.result()]
    assert min(threads) > sum(threads) / len(threads) / 4


def test_killed_process_that_had_all_slots_frees_them_within_a_second(tmp_path: Path) -> None:
    bulkhead = bulkhead_of(tmp_path)
    with workers(1) as (worker,):
        assert worker.call(fill, tmp_path) == LIMIT
        assert not passes(bulkhead)
        worker.kill()
        until(lambda: passes(bulkhead), seconds=1)


def test_stopped_process_keeps_the_slots_of_its_calls_and_no_other(tmp_path: Path) -> None:
    bulkhead = bulkhead_of(tmp_path, LIMIT + 1)
    with workers(1) as (worker,):
        assert worker.call(fill, tmp_path) == LIMIT
        worker.stop()
        assert passes(bulkhead)
        assert not passes(bulkhead_of(tmp_path))


def stop_with_the_lock(directory: Path) -> None:
    ledger = Ledger.in_file(directory / "l")
    ledger.core.lock.run(lambda: os.kill(os.getpid(), signal.SIGSTOP), 1)


def test_process_that_is_stopped_with_the_lock_of_the_ledger_hinders_no_call(tmp_path: Path) -> None:
    bulkhead = bulkhead_of(tmp_path, 1)
    with workers(1) as (worker,):
        worker.call(fill, tmp_path)
        worker.kill()
    with workers(1) as (worker,):
        worker.send(stop_with_the_lock, tmp_path)
        pid = worker.process.pid
        until(lambda: Path(f"/proc/{pid}/stat").read_text().split()[2] == "T", seconds=20)
        call = bulkhead.begin()
        assert not passes(bulkhead)
        call.succeed()
        assert passes(bulkhead)


@pytest.mark.parametrize("kind", ["memory", "file"])
def test_child_forked_in_a_call_leaves_the_slot_to_its_parent(kind: str, tmp_path: Path) -> None:
    ledger = Ledger.in_memory() if kind == "memory" else Ledger.in_file(tmp_path / "l")
    bulkhead = Bulkhead(CircuitBreaker("d", ledger=ledger), 1)
    with bulkhead:
        pid = os.fork()
        if pid == 0:
            signal.alarm(10)
            # Of a ledger in memory the child has its own; the file it shares.
            os._exit(passes(bulkhead) is not (kind == "memory"))
        assert os.waitpid(pid, 0)[1] == 0
        assert not passes(bulkhead)
    assert passes(bulkhead)


def test_child_that_ends_the_call_of_its_parent_frees_nothing(tmp_path: Path) -> None:
    bulkhead = bulkhead_of(tmp_path, 1)
    call = bulkhead.begin()
    pid = os.fork()
    if pid == 0:
        call.succeed()
        os._exit(passes(bulkhead))
    assert os.waitpid(pid, 0)[1] == 0
    assert not passes(bulkhead)
    call.succeed()
    assert passes(bulkhead)


def test_forks_while_threads_take_and_wait_hang_no_child(tmp_path: Path) -> None:
    bulkhead, over = bulkhead_of(tmp_path, 2, wait=60), threading.Event()

    def call_on() -> None:
        while not over.is_set():
            bulkhead.call(int)

    threads = [threading.Thread(target=call_on) for _ in range(6)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(50):
            pid = os.fork()
            if pid == 0:
                signal.alarm(20)
                os._exit(bulkhead.call(int))
            assert os.waitpid(pid, 0)[1] == 0
    finally:
        over.set()
        for thread in threads:
            thread.join()
