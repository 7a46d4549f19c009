"""Reset of objects in forked children, even if the reset of others fails."""

import os
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from cb import BreakerConfig, CircuitBreaker, Ledger, State
from cb.background.fork import register_fork_reset
from cb.ledger import layout as at
from cb.testing import FakeClock

claim = pytest.importorskip("cb.ledger.locks", reason="POSIX").claim
#: one probe decides
ONE = BreakerConfig(failure_threshold=1, max_requests=1, timeout=10, timeout_jitter=0)

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="POSIX processes: run on Linux or macOS")


class Resettable:
    """Counts its resets. It raises `error` at the first `times` of them."""

    def __init__(self, error: BaseException | None = None, *, times: int = 9) -> None:
        self.resets = 0
        self.error = error
        self.times = times
        register_fork_reset(self)

    def reset_after_fork(self) -> None:
        self.resets += 1
        if self.error and self.resets <= self.times:
            raise self.error


def test_all_objects_are_reset_in_the_child_and_none_in_the_parent() -> None:
    interrupted = [Resettable(KeyboardInterrupt()), Resettable(KeyboardInterrupt(), times=1)]
    objects = [Resettable(), Resettable(ArithmeticError()), Resettable()]

    child = os.fork()
    if not child:
        tries = [each.resets for each in interrupted]
        os._exit([each.resets for each in objects] != [1] * 3 or tries != [3, 2])

    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert [each.resets for each in (*objects, *interrupted)] == [0] * 5


def test_deleted_object_is_not_reset() -> None:
    seen = []
    gone = Resettable()
    gone.reset_after_fork = lambda: seen.append(1)  # type: ignore[method-assign]  # visible after it is deleted
    del gone

    child = os.fork()
    if not child:
        os._exit(len(seen))

    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_fork_as_the_guarded_call_is_counted_once_and_the_child_counts_its_own(tmp_path: Path) -> None:
    breaker = CircuitBreaker("d", BreakerConfig(failure_threshold=1), ledger=Ledger.in_file(tmp_path / "l"))
    pid = breaker.call(os.fork)
    if pid == 0:
        with suppress(ZeroDivisionError):
            breaker.call(divmod, 1, 0)
        os._exit(0)
    os.waitpid(pid, 0)
    totals = breaker.snapshot().totals
    assert (totals.successes, totals.failures, breaker.snapshot().in_flight) == (1, 1, 0)
    assert breaker.state is State.OPEN


def test_forked_child_of_a_process_without_a_shard_counts_its_own_calls_only(tmp_path: Path) -> None:
    with ExitStack() as stack:
        Ledger.in_file(tmp_path / "l")
        for shard in range(at.SHARDS):
            file = claim(f"{tmp_path}/l.locks/{shard}")
            assert file is not None
            stack.callback(file.close)
        breaker = CircuitBreaker("d", ledger=Ledger.in_file(tmp_path / "l"))
        pid = breaker.call(os.fork)
        if pid == 0:
            breaker.call(int)
            os._exit(0)
        os.waitpid(pid, 0)
        assert breaker.snapshot().totals.successes == 2


def test_permits_of_calls_that_go_on_in_the_parent_are_free_in_a_forked_child() -> None:
    clock = FakeClock()
    breaker = CircuitBreaker("d", ONE, clock=clock)
    breaker.control.force_open(reason="test", duration=1)
    clock.advance(1)
    with breaker:
        pid = os.fork()
        if pid == 0:
            breaker.call(int)  # the only permit is out in the parent
            os._exit(breaker.state is not State.CLOSED)
        assert os.waitpid(pid, 0)[1] == 0
