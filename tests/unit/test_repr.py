"""The `repr` of everything that a debugger shows of a ledger and of background work."""

import threading
from pathlib import Path

from cb import CircuitBreaker, Ledger
from cb.background.leader import Leader
from cb.background.watchdog import Watchdog
from cb.breaker import admission_of
from cb.ledger import layout as at
from cb.ledger.counters import Counters, SharedCounters, private_cells
from cb.ledger.locks import FileLock, FilePermit
from cb.ledger.memory import ThreadLock
from cb.ledger.semaphore import Semaphore
from cb.testing import FakeClock


def test_record_shows_name_and_state_and_its_counters_the_generation() -> None:
    breaker = CircuitBreaker("shop", clock=FakeClock())
    record = admission_of(breaker).circuit.record
    assert repr(record) == "<Record 0 'shop' CLOSED of memory>"
    breaker.call(int)
    (counters,) = record.idle
    assert repr(counters) == "<PooledCounters CLOSED, generation 1>"


def test_counters_show_the_admission_of_their_call_or_that_they_are_idle() -> None:
    counters = Counters(private_cells(at.STRIPE_CELLS), private_cells(at.PAGE))
    assert repr(SharedCounters(counters)) == "<SharedCounters of <Counters idle>>"
    counters.word = 0  # as in a record that has not changed its state
    assert repr(counters) == "<Counters CLOSED, generation 0>"


def test_semaphore_shows_permits_and_waiting_calls() -> None:
    breaker = CircuitBreaker("shop")
    semaphore: Semaphore = admission_of(breaker).circuit.record.semaphore
    permit = semaphore.take(3)
    with semaphore.wait_in_queue():
        assert repr(semaphore) == "<Semaphore, permits taken: 1, calls waiting: 1>"
    assert repr(permit) == "<Permit 0>"


def test_locks_show_their_file_and_if_they_are_held(tmp_path: Path) -> None:
    path = f"{tmp_path}/lock"
    lock = FileLock(path)
    assert repr(lock) == f"<FileLock {path} free in this process>"
    assert lock.run(lambda: repr(lock), 1) == f"<FileLock {path} held in this process>"
    assert repr(FilePermit(0, path)) == f"<FilePermit {path}>"
    thread_lock = ThreadLock()
    assert (repr(thread_lock), thread_lock.run(lambda: repr(thread_lock), 1)) == (
        "<ThreadLock free>",
        "<ThreadLock held>",
    )


def test_leader_shows_its_role_and_if_it_leads() -> None:
    with Leader(Ledger.in_memory(), "audit", threading.Event.wait) as leader:
        assert repr(leader) == "<Leader 'audit' following>"
        leader.tick()
        assert repr(leader) == "<Leader 'audit' leading>"
    assert repr(leader) == "<Leader 'audit' closed>"


def test_watchdog_shows_the_number_of_objects() -> None:
    class Nothing:
        def tick(self) -> None: ...

    watchdog, kept = Watchdog(), Nothing()
    watchdog.add(kept)
    assert repr(watchdog) == "<Watchdog, objects: 1, stopped>"
