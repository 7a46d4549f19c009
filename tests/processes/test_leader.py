"""One process of a host leads, and another takes over when it ends for any reason."""

import logging
import multiprocessing
import os
import select
import signal
import threading
from collections.abc import Iterator
from multiprocessing.context import ForkProcess
from pathlib import Path

import pytest

from cb import Ledger
from cb.background.leader import Leader
from tests.support.failing import cannot_start

pytestmark = pytest.mark.quiet

_fork = multiprocessing.get_context("fork")


class Workers:
    """Processes with one leader; each reports the start and the end of its work."""

    def __init__(self, path: Path) -> None:
        self._path = path
        # A pipe and not a queue: a killed process may hold the lock of a queue.
        reader, self._writer = os.pipe()
        self._reports = os.fdopen(reader)
        self.processes: list[ForkProcess] = []

    def start(self, count: int) -> None:
        for _ in range(count):
            process = _fork.Process(target=self._serve)
            process.start()
            self.processes.append(process)

    def _serve(self) -> None:
        def work(stop: threading.Event) -> None:
            self._report("begins")
            stop.wait()
            self._report("ends")

        leader = Leader(Ledger.in_file(self._path), "work", work)
        signal.signal(signal.SIGTERM, lambda *_: done.set())
        done = threading.Event()
        while not done.wait(0.05):
            leader.tick()
        leader.close()

    def _report(self, what: str) -> None:
        os.write(self._writer, f"{what} {os.getpid()}\n".encode())

    def next(self) -> tuple[str, int]:
        """Wait for the next report. Returns it and the process id."""
        what, pid = self._reports.readline().split()
        return what, int(pid)

    def silent(self, seconds: float) -> bool:
        """Return True if there is no report for that many seconds."""
        poll = select.poll()  # not select, which takes no descriptor above 1023
        poll.register(self._reports, select.POLLIN)
        return not poll.poll(seconds * 1000)

    def close(self) -> None:
        for process in self.processes:
            process.kill()
            process.join()
        os.close(self._writer)
        self._reports.close()

    def of(self, pid: int) -> ForkProcess:
        return next(each for each in self.processes if each.pid == pid)


@pytest.fixture
def workers(tmp_path: Path) -> Iterator[Workers]:
    made = Workers(tmp_path / "l")
    try:
        made.start(4)
        yield made
    finally:
        made.close()


def test_one_of_many_processes_leads(workers: Workers) -> None:
    assert workers.next()[0] == "begins"

    assert workers.silent(0.5)


def test_killed_process_is_followed_by_another(workers: Workers) -> None:
    _, first = workers.next()

    os.kill(first, signal.SIGKILL)

    what, second = workers.next()
    assert (what, second == first) == ("begins", False)


def test_process_that_ends_finishes_its_work_before_another_begins(workers: Workers) -> None:
    _, first = workers.next()

    os.kill(first, signal.SIGTERM)

    assert workers.next() == ("ends", first)
    assert workers.next()[0] == "begins"
    workers.of(first).join(5)
    assert workers.of(first).exitcode == 0


def test_failed_work_is_logged_and_repeated(caplog: pytest.LogCaptureFixture) -> None:
    begun = threading.Semaphore(0)

    def work(stop: threading.Event) -> None:
        begun.release()
        if len(caplog.records) < 1:
            raise ArithmeticError("odd")
        stop.wait()

    with caplog.at_level(logging.ERROR):
        leader = Leader(Ledger.in_memory(), "work", work)
        leader.tick()
        assert begun.acquire(timeout=5)
        assert begun.acquire(timeout=5)
        leader.close()

    assert [record.getMessage() for record in caplog.records] == ["work failed"]


def test_closed_leader_does_not_lead_again() -> None:
    ledger, begun = Ledger.in_memory(), threading.Event()
    leader = Leader(ledger, "work", lambda _: begun.set())
    leader.close()

    leader.tick()

    assert not begun.wait(0.1)


def test_two_leaders_of_one_ledger_do_not_wait_for_each_other() -> None:
    ledger, both = Ledger.in_memory(), threading.Barrier(3)

    def work(stop: threading.Event) -> None:
        both.wait(5)
        stop.wait()

    leaders = [Leader(ledger, role, work) for role in ("one", "other")]
    for leader in leaders:
        leader.tick()

    both.wait(5)
    for leader in leaders:
        leader.close()


def test_role_kept_by_a_thread_that_ended_is_given_up_by_its_leader() -> None:
    begun, cut = threading.Event(), threading.Event()

    class Cut(Leader):
        """Is cut off, by an exception that another thread sets, before it gives its role up."""

        def _run(self, stop: threading.Event) -> None:
            if cut.is_set():
                super()._run(stop)
            cut.set()

    leader = Cut(Ledger.in_memory(), "work", lambda stop: (begun.set(), stop.wait()))
    leader.tick()
    assert cut.wait(5)
    while leader._thread.is_alive():  # type: ignore[union-attr]  # noqa: SLF001 - it has started
        pass

    leader.tick()

    assert begun.wait(5)
    leader.close()


def test_leader_without_thread_is_logged_once_and_works_once_it_has_one(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    begun = threading.Event()
    leader = Leader(Ledger.in_memory(), "work", lambda stop: (begun.set(), stop.wait()))
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", cannot_start)
        for _ in range(3):
            leader.tick()
    told = [record.getMessage() for record in caplog.records]
    assert told == ["work is not done, its thread cannot start: can't start new thread"]

    leader.tick()

    assert begun.wait(5)
    leader.close()


def test_leader_of_an_unshared_ledger_resigns_to_the_leader_in_the_file(
    tmp_path: Path,
) -> None:
    (tmp_path / "l").mkdir()
    ledger, begun = Ledger.open(f"file://{tmp_path}/l"), threading.Semaphore(0)

    def work(stop: threading.Event) -> None:
        begun.release()
        stop.wait()

    leader = Leader(ledger, "work", work)
    leader.tick()
    assert begun.acquire(timeout=5)
    (tmp_path / "l").rmdir()
    other = Ledger.in_file(tmp_path / "l")
    assert other.core.elect("work")
    ledger.core.retry_open(0)
    leader.tick()
    for thread in threading.enumerate():
        if thread.name == "cb-work":
            thread.join(5)
    leader.tick()
    assert not begun.acquire(timeout=0.1)
    other.core.resign("work")
    leader.tick()
    assert begun.acquire(timeout=5)
    leader.close()
