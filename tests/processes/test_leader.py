"""One process of a host does a duty, and another takes over when that one ends, however it ends."""

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

pytestmark = pytest.mark.quiet

_fork = multiprocessing.get_context("fork")


class Workers:
    """Processes that share a duty; each tells when it begins and ends it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        # A pipe and no queue: a process that is killed may have the lock of a queue.
        reader, self._writer = os.pipe()
        self._news = os.fdopen(reader)
        self.processes: list[ForkProcess] = []

    def start(self, count: int) -> None:
        for _ in range(count):
            process = _fork.Process(target=self._serve)
            process.start()
            self.processes.append(process)

    def _serve(self) -> None:
        def work(stop: threading.Event) -> None:
            self._tell("begins")
            stop.wait()
            self._tell("ends")

        duty = Leader(Ledger.in_file(self._path), "work", work)
        signal.signal(signal.SIGTERM, lambda *_: done.set())
        done = threading.Event()
        while not done.wait(0.05):
            duty.tick()
        duty.close()

    def _tell(self, what: str) -> None:
        os.write(self._writer, f"{what} {os.getpid()}\n".encode())

    def next(self) -> tuple[str, int]:
        """Wait for news: what a process does, and which."""
        what, pid = self._news.readline().split()
        return what, int(pid)

    def silent(self, seconds: float) -> bool:
        """Return whether there is no news for so long."""
        poll = select.poll()  # not select, which takes no descriptor above 1023
        poll.register(self._news, select.POLLIN)
        return not poll.poll(seconds * 1000)

    def close(self) -> None:
        for process in self.processes:
            process.kill()
            process.join()
        os.close(self._writer)
        self._news.close()

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


def test_one_of_many_processes_has_the_duty(workers: Workers) -> None:
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


def test_work_that_fails_is_logged_and_begun_again(caplog: pytest.LogCaptureFixture) -> None:
    begun = threading.Semaphore(0)

    def work(stop: threading.Event) -> None:
        begun.release()
        if len(caplog.records) < 1:
            raise ArithmeticError("odd")
        stop.wait()

    with caplog.at_level(logging.ERROR):
        duty = Leader(Ledger.in_memory(), "work", work)
        duty.tick()
        assert begun.acquire(timeout=5)
        assert begun.acquire(timeout=5)
        duty.close()

    assert [record.getMessage() for record in caplog.records] == ["work failed"]


def test_duty_that_was_left_is_not_taken_again() -> None:
    ledger, begun = Ledger.in_memory(), threading.Event()
    duty = Leader(ledger, "work", lambda _: begun.set())
    duty.close()

    duty.tick()

    assert not begun.wait(0.1)


def test_two_duties_of_one_ledger_do_not_wait_for_each_other() -> None:
    ledger, both = Ledger.in_memory(), threading.Barrier(3)

    def work(stop: threading.Event) -> None:
        both.wait(5)
        stop.wait()

    duties = [Leader(ledger, role, work) for role in ("one", "other")]
    for duty in duties:
        duty.tick()

    both.wait(5)
    for duty in duties:
        duty.close()


def test_role_that_a_thread_has_kept_is_left_by_its_duty_for_the_next() -> None:
    begun, cut = threading.Event(), threading.Event()

    class Cut(Leader):
        """Is cut off, by an exception that another thread sets, before it could leave its role."""

        def _run(self, stop: threading.Event) -> None:
            if cut.is_set():
                super()._run(stop)
            cut.set()

    duty = Cut(Ledger.in_memory(), "work", lambda stop: (begun.set(), stop.wait()))
    duty.tick()
    assert cut.wait(5)
    while duty._thread.is_alive():  # type: ignore[union-attr]  # noqa: SLF001 - it is there
        pass

    duty.tick()

    assert begun.wait(5)
    duty.close()


def test_duty_that_can_have_no_thread_says_so_once_and_is_done_once_it_can(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    begun = threading.Event()
    duty = Leader(Ledger.in_memory(), "work", lambda stop: (begun.set(), stop.wait()))
    with monkeypatch.context() as patch:

        def refuse(_: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        patch.setattr(threading.Thread, "start", refuse)
        for _ in range(3):
            duty.tick()
    told = [record.getMessage() for record in caplog.records]
    assert told == ["work is not done, its thread cannot start: can't start new thread"]

    duty.tick()

    assert begun.wait(5)
    duty.close()


def test_duty_of_a_process_whose_ledger_can_be_opened_later_is_left_to_the_process_that_has_it_there(
    tmp_path: Path,
) -> None:
    (tmp_path / "l").mkdir()
    ledger, begun = Ledger.open(f"file://{tmp_path}/l"), threading.Semaphore(0)

    def work(stop: threading.Event) -> None:
        begun.release()
        stop.wait()

    duty = Leader(ledger, "work", work)
    duty.tick()
    assert begun.acquire(timeout=5)
    (tmp_path / "l").rmdir()
    other = Ledger.in_file(tmp_path / "l")
    assert other.core.elect("work")
    ledger.core.retry_open(0)
    duty.tick()
    for thread in threading.enumerate():
        if thread.name == "cb-work":
            thread.join(5)
    duty.tick()
    assert not begun.acquire(timeout=0.1)
    other.core.resign("work")
    duty.tick()
    assert begun.acquire(timeout=5)
    duty.close()
