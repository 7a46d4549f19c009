"""A breaker must never be the outage: what goes wrong around it, and what a caller then sees."""

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from cb import BreakerConfig, CircuitBreaker, Ledger, LedgerError, State
from cb.ledger import layout as at
from cb.ledger.locks import LockFile, claim
from cb.testing import FakeClock, breaker_in, workers

pytestmark = pytest.mark.quiet

ONE = BreakerConfig(failure_threshold=1, timeout=1, timeout_jitter=0, max_requests=1, success_threshold=1)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def breaker(tmp_path: Path, clock: FakeClock) -> CircuitBreaker:
    return CircuitBreaker("d", ONE, ledger=Ledger.in_file(tmp_path / "l"), clock=clock)


@pytest.fixture
def full(tmp_path: Path, breaker: CircuitBreaker) -> Iterator[list[LockFile]]:
    """Let others own every block of the ledger."""
    held = [claim(f"{tmp_path}/l.locks/{block}") for block in range(at.SHARDS)]
    owned = [file for file in held if file is not None]
    yield owned
    for file in owned:
        file.close()


def test_lock_files_that_vanish_cost_no_call(tmp_path: Path, breaker: CircuitBreaker) -> None:
    shutil.rmtree(tmp_path / "l.locks")
    assert breaker.call(int) == 0
    with pytest.raises(ZeroDivisionError):
        breaker.call(divmod, 1, 0)


def test_process_without_a_block_is_a_probe_and_has_its_own_block_when_one_is_free(
    breaker: CircuitBreaker, full: list[LockFile], clock: FakeClock
) -> None:
    breaker.control.force_open(reason="test", duration=1)
    clock.advance(1)
    assert breaker.call(int) == 0
    assert breaker.state is State.CLOSED
    while full:
        full.pop().close()
    clock.advance(1)
    with breaker:
        assert breaker.snapshot().in_flight == 1


def test_fork_as_the_guarded_call_is_counted_once_and_the_child_counts_its_own(breaker: CircuitBreaker) -> None:
    pid = breaker.call(os.fork)
    if pid == 0:
        with suppress(ZeroDivisionError):
            breaker.call(divmod, 1, 0)
        os._exit(0)
    os.waitpid(pid, 0)
    totals = breaker.snapshot().totals
    assert (totals.successes, totals.failures, breaker.snapshot().in_flight) == (1, 1, 0)
    assert breaker.state is State.OPEN


class Misbehaving(Exception):
    @property
    def retry_after(self) -> float:
        raise LookupError("no such header")


def test_exception_whose_attributes_fail_reaches_the_caller_as_it_is(breaker: CircuitBreaker) -> None:
    def fail() -> None:
        raise Misbehaving

    with pytest.raises(Misbehaving):
        breaker.call(fail)
    assert breaker.state is State.OPEN


def test_blocks_of_two_generators_of_a_thread_end_each_with_its_own_time(
    breaker: CircuitBreaker, clock: FakeClock
) -> None:
    def guard(error: Exception | None) -> Iterator[None]:
        with suppress(ZeroDivisionError), breaker:
            yield
            if error:
                raise error

    first, second = guard(None), guard(ZeroDivisionError())
    next(first)
    clock.advance(3)
    next(second)
    next(first, None)
    assert breaker.snapshot().totals.slow == 1
    assert breaker.state is State.CLOSED
    next(second, None)
    assert breaker.snapshot().totals.slow == 1
    assert breaker.state is State.OPEN


def test_block_of_a_generator_that_ends_in_another_thread_is_counted(breaker: CircuitBreaker) -> None:
    def guard() -> Iterator[None]:
        with breaker:
            yield

    block = guard()
    next(block)
    thread = threading.Thread(target=lambda: next(block, None))
    thread.start()
    thread.join()
    assert breaker.snapshot().totals.successes == 1
    assert breaker.snapshot().in_flight == 0


def test_function_that_works_after_its_call_has_returned_is_refused(breaker: CircuitBreaker) -> None:
    async def fetch() -> None: ...

    with pytest.raises(TypeError, match="does its work after the call has returned"):
        breaker.call(fetch)
    assert breaker.snapshot().totals.requests == 0


def test_signal_handler_that_calls_within_a_change_of_state_waits_for_nobody(breaker: CircuitBreaker) -> None:
    def interrupted() -> None:
        with pytest.raises(ZeroDivisionError):
            breaker.call(divmod, 1, 0)

    breaker.ledger.core.lock.run(interrupted, timeout=1)
    assert breaker.state is State.CLOSED
    breaker.control.evaluate()
    assert breaker.state is State.OPEN


def test_locks_in_a_directory_that_others_may_write_to_are_refused(tmp_path: Path) -> None:
    (tmp_path / "l.locks").mkdir()
    (tmp_path / "l.locks").chmod(0o777)
    with pytest.raises(LedgerError, match="this user alone"):
        Ledger.in_file(tmp_path / "l")


def test_permits_of_calls_that_go_on_in_the_parent_are_no_loss_to_a_forked_child(clock: FakeClock) -> None:
    breaker = CircuitBreaker("d", ONE, clock=clock)
    breaker.control.force_open(reason="test", duration=1)
    clock.advance(1)
    with breaker:
        pid = os.fork()
        if pid == 0:
            breaker.call(int)  # the only permit is out in the parent
            os._exit(breaker.state is not State.CLOSED)
        assert os.waitpid(pid, 0)[1] == 0


def test_reason_that_is_no_text_is_written_as_well_as_it_can_be(breaker: CircuitBreaker) -> None:
    breaker.control.force_open(reason="\ud800", author="alice")
    assert breaker.explain() == "forced open: ? (by alice); until reset"


def test_totals_never_seem_to_go_back_while_calls_fail() -> None:
    breaker = CircuitBreaker("d", BreakerConfig(failure_threshold=None, failure_rate_threshold=1.0))
    for _ in range(100):
        breaker.call(int)
    done = threading.Event()

    def fail() -> None:
        while not done.is_set():
            with suppress(ZeroDivisionError):
                breaker.call(divmod, 1, 0)

    thread = threading.Thread(target=fail)
    thread.start()
    seen = [breaker.snapshot().totals for _ in range(2000)]
    done.set()
    thread.join()
    assert {totals.successes for totals in seen} == {100}
    assert [totals.requests for totals in seen] == sorted(totals.requests for totals in seen)


def test_new_interval_forgets_that_no_success_had_to_look(breaker: CircuitBreaker) -> None:
    config = BreakerConfig(failure_threshold=None, failure_rate_threshold=0.5, minimum_requests=3, interval=60)
    breaker = CircuitBreaker("e", config, ledger=breaker.ledger, clock=FakeClock())
    for _ in range(5):
        breaker.call(int)
    breaker.control.configure(interval=50)
    for divisor in (0, 0, 1):
        with suppress(ZeroDivisionError):
            breaker.call(divmod, 1, divisor)
    assert breaker.state is State.OPEN


@pytest.mark.parametrize("size", [10, 4096, 2**28])
def test_file_of_zeros_that_is_no_ledger_is_left_alone(tmp_path: Path, size: int) -> None:
    path = tmp_path / "disk.img"
    path.touch(mode=0o600)
    os.truncate(path, size)
    with pytest.raises(LedgerError, match="is not a ledger"):
        Ledger.in_file(path)
    assert path.stat().st_size == size


def test_watch_goes_on_after_a_listener_that_ends_its_thread() -> None:
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


def test_kit_says_when_a_configuration_does_not_lead_to_a_state() -> None:
    with pytest.raises(ValueError, match="does not reach OPEN"):
        breaker_in(State.OPEN, BreakerConfig(failure_threshold=None, failure_rate_threshold=None, interval=5))


def test_answer_to_what_was_only_sent_is_not_taken_for_that_of_the_next_call() -> None:
    with workers(1) as (worker,):
        worker.send(abs, -1)
        assert worker.call(abs, -2) == 2
